"""What to do about a service's indexes: build what is missing, name what is superfluous."""

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from flows.decisions.index_judgement import (
    GOOD,
    TO_BUILD,
    IndexVerdict,
    Key,
    judge_index,
    key_of,
    say_index,
    say_key,
)
from flows.decisions.index_naming import Kind, name_index, say_drop
from tasks.records.data_care import RecommendedIndex
from tasks.records.figures import say_bytes, say_count
from tasks.records.indexes import BuildFacts, IndexFacts, ObservedIndexes
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK = "ensure-indexes"


class IndexStep(BaseModel):
    """One act on one index; ``definition`` is of one that is dropped, to make it again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["build", "repair", "drop"]
    source: str
    name: str
    key: Key
    unique: bool = False
    definition: str = ""


class IndexPlan(RunbookPlan):
    """The acts, with what is thought of each recommended index and which others there are."""

    kind: Kind
    verdicts: tuple[IndexVerdict, ...]
    superfluous: tuple[IndexFacts, ...]
    steps: tuple[IndexStep, ...]

    @property
    def drops(self) -> bool:
        """Whether an index goes: nobody but a person decides that."""
        return any(step.what == "drop" for step in self.steps)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps recommended indexes from being there, whatever this run does."""
        return tuple(
            f"{say_index(verdict.wanted)}: {verdict.said}"
            for verdict in self.verdicts
            if verdict.state not in GOOD | TO_BUILD
        )


def find_builds(
    recommended: Iterable[RecommendedIndex], observed: ObservedIndexes
) -> tuple[RecommendedIndex, ...]:
    """Return the recommended indexes that have to be built, as far as the listing tells."""
    return tuple(wanted for wanted in recommended if judge_index(wanted, observed).state in TO_BUILD)


def plan_indexes(
    profile: ServiceProfile,
    observed: ObservedIndexes,
    examined: Sequence[tuple[RecommendedIndex, BuildFacts]],
    *,
    drop_superfluous: bool,
) -> IndexPlan:
    """Given what is there and what each build would meet, return the plan."""
    kind = profile.database.kind
    verdicts, steps = _judge_all(profile.indexes, observed, examined, kind)
    superfluous = _find_superfluous(observed, verdicts)
    if drop_superfluous:
        steps += [_plan_drop(index) for index in superfluous if not index.is_building]
    return IndexPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=_summarize(verdicts, superfluous, steps),
        acts=tuple(_describe_step(step, kind, observed) for step in steps),
        rests_on=describe_ground(profile, observed, steps),
        refusal=_find_refusal(profile, steps, examined),
        kind=kind,
        verdicts=tuple(verdicts),
        superfluous=superfluous,
        steps=tuple(steps),
    )


def describe_ground(
    profile: ServiceProfile, observed: ObservedIndexes, steps: Iterable[IndexStep]
) -> dict[str, str]:
    """Return what a plan rests on: which indexes there are where it builds, and each one that it drops."""
    rests = {
        f"indexes of {source}": ", ".join(
            f"{index.name}{_say_invalid(index)}" for index in observed.indexes if index.source == source
        )
        for source in sorted({wanted.source for wanted in profile.indexes} & set(observed.sources))
    }
    going = {(step.source, step.name) for step in steps if step.what == "drop"}
    return rests | {
        f"{index.source}/{index.name}": f"{index.definition}{_say_invalid(index)}"
        for index in observed.indexes
        if (index.source, index.name) in going
    }


def _say_invalid(index: IndexFacts) -> str:
    return "" if index.is_valid else " (invalid)"


def _judge_all(
    recommended: Iterable[RecommendedIndex],
    observed: ObservedIndexes,
    examined: Sequence[tuple[RecommendedIndex, BuildFacts]],
    kind: Kind,
) -> tuple[list[IndexVerdict], list[IndexStep]]:
    verdicts: list[IndexVerdict] = []
    steps: list[IndexStep] = []
    for wanted in recommended:
        met = next((facts for found, facts in examined if found == wanted), None)
        verdict = judge_index(wanted, observed, met)
        verdicts.append(verdict)
        if verdict.state not in TO_BUILD:
            continue
        name = verdict.facts.name if verdict.facts else name_index(wanted, kind, observed)
        what: Literal["build", "repair"] = "repair" if verdict.facts else "build"
        step = IndexStep(what=what, source=wanted.source, name=name, key=key_of(wanted), unique=wanted.unique)
        steps.append(step)
        # The next one may be served by it.
        planned = IndexFacts(source=step.source, name=name, key=step.key, unique=step.unique)
        others = (
            index for index in observed.indexes if (index.source, index.name) != (step.source, step.name)
        )
        observed = observed.model_copy(update={"indexes": (planned, *others)})
    return [_judge_again(verdict, observed) for verdict in verdicts], steps


