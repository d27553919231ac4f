"""What the Prefect server does by itself about runs that are dead, or that nobody answers.

A run that is killed together with its worker stays Running for ever; one whose worker dies at the wrong
moment stays Pending, or Cancelling. :mod:`deployments.watch` looks after them a second time, from outside.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from tasks.approval import LATE_TAG

# Marks what deploying may change and delete again.
MANAGED: Final = "managed"
# A run has a heartbeat every 30 s. With what the server takes, a dead run is ended within two minutes.
DOUBTED: Final = timedelta(seconds=45)
GIVEN_UP: Final = timedelta(seconds=50)
STUCK: Final = timedelta(seconds=105)
SILENT: Final = "Silent"
ENDED: Final = frozenset({"Completed", "Failed", "Cancelled", "Crashed", "TimedOut", "Skipped"})
# A run that waits without a process has no heartbeat; one that is being cancelled has to go on having it.
WAITING: Final = frozenset({"Paused", "Suspended", "Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot"})
PENDING: Final = frozenset({"Pending", "Submitting", "InfrastructurePending"})


def list_for_all_runs() -> Iterator[AutomationCore]:
    """Yield the automations that do not ask whose run it is."""
    yield _doubt_silent()
    yield _end_silent()
    yield _end_stuck()
    yield _end_cancelling()
    yield _skip_unanswered()


def for_runs(name: str, description: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    """Return an automation of ours."""
    return AutomationCore(
        name=name, description=description, tags=[MANAGED], trigger=trigger, actions=[action]
    )


def name_events(states: set[str]) -> set[str]:
    """Return the events by which Prefect says that a run came into one of these states."""
    return {f"prefect.flow-run.{state}" for state in states}


def _doubt_silent() -> AutomationCore:
    # After an outage the server misses the heartbeats of all runs at once: none of them is dead for that.
    return _expect(
        "Runs of which nothing is heard",
        f"No heartbeat for {DOUBTED.seconds} s: the run is Silent, and ended unless it is heard of again.",
        after={"heartbeat"},
        expect={"heartbeat"},
        within=DOUBTED,
        action=ChangeFlowRunState(
            state=StateType.RUNNING,
            name=SILENT,
            message=f"No sign of life for {DOUBTED.seconds} s. Without one within {GIVEN_UP.seconds} s this "
            "run is taken for dead.",
        ),
    )


def _end_silent() -> AutomationCore:
    return _expect(
        "Runs that died without a word",
        f"Silent, and no heartbeat for {GIVEN_UP.seconds} s more: flow and worker are gone. It is Crashed.",
        after={SILENT},
        expect={"heartbeat"},
        within=GIVEN_UP,
        action=ChangeFlowRunState(
            state=StateType.CRASHED,
            message=f"No sign of life for {(DOUBTED + GIVEN_UP).seconds} s: flow and worker died.",
        ),
    )


def _end_stuck() -> AutomationCore:
    return _expect(
        "Runs that do not get going",
        f"Pending for {STUCK.seconds} s: the worker that took it is gone. The run is Crashed.",
        after={*PENDING},
        expect={"Running", "Cancelling"},
        within=STUCK,
        action=ChangeFlowRunState(
            state=StateType.CRASHED,
            message=f"Pending for {STUCK.seconds} s: its worker died before the start.",
        ),
    )


def _end_cancelling() -> AutomationCore:
    return _expect(
        "Runs that are never done with being cancelled",
        f"Cancelling for {STUCK.seconds} s: the worker that should end it is gone. The run is Cancelled.",
        after={"Cancelling"},
        expect=set(),
        within=STUCK,
        action=ChangeFlowRunState(
            state=StateType.CANCELLED,
            message=f"Cancelling for {STUCK.seconds} s: its worker died before it was ended.",
        ),
    )


def _expect(  # noqa: PLR0913  what is waited for after what, for how long, and what if it does not come
    name: str, description: str, *, after: set[str], expect: set[str], within: timedelta, action: ActionTypes
) -> AutomationCore:
    """Return what acts on a run that, after some event, neither ends nor waits nor has another event."""
    trigger = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        after=name_events(after),
        expect=name_events({*expect, *ENDED, *WAITING}),
        posture=Posture.Proactive,
        within=within,
    )
    return for_runs(name, description, trigger, action)


def _skip_unanswered() -> AutomationCore:
    return for_runs(
        "Late runs that nobody answered",
        "A late run asked whether it shall start, and nobody said so in time. The run is Skipped.",
        EventTrigger(
            # What Prefect's server says of every wait that is over.
            match={
                "prefect.resource.id": "prefect.flow-run.*",
                "prefect.state-message": "The flow was paused and never resumed.",
            },
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{LATE_TAG}"},
            expect=name_events({"Failed"}),
            posture=Posture.Reactive,
        ),
        ChangeFlowRunState(
            state=StateType.CANCELLED,
            name="Skipped",
            message="It was late, and nobody answered in time whether it shall start.",
            force=True,
        ),
    )
