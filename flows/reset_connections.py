"""Runbook rows I15 and P20: terminate the application's stuck sessions in its database."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.connection_reset import RUNBOOK
from flows.resetting import apply_reset, observe_and_plan, say_terminated, settle
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.availability import await_healthy_for
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RunbookError
from tasks.http_probe import await_health
from tasks.mutation import mutating
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}: reset connections")
@failing_in_one_sentence
def reset_connections(
    service: str, all_of_the_application: bool = False, dry_run: bool = False
) -> State[Any]:
    """Terminate the application's stuck sessions in its database, and prove that it serves.

    Trigger: by hand, when the database is locked or has no connection left, or by the triage of an outage.

    Preconditions: the database answers its administrator or the application's own user.

    Steps: close what a killed run left; look at the application's sessions; show which are stuck, why, since
    when and what they do; wait for approval where the profile asks for it, and always for all of them; look
    again and terminate exactly those that still are; see that they are gone; prove that the application is
    healthy and stays so.

    Rollback: none. What a terminated session had not committed is rolled back by the database, and the
    application opens another. A killed run leaves nothing half done; the next one looks anew.

    Args:
        service: The service's name, as in its profile.
        all_of_the_application: Terminate every session of the application, stuck or not.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    settle(profile, run, dry_run=dry_run)
    plan = remember_plan(observe_and_plan(profile, all_of_the_application=all_of_the_application))
    publish_runbook_plan(plan)
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    if not plan.targets:
        return Completed(message=f"{service}: {plan.summary} There was nothing to do.")
    approve(profile, plan, run, always=all_of_the_application)
    with mutating(profile, run, plan) as journal:
        try:
            said = say_terminated(apply_reset(profile, plan, journal))
            await_health(profile)
            await_healthy_for(profile)
        except RunbookError as error:
            journal.close(f"It failed, and leaves nothing half done: {error}")
            raise
        said = f"{said}, and the application is healthy."
        publish_done(plan, said, journal.entries, profile.zone)
        journal.close(said)
    return Completed(message=f"{service}: {said}")
