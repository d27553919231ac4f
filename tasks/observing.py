"""All that a triage observes, each part by itself: what cannot be observed is ``Unknown`` and says why."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

from tasks.errors import RunbookError
from tasks.http_probe import observe_health, observe_public_health
from tasks.known_good import recall_healthy
from tasks.log_reading import read_logs
from tasks.observing_authentication import observe_authentication
from tasks.observing_certificate import observe_certificate
from tasks.observing_clocks import observe_clocks
from tasks.observing_database import observe_database
from tasks.observing_environment import observe_environment
from tasks.observing_files import observe_files
from tasks.observing_firebase import observe_firebase
from tasks.observing_host import observe_host
from tasks.observing_port import observe_port
from tasks.observing_processes import observe_processes
from tasks.observing_upstreams import observe_upstreams
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

LOGS_OF: Final = timedelta(hours=1)

# By the part of the evidence. Those that take long come first: on a busy host they get the first turn.
OBSERVATIONS: Final[Mapping[str, Task[[ServiceProfile], Any]]] = {
    "health": observe_health,
    "application": observe_files,
    "process": observe_processes,
    "database": observe_database,
    "host": observe_host,
    "public_health": observe_public_health,
    "port": observe_port,
    "environment": observe_environment,
    "authentication": observe_authentication,
    "firebase": observe_firebase,
    "upstreams": observe_upstreams,
    "certificate": observe_certificate,
    "clocks": observe_clocks,
}
LOGS: Final = "logs"
LAST_HEALTHY: Final = "last_healthy"
PARTS: Final = (*OBSERVATIONS, LOGS, LAST_HEALTHY)


@task(task_run_name="observe-{part}", cache_policy=NO_CACHE, persist_result=False)
def observe_part(part: str, profile: ServiceProfile, now: datetime) -> Any:
    """Given the name of a part of the evidence, return it, or ``Unknown`` if it cannot be observed."""
    try:
        if part == LOGS:
            return read_logs.fn(profile, now - LOGS_OF)
        if part == LAST_HEALTHY:
            known = recall_healthy(profile)
            return known.at if known is not None else None
        return OBSERVATIONS[part].fn(profile)
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
