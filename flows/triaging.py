"""What a triage does before it decides: observe everything at once, and wait for nothing that hangs."""

import time
from typing import Any, Final

from prefect.futures import PrefectFuture

from flows.decisions.diagnosis import diagnose
from flows.decisions.evidence_assembly import assemble
from tasks.observing import PARTS, observe_part
from tasks.records.diagnosis import Diagnosis
from tasks.records.evidence import Evidence
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.run_context import read_clock

# Each observation ends by itself within five seconds; this is for one that does not.
LIMIT_SECONDS: Final = 6.0


def diagnose_now(profile: ServiceProfile) -> Diagnosis:
    """Given a service, observe it and return what is wrong with it."""
    return diagnose(gather(profile), profile)


def gather(profile: ServiceProfile) -> Evidence:
    """Given a service, return all that can be observed of it; call it in a flow, whose threads do it.

    A thread that hangs is left behind: the flow's end waits for it, and by then the report is published.
    """
    now, deadline = read_clock(), time.monotonic() + LIMIT_SECONDS
    futures = {part: observe_part.submit(part, profile, now) for part in PARTS}
    seen = {part: await_part(future, deadline) for part, future in futures.items()}
    return assemble(profile, now, seen, LIMIT_SECONDS)


def await_part(future: PrefectFuture[Any], deadline: float) -> Any:
    """Return what a part came to; ``Unknown`` if it did not come by the deadline, or failed itself."""
    try:
        seen = future.result(timeout=max(0.0, deadline - time.monotonic()), raise_on_failure=False)
    except TimeoutError:
        return Unknown(why=f"there was no answer within {LIMIT_SECONDS:.0f} s")
    if isinstance(seen, Exception):
        # A defect of ours, whose traceback is in the run's log; the other observations are worth no less.
        return Unknown(why="the observation itself failed, the run's log says how")
    return seen
