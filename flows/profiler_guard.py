"""Put back what a killed run of profile-queries left on: the profiler costs for as long as it is on."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.late_starting import skip_replaced
from flows.profiling import GUARD, settle
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import LeaseHeldError
from tasks.profiles import load_service
from tasks.profiling_state import hold_profiling, may_be_left_on
from tasks.run_context import observe_run


@flow(name=GUARD, flow_run_name="{service}")
@failing_in_one_sentence
def profiler_guard(service: str) -> State[Any]:
    """Put MongoDB's profiler back to how it was, if a run of profile-queries was killed while it was on.

    Trigger: every fifteen minutes; or by hand.

    Preconditions: it runs on the host on which profile-queries runs.

    Steps: look for the journal of a run; leave a run alone that is at work; else put level, threshold and
    sampling rate back to what the journal says, and read them back.

    Rollback: none is needed, this is one.

    Args:
        service: The service's name, as in its profile.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_replaced(profile, run)) is not None:
        return skipped
    if not may_be_left_on(profile):
        return Completed(message=f"{service}: no run of profile-queries left anything on.")
    try:
        with hold_profiling(profile, purpose=GUARD, holder=run.name):
            said = settle(profile, run)
    except LeaseHeldError as error:
        return Completed(message=f"{service}: a run is at work and is left alone. {error}")
    return Completed(message=f"{service}: {said or 'a run ended in time and left nothing on'}.")
