"""Runbook row I7: the indexes that the profile recommends exist."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.index_outcome import StepOutcome, describe_outcome, find_problems
from flows.decisions.index_plan import RUNBOOK
from flows.index_ensuring import apply_plan, observe_and_plan, publish_outcome, settle
from flows.late_starting import skip_late
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError, RunbookError
from tasks.mutation import mutating
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def ensure_indexes(service: str, drop_superfluous: bool = False, dry_run: bool = False) -> State[Any]:
    """Build the recommended indexes that are missing, while the application reads and writes.

    Trigger: every Sunday at 04:30 in the service's time zone; by hand after a deployment or a restore.

    Preconditions: the application's own user may change indexes; the database's disk has room.

    Steps: wait for what a killed run was building; list all indexes; look for values that keep one from being
    unique; show the plan; wait for approval if an index is to be dropped, or the profile asks for it; build
    one after another without blocking, and again what a failed build left; see by a new connection that each
    is there, and that a query uses it.

    Rollback: an index that was built is dropped by its name, as the plan has it; one that was dropped is made
    again by its definition, likewise.

    Args:
        service: The service's name, as in its profile.
        drop_superfluous: Drop those that the profile does not recommend, once a person agrees.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    settle(profile, run, dry_run=dry_run)
    plan = remember_plan(observe_and_plan(profile, drop_superfluous=drop_superfluous))
    publish_runbook_plan(plan)
    if plan.refusal is not None:
        raise RefusedError(f"{service}: {plan.refusal} Nothing was changed.")
    outcomes: tuple[StepOutcome, ...] = ()
    if plan.steps and not dry_run:
        approve(profile, plan, run, always=plan.drops)
        with mutating(profile, run, plan) as journal:
            outcomes = apply_plan(profile, plan, journal)
    publish_outcome(plan, outcomes)
    if problems := find_problems(plan, outcomes):
        raise RunbookError(f"{service}: {' '.join(problems)} Nothing was changed.")
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    return Completed(message=f"{service}: {describe_outcome(plan, outcomes)}")
