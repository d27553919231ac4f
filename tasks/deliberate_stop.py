"""What people stopped on purpose: a triage must not start it again under their hands.

``<state_directory>/<service>/stopped.json`` says since when. It is gone when a runbook starts the
application, and counts no more once the service was seen healthy after it: then somebody else started it.
"""

from datetime import UTC, datetime
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.host_folder import host_folder, replace_file
from tasks.known_good import recall_healthy
from tasks.records.remediation import DeliberateStop
from tasks.records.service import ServiceProfile

_NAME: Final = "stopped.json"


@task(cache_policy=NO_CACHE, persist_result=False)
def remember_stop(profile: ServiceProfile, stop: DeliberateStop) -> None:
    """Given who stopped a service's application and when, remember it until it is started."""
    path = host_folder(profile) / _NAME
    with naming_file(path):
        replace_file(path, stop.model_dump_json().encode())


@task(cache_policy=NO_CACHE, persist_result=False)
def forget_stop(profile: ServiceProfile) -> None:
    """Given a service whose application is started, forget that it was stopped on purpose."""
    path = host_folder(profile) / _NAME
    with naming_file(path):
        path.unlink(missing_ok=True)


@task(cache_policy=NO_CACHE, persist_result=False)
def read_stop(profile: ServiceProfile) -> DeliberateStop | None:
    """Given a service, return since when it is stopped on purpose, or None if it is not.

    Raise ``ConfigurationError`` if the file that says so cannot be read.
    """
    path = host_folder(profile) / _NAME
    try:
        with naming_file(path):
            content = path.read_bytes() if path.exists() else None
        stop = DeliberateStop.model_validate_json(content) if content is not None else None
    except ValidationError:
        raise ConfigurationError(
            f"{path} does not say since when {profile.name} is stopped on purpose: delete it when it is not."
        ) from None
    known = recall_healthy(profile) if stop is not None else None
    if stop is None or known is None:
        return stop
    # One that is still to come was seen by a clock that has been put back since.
    return None if stop.at <= known.at <= datetime.now(UTC) else stop