def _judge_again(verdict: IndexVerdict, planned: ObservedIndexes) -> IndexVerdict:
    """What stands in the way of an index is no problem if one that is built after it serves it as well."""
    if verdict.state in GOOD | TO_BUILD:
        return verdict
    again = judge_index(verdict.wanted, planned)
    return again if again.state in GOOD else verdict


def _find_superfluous(observed: ObservedIndexes, verdicts: Iterable[IndexVerdict]) -> tuple[IndexFacts, ...]:
    wanted = {(v.facts.source, v.facts.name) for v in verdicts if v.facts is not None}
    return tuple(
        index
        for index in observed.indexes
        if not index.is_constraint and (index.source, index.name) not in wanted
    )


def _plan_drop(index: IndexFacts) -> IndexStep:
    return IndexStep(
        what="drop",
        source=index.source,
        name=index.name,
        key=index.key,
        unique=index.unique,
        definition=index.definition,
    )


def _describe_step(step: IndexStep, kind: Kind, observed: ObservedIndexes) -> PlannedAct:
    index = f"{step.name} on {step.source} ({say_key(step.key)})"
    drop = say_drop(step.source, step.name, kind)
    if step.what == "build":
        unique = "unique index" if step.unique else "index"
        why = "The profile recommends it; it is built while the application reads and writes"
        return PlannedAct(what=f"Build the {unique} {index}", why=why, undo=drop)
    if step.what == "repair":
        why = "A build that failed left it: it costs on every write, and serves nobody"
        return PlannedAct(what=f"Build {index} again, in its place", why=why, undo=drop)
    facts = next(one for one in observed.indexes if (one.source, one.name) == (step.source, step.name))
    return PlannedAct(
        what=f"Drop {index}", why=_say_why_drop(facts), how_many=say_bytes(facts.bytes), undo=step.definition
    )


def _say_why_drop(index: IndexFacts) -> str:
    if not index.is_valid:
        return "A build that failed left it, and the profile does not recommend it"
    warnings = ["it is unique: after that, the database takes the same value twice"] if index.unique else []
    if index.special:
        warnings.append(f"it is {index.special}")
    if index.uses is not None:
        warnings.append(f"it was used {say_count(index.uses, 'time')} since the server counts")
    return "; ".join(("The profile does not recommend it", *warnings))


def _find_refusal(
    profile: ServiceProfile,
    steps: Sequence[IndexStep],
    examined: Sequence[tuple[RecommendedIndex, BuildFacts]],
) -> str | None:
    if not profile.indexes and steps:
        return "The profile recommends no index, and so every one would be dropped: name those needed first."
    building = {(step.source, step.key) for step in steps if step.what != "drop"}
    facts = [met for wanted, met in examined if (wanted.source, key_of(wanted)) in building]
    free = [met.free_bytes for met in facts if met.free_bytes is not None]
    needed = sum(met.bytes for met in facts)
    if not free or needed <= min(free):
        return None
    return (
        f"The database's disk has {say_bytes(min(free))} free, and the indexes need about "
        f"{say_bytes(needed)} while they are built: make room first."
    )


def _summarize(
    verdicts: Sequence[IndexVerdict], superfluous: Sequence[IndexFacts], steps: Sequence[IndexStep]
) -> str:
    there = sum(verdict.state in GOOD for verdict in verdicts)
    many = say_count(len(verdicts), "recommended index", "recommended indexes")
    said = [f"{there} of {many} {'is' if there == 1 else 'are'} there"]
    counted = {what: sum(step.what == what for step in steps) for what in ("build", "repair", "drop")}
    said += [f"{times} to {what}" for what, times in counted.items() if times]
    if waiting := sum(verdict.state not in GOOD | TO_BUILD for verdict in verdicts):
        said.append(f"{waiting} that this run can do nothing about")
    if superfluous:
        said.append(f"{say_count(len(superfluous), 'other', 'others')} that the profile does not recommend")
    return "; ".join(said) + "."
