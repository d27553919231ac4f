"""Runbook rows I4 and P3: start or stop a service's application, and prove that it is so."""

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.control_plan import CONTROL_RUNBOOK, ControlPlan, plan_control, say_how_stop_is_seen
from flows.decisions.drift import find_drift
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.deliberate_stop import forget_stop, remember_stop
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.http_probe import await_health
from tasks.journal import Journal
from tasks.mutation import mutating, read_begun_plan, refuse_half_done, settling
from tasks.process_manager import observe_application, start_application, stop_application
from tasks.profiles import load_service
from tasks.records.remediation import DeliberateStop
from tasks.records.service import ServiceProfile
from tasks.run_context import Run, observe_run, read_clock

STARTING = "starting"
STOPPING = "stopping"


@flow(name=CONTROL_RUNBOOK, flow_run_name="{service}: {action}")
@failing_in_one_sentence
def control_service(service: str, action: Literal["start", "stop"], dry_run: bool = False) -> State[Any]:
    """Start or stop a service's application, and prove that it serves or that nothing of it is left.

    Trigger: by hand, before and after work on the host or the database.

    Preconditions: the process manager knows the application.

    Steps: finish what a killed run began; look at the processes; show the plan; wait for approval where the
    profile asks for it; start and wait for the health, or stop until no process is left.

    Rollback: an application that was stopped and does not become healthy is stopped again; one that cannot be
    stopped is started again. What a killed run began is finished by the next one, which then does its own.

    Args:
        service: The service's name, as in its profile.
        action: "start" or "stop"; what is so already is left alone.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    _settle(profile, run, dry_run=dry_run)
    plan = remember_plan(plan_control(profile, observe_application(profile), action))
    publish_runbook_plan(plan)
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    if not plan.acts:
        _note(profile, run, plan)
        return Completed(message=f"{service}: {plan.summary}")
    approve(profile, plan, run)
    with mutating(profile, run, plan) as journal:
        fresh = plan_control(profile, observe_application(profile), action)
        if (drift := find_drift(plan, fresh)) is not None:
            raise RefusedError(f"{service}: {drift}")
        said = _apply(profile, run, plan, journal)
        publish_done(plan, said, journal.entries, profile.zone)
        journal.close(said)
    return Completed(message=f"{service}: {said}")


def _settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Do to its end what a killed run began."""
    if dry_run:
        refuse_half_done(profile, CONTROL_RUNBOOK)
        return
    with settling(profile, run, CONTROL_RUNBOOK) as journal:
        if journal is not None:
            plan = read_begun_plan(journal, ControlPlan)
            touched = journal.has(STARTING) or journal.has(STOPPING)
            said = _apply(profile, run, plan, journal) if touched else "Nothing was changed."
            journal.close(said)


def _apply(profile: ServiceProfile, run: Run, plan: ControlPlan, journal: Journal) -> str:
    """Do it, and return what was done; put it back and raise if it fails."""
    name = profile.application.process_name
    try:
        if plan.action == "stop":
            journal.write(STOPPING)
            _stop(profile)
            _note(profile, run, plan)
            return f"{name} is stopped, and {say_how_stop_is_seen(profile)}."
        journal.write(STARTING)
        start_application(profile)
        health = await_health(profile)
        return f"{name} runs and is healthy (it answered in {health.seconds:.2f} s)."
    except RunbookError as error:
        said = _put_back(profile, plan)
        journal.close(said)
        raise RunbookError(f"{error} {said}") from error


def _note(profile: ServiceProfile, run: Run, plan: ControlPlan) -> None:
    """Let the alert that follows a stop find out that it was meant."""
    if plan.action == "stop":
        remember_stop(profile, DeliberateStop(at=read_clock(), by=run.started_by))
    else:
        forget_stop(profile)


def _stop(profile: ServiceProfile) -> None:
    stop_application(profile)
    status = observe_application(profile)
    if status.running or any(instance.pid for instance in status.instances):
        raise UnreachableError(f"{profile.name}: it was stopped, and runs again: {status.detail}.")


def _put_back(profile: ServiceProfile, plan: ControlPlan) -> str:
    try:
        if plan.action == "stop":
            start_application(profile)
            return "What was stopped of it is started again."
        if plan.was_stopped:
            stop_application(profile)
            return "It is stopped again, as before."
    except RunbookError as error:
        return f"That could not be put back either: {error}"
    return "It did not run whole before either."
