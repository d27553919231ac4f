"""What the care of indexes does around its plan: watch, apply, prove, settle."""

from collections.abc import Sequence
from typing import Final

from flows.decisions.database_upkeep import Limits
from flows.decisions.drift import find_drift
from flows.decisions.index_findings import Examined, examine, is_leftover, list_findings
from flows.decisions.index_optimization import (
    RUNBOOK,
    OptimizationPlan,
    find_unproven,
    measure_after,
    rest_now,
)
from flows.decisions.index_use import make_sample
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.history import Measurement, read_history, record_measurement
from tasks.index_care_rendering import publish_index_care
from tasks.journal import Journal
from tasks.mutation import read_begun_plan, refuse_half_done, settling
from tasks.opening_index_care import (
    end_own_work,
    list_invalid_indexes,
    observe_index_care,
    take_care,
)
from tasks.records.index_care import CareAct, DoneAct, Finding, IndexUseFacts, name_index
from tasks.records.service import ServiceProfile
from tasks.run_context import Run

LIMITS: Final = Limits()
USES: Final = "index-use"
SIZES: Final = "index-size"
_SIZE: Final = "bytes"


def record_use(profile: ServiceProfile, facts: IndexUseFacts) -> None:
    """Keep each index's count of uses where it is true, and the size of all of them."""
    if not facts.uncounted:
        sample = Measurement(at=facts.observed_at, values=make_sample(facts.indexes))
        record_measurement(profile, USES, sample)
    size = float(sum(index.bytes for index in facts.indexes))
    record_measurement(profile, SIZES, Measurement(at=facts.observed_at, values={_SIZE: size}))


def look(profile: ServiceProfile) -> Examined:
    """Look at the database, keep what was seen of its indexes' use, and judge it with what was kept."""
    facts = observe_index_care(profile)
    record_use(profile, facts)
    samples = [(kept.at, kept.values) for kept in read_history(profile, USES)]
    return examine(profile, facts, samples)


def show(profile: ServiceProfile, examined: Examined, done: Sequence[DoneAct] = ()) -> tuple[Finding, ...]:
    """Publish the page, and return what was found."""
    findings = list_findings(profile, examined, LIMITS)
    sizes = [(kept.at, kept.values[_SIZE]) for kept in read_history(profile, SIZES) if _SIZE in kept.values]
    publish_index_care(profile, RUNBOOK, findings, done, examined.facts, examined.uses, sizes)
    return findings


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """End what a killed run's session still does, and drop what it left invalid."""
    if dry_run:
        refuse_half_done(profile, RUNBOOK)
        return
    with settling(profile, run, RUNBOOK) as journal:
        if journal is not None:
            end_own_work(profile)
            left = _find_left(profile, read_begun_plan(journal, OptimizationPlan))
            for act in left:
                take_care(profile, act)
            removed = ", ".join(act.key for act in left) or "nothing"
            journal.close(f"What the killed run left invalid was dropped: {removed}.")


def _find_left(profile: ServiceProfile, plan: OptimizationPlan) -> tuple[CareAct, ...]:
    """Return how to drop what rebuilds left, and what the plan was dropping and came half to."""
    going = {act.key for act in plan.steps if act.kind == "drop"}
    return tuple(
        CareAct(kind="remove", source=index.source, name=index.name, bytes=index.bytes)
        for index in list_invalid_indexes(profile)
        if is_leftover(index) or name_index(index) in going
    )


def apply_plan(
    profile: ServiceProfile, plan: OptimizationPlan, journal: Journal
) -> tuple[tuple[DoneAct, ...], Examined, str]:
    """Do what the plan says, each act as far as its locks are to be had; return it proven, or what is not."""
    if (drift := find_drift(plan, rest_now(plan, look(profile)))) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    done = []
    for act in plan.steps:
        journal.write(act.kind, key=act.key, member=act.member, bytes=act.bytes, definition=act.definition)
        problem = ""
        try:
            take_care(profile, act)
        except RunbookError as error:
            # One member is away: the others are not, and a compact that it had begun leaves nothing.
            if isinstance(error, UnreachableError) and not act.member:
                raise
            problem = str(error)
        journal.write("failed" if problem else "done", key=act.key, member=act.member)
        done.append(DoneAct(act=act, problem=problem))
    after = look(profile)
    measured = tuple(one.model_copy(update={"after": measure_after(one.act, after.facts)}) for one in done)
    return measured, after, " ".join(find_unproven(measured, after.facts))
