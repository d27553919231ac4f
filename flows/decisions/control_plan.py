"""What starting, stopping and restarting an application would do, act by act."""

from typing import Literal

from tasks.records.process import ProcessStatus
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RESTART_RUNBOOK = "restart-service"
CONTROL_RUNBOOK = "control-service"
How = Literal["graceful", "hard"]
Action = Literal["start", "stop"]


class RestartPlan(RunbookPlan):
    """The plan of a restart."""

    how: How


class ControlPlan(RunbookPlan):
    """The plan of a start or a stop, and what is needed to put it back."""

    action: Action
    was_stopped: bool


def plan_restart(
    profile: ServiceProfile, status: ProcessStatus, problem: str | None, how: How
) -> RestartPlan:
    """Given how the application is and what is wrong with its health, return the plan of a restart."""
    application = profile.application
    name = application.process_name
    runs = status.running
    first = f"Restart {name} gracefully" if runs and how == "graceful" else f"Stop {name}, and start it"
    graceful = PlannedAct(
        what=f"Restart {name} gracefully",
        why="Of several processes one after the other is replaced, so that it serves all the while.",
        undo="Nothing: the processes of before cannot come back, and the files are the same",
    )
    hard = PlannedAct(
        what=f"Stop {name} until {say_how_stop_is_seen(profile)}, and start it",
        why="It is done only if the graceful restart leaves it unable to serve."
        if runs and how == "graceful"
        else "Whatever hangs ends with its processes.",
        undo="Nothing: a killed run's next one starts it",
    )
    prove = PlannedAct(
        what=f"Wait until it is healthy, and until its log says '{application.started_line}'",
        why=f"{first} and it serves: only that is a restart.",
        undo="Nothing is changed by it",
    )
    state = "it is healthy" if problem is None else f"it is not healthy, {problem}"
    return RestartPlan(
        runbook=RESTART_RUNBOOK,
        service=profile.name,
        summary=f"{name} is restarted. {status.detail}; {state}.",
        acts=(graceful, hard, prove) if runs and how == "graceful" else (hard, prove),
        rests_on=_rests_on(profile, status),
        how=how,
    )


def plan_control(profile: ServiceProfile, status: ProcessStatus, action: Action) -> ControlPlan:
    """Given how the application is, return the plan of a start or a stop, without acts if it is so."""
    name = profile.application.process_name
    stop = PlannedAct(
        what=f"Stop {name} until {say_how_stop_is_seen(profile)}",
        why="It was asked for. Nobody is served from then on.",
        undo=f"Start {name}, by this run if it cannot be stopped",
    )
    start = PlannedAct(
        what=f"Start {name}, and wait until it is healthy",
        why="It was asked for.",
        undo=f"Stop {name}, by this run if it does not become healthy" if status.stopped else "Nothing",
    )
    done = status.running if action == "start" else status.stopped
    return ControlPlan(
        runbook=CONTROL_RUNBOOK,
        service=profile.name,
        summary=f"{name}: {action}. {status.detail}{', so there is nothing to do' if done else ''}.",
        acts=() if done else (start,) if action == "start" else (stop,),
        rests_on=_rests_on(profile, status),
        action=action,
        was_stopped=status.stopped,
    )


def _rests_on(profile: ServiceProfile, status: ProcessStatus) -> dict[str, str]:
    application = profile.application
    # One that crashes and is started again runs at one moment and not at the next: that is no other state.
    state = "it is stopped" if status.stopped else "it is not stopped"
    return {"application": f"{application.process_name} under {application.process_manager}", "state": state}


def say_how_stop_is_seen(profile: ServiceProfile) -> str:
    """Given a service, return what is true once it is stopped: no worker sees the processes of Windows."""
    on_windows = profile.application.process_manager == "windows"
    return "Windows says so" if on_windows else "no process of it is left"
