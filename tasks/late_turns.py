"""Late runs of a service go one after the other: the turn is a lock of the kernel, free after a kill."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.states import AwaitingConcurrencySlot

from tasks.conclusion import hold_until_the_end
from tasks.errors import LeaseHeldError
from tasks.host_folder import host_folder
from tasks.prefect_server import asking_prefect
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.service_lock import hold_file

AGAIN_AFTER: Final = timedelta(minutes=2)


def take_late_turn(profile: ServiceProfile, run: Run) -> None:
    """Given a late run, hold the turn of its service's late runs until the run ends.

    While another one has it, the run is put back to later: it ends its process, holds no worker meanwhile,
    and begins anew. Raise ``UnreachableError`` if the Prefect server does not take that.
    """
    path = host_folder(profile) / "late-turn"
    try:
        hold_until_the_end(
            hold_file(path, profile.name, "a late run", run.name, timedelta(0), lambda _sentence: None)
        )
    except LeaseHeldError:
        _put_back()


def _put_back() -> None:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    at = datetime.now(UTC) + AGAIN_AFTER
    state: State[Any] = AwaitingConcurrencySlot(
        scheduled_time=at, message="Another late run of this service is at work: this one follows."
    )
    with asking_prefect() as client:
        client.set_flow_run_state(context.flow_run.id, state)
    # As a run that is suspended: the process ends, and no state is reported.
    raise Pause(state=state)
