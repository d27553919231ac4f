"""Give an application that was started its time."""

import time
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import RunbookError
from tasks.http_probe import probe_health
from tasks.process_manager import observe_application
from tasks.records.service import ServiceProfile

_REQUEST_SECONDS = 2.0
_PAUSE_SECONDS = 0.5


@task(cache_policy=NO_CACHE, persist_result=False)
def await_start(profile: ServiceProfile) -> None:
    """Given a service, return as soon as it is healthy, or when the time that its start may take is over.

    That time counts from its youngest process' start: of one that runs for long nothing is awaited.
    """
    deadline = time.monotonic() + _find_remaining(profile)
    while probe_health.fn(profile.application.health_url, _REQUEST_SECONDS).problem is not None:
        if time.monotonic() + _PAUSE_SECONDS > deadline:
            return
        time.sleep(_PAUSE_SECONDS)


def _find_remaining(profile: ServiceProfile) -> float:
    try:
        instances = observe_application.fn(profile).instances
    except RunbookError:
        return 0.0
    started = max((one.since for one in instances if one.since is not None), default=None)
    if started is None:
        return 0.0
    return (profile.application.start_within - (datetime.now(UTC) - started)).total_seconds()
