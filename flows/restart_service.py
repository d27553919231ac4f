"""Runbook rows I4, I32, P1, P3, P21: restart a service's application, and say how long it was out."""

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.control_plan import RESTART_RUNBOOK, RestartPlan, plan_restart
from flows.decisions.drift import find_drift
from flows.restarting import finish_restart, restart
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError, RunbookError
from tasks.http_probe import probe_health
from tasks.journal import Journal
from tasks.mutation import mutating, refuse_half_done, settling
from tasks.process_manager import observe_application
from tasks.profiles import load_service
from tasks.records.service import ServiceProfile
from tasks.run_context import Run, observe_run


@flow(name=RESTART_RUNBOOK, flow_run_name="{service}: {how}")
@failing_in_one_sentence
def restart_service(
    service: str, how: Literal["graceful", "hard"] = "graceful", dry_run: bool = False
) -> State[Any]:
    """Restart a service's application and prove that it serves; measure from outside how long it did not.

    Trigger: by hand, when the application misbehaves, takes too much memory or is to read its settings anew.

    Preconditions: the process manager knows the application.

    Steps: finish what a killed run left; look at the processes and the health; show the plan; wait for
    approval where the profile asks for it; restart gracefully; wait for the health, for new processes and for
    the start-up line in the log; if that leaves it unable to serve, stop it until nothing of it is left,
    start it and wait again.

    Rollback: there is nothing to go back to. A run that was killed between stop and start is finished by the
    next one: it starts the application. One that does not come back is left to people, with its last words.

    Args:
        service: The service's name, as in its profile.
        how: "graceful", which goes on to a hard restart if it has to, or "hard" at once.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    _settle(profile, run, dry_run=dry_run)
    plan = remember_plan(_observe_and_plan(profile, how))
    publish_runbook_plan(plan)
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    approve(profile, plan, run)
    with mutating(profile, run, plan) as journal:
        if (drift := find_drift(plan, _observe_and_plan(profile, how))) is not None:
            raise RefusedError(f"{service}: {drift}")
        said = _apply(profile, plan, journal)
    return Completed(message=f"{service}: {said}")


def _observe_and_plan(profile: ServiceProfile, how: Literal["graceful", "hard"]) -> RestartPlan:
    status = observe_application(profile)
    return plan_restart(profile, status, probe_health(profile.application.health_url).problem, how)


def _settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Start what a killed run left stopped."""
    if dry_run:
        refuse_half_done(profile, RESTART_RUNBOOK)
        return
    with settling(profile, run, RESTART_RUNBOOK) as journal:
        if journal is not None:
            journal.close(finish_restart(profile, journal))


def _apply(profile: ServiceProfile, plan: RestartPlan, journal: Journal) -> str:
    """Restart, close the journal and return what was done, as a sentence."""
    try:
        restarted = restart(profile, journal, plan.how)
    except RunbookError as error:
        journal.close("It did not come back as it should: people have to look at it.")
        raise RunbookError(f"{error} A person has to look at it.") from error
    except BaseException:
        journal.close(finish_restart(profile, journal))
        raise
    confirmed = "and its log says so" if restarted.confirmed_by_log else "its log was not to be had"
    notes = "".join(f" {note}" for note in restarted.notes)
    name = profile.application.process_name
    said = f"{name} is {restarted.in_words}; it is healthy, {confirmed}.{notes}"
    publish_done(plan, said, journal.entries, profile.zone)
    journal.close(said)
    return said
