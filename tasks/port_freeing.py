"""Free the application's port of a process of its own that its manager lost, and of no other."""

import time
from contextlib import suppress
from datetime import UTC, datetime

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import AccessDeniedError, RefusedError, UnreachableError
from tasks.observing_port import observe_port
from tasks.records.service import ServiceProfile

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.02


@task(cache_policy=NO_CACHE, persist_result=False)
def free_port(profile: ServiceProfile, target: str) -> str:
    """Given the ``identity`` of a left-behind process, end it, by force if it must be, and say so.

    Raise ``RefusedError`` if nothing of that identity is left behind on the port any more,
    ``AccessDeniedError`` if the worker may not end it, ``UnreachableError`` if it does not end.
    """
    pid, since = _find(profile, target)
    try:
        process = psutil.Process(pid)
        # From here on psutil itself makes sure that the id is still this process's.
        if datetime.fromtimestamp(process.create_time(), UTC) != since:
            raise _changed(profile, target)
        return _end(profile, process, target)
    except psutil.NoSuchProcess:
        return f"{target} was gone already."
    except psutil.AccessDenied:
        raise AccessDeniedError(
            f"{profile.name}: the worker may not end {target}, which holds the port: end it by hand."
        ) from None


def _find(profile: ServiceProfile, target: str) -> tuple[int, datetime]:
    for holder in observe_port.fn(profile).holders:
        if holder.identity == target and holder.left_behind and holder.pid and holder.since:
            return holder.pid, holder.since
    raise _changed(profile, target)


def _changed(profile: ServiceProfile, target: str) -> RefusedError:
    return RefusedError(
        f"{profile.name}: {target} is not left behind on the application's port any more: nothing was ended."
    )


def _end(profile: ServiceProfile, process: psutil.Process, target: str) -> str:
    process.terminate()
    if _has_ended(process):
        return f"{target} was told to end, and did."
    process.kill()
    if not _has_ended(process):
        raise UnreachableError(f"{profile.name}: {target} cannot be killed: see what it waits for with ps.")
    return f"{target} did not end when it was told to, and was killed."


def _has_ended(process: psutil.Process) -> bool:
    """Wait a moment for it to end; whom only its parent has not buried yet holds no port any more."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_SECONDS)
    return True
