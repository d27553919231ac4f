"""What is done about indexes that waste space and tables that are not kept up, and what proves it."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from flows.decisions.database_upkeep import Limits, choose_analyses, choose_vacuums, share_of_dead
from flows.decisions.index_findings import Examined, find_leftovers, say_why
from flows.decisions.superfluous_indexes import Superfluous
from tasks.records.figures import say_bytes, say_count
from tasks.records.index_care import CareAct, DoneAct, IndexCareFacts, name_index
from tasks.records.indexes import IndexFacts
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK: Final = "optimize-indexes"
_NOTHING_TO_UNDO = "nothing, what is stored stays the same"
Planned = tuple[CareAct, PlannedAct]


class OptimizationPlan(RunbookPlan):
    """The plan, with its acts as the server's adapter takes them."""

    steps: tuple[CareAct, ...]

    @property
    def drops(self) -> bool:
        """Whether it drops an index that works: a person has to agree to that."""
        return any(step.kind == "drop" for step in self.steps)


def plan_optimization(
    profile: ServiceProfile, examined: Examined, limits: Limits, *, drop_unused: bool
) -> OptimizationPlan:
    """Given what was found, return the acts that pay, in their order."""
    facts, going = examined.facts, examined.superfluous if drop_unused else ()
    planned = (
        *map(_plan_removal, find_leftovers(facts)),
        *(_plan_drop(found, facts.counted_by) for found in going),
        *_plan_vacuums(facts, limits),
        *_plan_rebuilds(facts, {name_index(found.index) for found in going}, limits),
        *_plan_compacts(facts, limits),
    )
    steps = tuple(step for step, _ in planned)
    size = say_bytes(sum(index.bytes for index in facts.indexes))
    return OptimizationPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=(
            f"Of {say_count(len(facts.indexes), 'index', 'indexes')} ({size}) and what they belong to, "
            f"{say_count(len(steps), 'act')} of care. The application runs on: a lock is waited for at most "
            f"a minute. While an index is rebuilt, it takes its size once more.{_say_away(facts)}"
        ),
        acts=tuple(act for _, act in planned),
        rests_on=_rest_on(steps, examined),
        steps=steps,
    )


def rest_now(plan: OptimizationPlan, examined: Examined) -> OptimizationPlan:
    """Return the same plan, resting on what is there now."""
    return plan.model_copy(update={"rests_on": _rest_on(plan.steps, examined)})


def find_unproven(done: Sequence[DoneAct], facts: IndexCareFacts) -> Iterator[str]:
    """Given fresh facts, yield a sentence for each act that failed or is not seen to have worked."""
    for one in done:
        act, index = one.act, facts.find(one.act.key)
        if one.problem:
            yield one.problem
        elif act.kind in {"remove", "drop"} and index is not None:
            yield f"{act.key} was dropped and is still there."
        elif act.kind == "rebuild" and (index is None or not index.is_valid):
            yield f"{act.key} was rebuilt, and there is no valid index of that name."
        elif act.kind == "rebuild" and index is not None and index.definition != act.definition:
            yield f"{act.key} was rebuilt and is another index now: {index.definition}."
    # What failed has said so, and that it left something.
    failed = {one.act.source for one in done if one.problem}
    for left in find_leftovers(facts):
        if left.source not in failed:
            yield f"{name_index(left)} is left of a rebuild: start {RUNBOOK} again, it drops that."


def say_done(done: Sequence[DoneAct]) -> str:
    """Say how many acts were done, and what they gave back."""
    worked = [one for one in done if not one.problem]
    freed = sum(max(one.act.bytes - one.after, 0) for one in worked if one.after is not None)
    return f"{say_count(len(worked), 'act')} of care done, {say_bytes(freed)} given back."


def measure_after(act: CareAct, facts: IndexCareFacts) -> int | None:
    """Given fresh facts, return how large what an act concerned is now; None where nobody says."""
    index = facts.find(act.key)
    if act.kind in {"remove", "drop"}:
        return index.bytes if index else 0
    if act.name:
        return index.bytes if index else None
    spaces = (
        space.file_bytes for space in facts.spaces if (space.source, space.member) == (act.source, act.member)
    )
    tables = (table.bytes for table in facts.tables if table.source == act.source)
    return next(spaces if act.kind == "compact" else tables, None)


def _say_away(facts: IndexCareFacts) -> str:
    return f" Left out, for want of an answer: {', '.join(facts.away)}." if facts.away else ""


