"""Runbook rows I20 and I23: archive and delete what is old, by the rules of the profile."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.cleaning import apply_plan, conclude, observe_and_plan, settle
from flows.decisions.cleanup_plan import RUNBOOK
from flows.late_starting import skip_late
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_runbook_plan
from tasks.cleanup_observing import publish_expired
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError
from tasks.mutation import mutating
from tasks.profiles import load_service
from tasks.records.cleanup import CleanedRule
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def audit_log_cleanup(service: str, dry_run: bool = False) -> State[Any]:
    """Archive and delete what is older than the profile's cleanup rules keep.

    Trigger: every night at 03:30 in the service's time zone, or by hand.

    Preconditions: the database, the store and the application answer; the clocks agree.

    Steps: finish what a killed run left; fix each rule's cutoff; count what has expired by month; show the
    plan; wait for approval where the profile asks for it. Then for each rule, part by part: archive, read the
    part back, delete it in batches; wait while the application suffers; end at the profile's time of day.
    Publish each archive, read all of it back, and look again whether anything expired is left.

    Rollback: restore-archive gives back what an archive holds. Nothing is deleted that is not in an archive
    that was read back, but for rules that have none. A killed run is finished by the next one.

    Args:
        service: The service's name, as in its profile.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    settle(profile, run, dry_run=dry_run)
    plan = remember_plan(observe_and_plan(profile))
    publish_runbook_plan(plan)
    publish_expired(profile, plan.facts, plan.refused, plan.warnings)
    if plan.refusal is not None:
        raise RefusedError(f"{service}: {plan.refusal} Nothing was changed.")
    if dry_run:
        refused = "".join(f" Not applied: {reason}" for reason in plan.refused)
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.{refused}")
    cleaned: tuple[CleanedRule, ...] = ()
    finished = True
    if plan.rules:
        approve(profile, plan, run)
        with mutating(profile, run, plan) as journal:
            cleaned, finished = apply_plan(profile, plan, journal)
    complaints, said = conclude(profile, plan, cleaned, finished=finished)
    if complaints:
        return Failed(message=f"{service}: {said} {' '.join(complaints)}")
    return Completed(message=f"{service}: {said}")
