"""What ensure-indexes does around its plan: observe, apply, prove, settle."""

from collections.abc import Iterator

from flows.decisions.drift import find_drift
from flows.decisions.index_outcome import StepOutcome, describe_outcome, describe_rows, find_problems
from flows.decisions.index_plan import (
    RUNBOOK,
    IndexPlan,
    IndexStep,
    describe_ground,
    find_builds,
    plan_indexes,
)
from tasks.artifacts import publish_done
from tasks.errors import AccessDeniedError, RefusedError, RunbookError, UnreachableError
from tasks.index_building import (
    build_index,
    clear_build,
    drop_index,
    examine_build,
    observe_indexes,
    prove_index,
)
from tasks.index_rendering import publish_indexes
from tasks.journal import Journal, list_open_journals
from tasks.mutation import settling
from tasks.records.indexes import IndexFacts
from tasks.records.service import ServiceProfile
from tasks.run_context import Run

BUILDING = "building"
DROPPING = "dropping"


def observe_and_plan(profile: ServiceProfile, *, drop_superfluous: bool) -> IndexPlan:
    """List what is there, look at what each missing one would meet, and plan."""
    observed = observe_indexes(profile)
    examined = [(wanted, examine_build(profile, wanted)) for wanted in find_builds(profile.indexes, observed)]
    return plan_indexes(profile, observed, examined, drop_superfluous=drop_superfluous)


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Wait for what a killed run was building, and drop what is left of it if it failed."""
    if dry_run:
        if RUNBOOK in list_open_journals(profile):
            raise RefusedError(
                f"{profile.name}: a {RUNBOOK} is under way, or was killed while the server builds, so there "
                "is nothing to plan from: start it without dry_run, it puts that right first."
            )
        return
    with settling(profile, run, RUNBOOK) as journal:
        if journal is None:
            return
        begun = journal.find(BUILDING)
        if begun is None:
            journal.close("Nothing was left half done.")
            return
        index = IndexFacts.model_validate(begun.facts["index"])
        there = clear_build(profile, index)
        journal.close(f"{index.name} on {index.source} is {'built' if there else 'not there'}.")


def apply_plan(profile: ServiceProfile, plan: IndexPlan, journal: Journal) -> tuple[StepOutcome, ...]:
    """Do what the plan says, one index after another; one that fails does not keep the others from it."""
    ground = describe_ground(profile, observe_indexes(profile), plan.steps)
    if (drift := find_drift(plan, plan.model_copy(update={"rests_on": ground}))) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    outcomes = tuple(_apply_steps(profile, plan, journal))
    said = describe_outcome(plan, outcomes)
    publish_done(plan, said, journal.entries, profile.zone)
    journal.close(said)
    if problems := find_problems(plan, outcomes):
        publish_outcome(plan, outcomes)
        raise RunbookError(f"{profile.name}: {said} {' '.join(problems)}")
    return outcomes


def publish_outcome(plan: IndexPlan, outcomes: tuple[StepOutcome, ...]) -> None:
    """Show how it stands with each index."""
    said = describe_outcome(plan, outcomes)
    publish_indexes(plan.service, said, describe_rows(plan, outcomes), plan.superfluous)


def _apply_steps(profile: ServiceProfile, plan: IndexPlan, journal: Journal) -> Iterator[StepOutcome]:
    for step in plan.steps:
        index = _name_index(step)
        journal.write(DROPPING if step.what == "drop" else BUILDING, index=index.model_dump(mode="json"))
        try:
            (drop_index if step.what == "drop" else build_index)(profile, index)
        except UnreachableError as error:
            raise UnreachableError(
                f"{error} What the server was building may go on: start {RUNBOOK} again, it waits for that."
            ) from error
        except RunbookError as error:
            yield StepOutcome(step=step, failure=str(error))
            if isinstance(error, AccessDeniedError):
                return
        else:
            yield StepOutcome(step=step, proof=prove_index(profile, index))


def _name_index(step: IndexStep) -> IndexFacts:
    return IndexFacts(
        source=step.source,
        name=step.name,
        key=step.key,
        unique=step.unique,
        is_valid=step.what != "repair",
    )