def _plan_removal(index: IndexFacts) -> Planned:
    return _concern("remove", index), PlannedAct(
        what=f"Drop the invalid index {name_index(index)}",
        why="It is left of a rebuild that did not end: it costs every write and serves nobody",
        how_many=say_bytes(index.bytes),
        undo=_NOTHING_TO_UNDO,
    )


def _plan_drop(found: Superfluous, counted_by: str) -> Planned:
    unused = ". ".join(said for said in (say_why(found).capitalize(), counted_by.rstrip(".")) if said)
    return _concern("drop", found.index), PlannedAct(
        what=f"Drop the index {name_index(found.index)}",
        why=unused if found.instead is None else say_why(found),
        how_many=say_bytes(found.index.bytes),
        undo=f"make it again by {found.index.definition}",
    )


def _plan_vacuums(facts: IndexCareFacts, limits: Limits) -> Iterator[Planned]:
    vacuums = choose_vacuums(facts, limits)
    for table in vacuums:
        yield (
            CareAct(kind="vacuum", source=table.source, bytes=table.bytes),
            PlannedAct(
                what=f"VACUUM (ANALYZE) {table.source}",
                why=f"{share_of_dead(table):.0%} of its rows are dead, and autovacuum does not get to it",
                how_many=say_count(table.dead, "dead row"),
                undo=_NOTHING_TO_UNDO,
            ),
        )
    for table in choose_analyses(facts, limits):
        if table not in vacuums:
            yield (
                CareAct(kind="analyze", source=table.source, bytes=table.bytes),
                PlannedAct(
                    what=f"ANALYZE {table.source}",
                    why="Its statistics are of other rows than there are: plans of queries go wrong",
                    how_many=say_count(table.modified, "changed row"),
                    undo=_NOTHING_TO_UNDO,
                ),
            )


def _plan_rebuilds(facts: IndexCareFacts, going: set[str], limits: Limits) -> Iterator[Planned]:
    for bloat in () if facts.cannot_rebuild else facts.bloat:
        index = facts.find(f"{bloat.source}/{bloat.name}")
        if index is None or not index.is_valid or name_index(index) in going:
            continue
        if bloat.wasted > limits.wasted_share and bloat.wasted * index.bytes > limits.wasted_bytes:
            how = "as read page by page" if bloat.measured else "as estimated from the table's statistics"
            yield (
                _concern("rebuild", index),
                PlannedAct(
                    what=f"REINDEX INDEX CONCURRENTLY {name_index(index)}",
                    why=f"{bloat.wasted:.0%} of it is empty, {how}",
                    how_many=say_bytes(index.bytes),
                    undo=_NOTHING_TO_UNDO,
                ),
            )


def _plan_compacts(facts: IndexCareFacts, limits: Limits) -> Iterator[Planned]:
    # The member that others follow comes last: by then it is known how a compact goes.
    for space in sorted(facts.spaces, key=lambda one: one.is_primary):
        share = space.reusable_bytes / max(space.file_bytes, 1)
        if share > limits.reusable_share and space.reusable_bytes > limits.reusable_bytes:
            act = CareAct(kind="compact", source=space.source, member=space.member, bytes=space.file_bytes)
            on = f" on {space.member}" if space.member else ""
            yield (
                act,
                PlannedAct(
                    what=f"compact {space.source}{on}",
                    why=f"{share:.0%} of its file is empty; meanwhile only its indexes cannot be changed",
                    how_many=say_bytes(space.file_bytes),
                    undo=_NOTHING_TO_UNDO,
                ),
            )


def _concern(kind: Literal["remove", "rebuild", "drop"], index: IndexFacts) -> CareAct:
    return CareAct(
        kind=kind, source=index.source, name=index.name, bytes=index.bytes, definition=index.definition
    )


def _rest_on(steps: Sequence[CareAct], examined: Examined) -> dict[str, str]:
    """Return what must still be so: the database, and each index with the reason why it may go."""
    superfluous = {name_index(found.index): found.instead for found in examined.superfluous}
    rests = {"database": examined.facts.identity}
    for step in steps:
        index = examined.facts.find(step.key) if step.name else None
        if index is None:
            continue
        rests[step.key] = index.definition
        if step.kind == "drop":
            other = superfluous.get(step.key)
            needed = "unused" if step.key in superfluous else "needed"
            rests[step.key] += f", {f'{other.name} serves instead' if other else needed}"
    return rests
