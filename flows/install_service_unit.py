"""Runbook row I5: write the application's systemd unit, enable and start it, and prove that it serves."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.unit_plan import RUNBOOK
from flows.unit_installing import apply_plan, observe_and_plan, settle, undo
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError, RunbookError
from tasks.mutation import mutating, undo_or_say
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def install_service_unit(service: str, dry_run: bool = False) -> State[Any]:
    """Write the systemd unit of a service's application, enable it and start it.

    Trigger: by hand, on a new host, or when the profile's application section changed.

    Preconditions: the profile says systemd and has application.unit; the worker may write the unit's folder.

    Steps: undo what a killed run left; make the unit from the profile; let systemd-analyze read it, where it
    is; show the difference; wait for approval where the profile asks for it; write it in one step; let
    systemd read it; enable it; restart; wait for the health and the start-up line.

    Rollback: any failure puts the file of before back, or deletes the new one, and starts what ran. A killed
    run is undone by the next one, which then goes on.

    Args:
        service: The service's name, as in its profile.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    settle(profile, run, dry_run=dry_run)
    plan = remember_plan(observe_and_plan(profile))
    publish_runbook_plan(plan)
    if plan.refusal is not None:
        raise RefusedError(f"{service}: {plan.refusal} Nothing was changed.")
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    if not plan.acts:
        return Completed(message=f"{service}: {plan.summary}")
    approve(profile, plan, run)
    with mutating(profile, run, plan) as journal:
        try:
            restarted = apply_plan(profile, plan, journal)
        except RunbookError as error:
            undone = undo_or_say(lambda: undo(profile, plan, journal), RUNBOOK)
            raise RunbookError(f"{error} {undone}") from error
        except BaseException:
            undo(profile, plan, journal)
            raise
        said = f"{plan.path} is installed and enabled; the application is {restarted.in_words}."
        publish_done(plan, said, journal.entries, profile.zone)
        journal.close(said)
    return Completed(message=f"{service}: {said}")
