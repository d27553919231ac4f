"""Stop, start and observe the application through what keeps it running on this host."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import psutil

from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError
from tasks.process_manager_pm2 import Pm2
from tasks.process_manager_systemd import Systemd
from tasks.records.process import ProcessStatus
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

_END_SECONDS = 10.0
_POLL_SECONDS = 0.05


class ProcessManager(Protocol):
    """What keeps an application running; a name that it does not know is a ``ConfigurationError``."""

    def observe(self) -> ProcessStatus:
        """Return how the application is."""
        ...

    def list_pids(self) -> list[int]:
        """Return the application's processes, without what they started themselves."""
        ...

    def stop(self) -> None:
        """Stop it, and return when it is to stay stopped."""
        ...

    def start(self) -> None:
        """Start what of it does not run."""
        ...


def _manager_of(profile: ServiceProfile) -> ProcessManager:
    match profile.application.process_manager:
        case "pm2":
            return Pm2(profile.name, profile.application)
        case "systemd":
            return Systemd(profile.name, profile.application)
        case "windows":
            raise ConfigurationError(
                f"{profile.name}: applications on Windows can be backed up, but not stopped or started: stop "
                "and start it by hand."
            )


@retried
def observe_application(profile: ServiceProfile) -> ProcessStatus:
    """Given a service, return whether all of its application runs, and what its process manager says of it.

    Raise ``ConfigurationError`` if the process manager is missing or does not know it.
    """
    return _manager_of(profile).observe()


@retried
def stop_application(profile: ServiceProfile) -> None:
    """Given a service, stop its application and return when no process of it is left, if there was any.

    Raise ``UnreachableError`` if the process manager does not manage to, ``AccessDeniedError`` if the worker
    may not, ``ConfigurationError`` if the process manager is missing or does not know it.
    """
    manager = _manager_of(profile)
    before = _families(manager.list_pids())
    manager.stop()
    _end(profile, before + _families(manager.list_pids()))


@retried
def start_application(profile: ServiceProfile) -> None:
    """Given a service, start what of its application does not run; ``await_health`` says if it stays up.

    Raise ``UnreachableError`` if it cannot be started, ``AccessDeniedError`` if the worker may not,
    ``ConfigurationError`` if the process manager is missing or does not know it.
    """
    _manager_of(profile).start()


def _families(pids: Sequence[int]) -> list[psutil.Process]:
    """Return the processes that live, with all that descend from them."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def _end(profile: ServiceProfile, processes: Sequence[psutil.Process]) -> None:
    """Kill what outlived the stop, as a child that ignores signals does: it would still write."""
    # is_running compares start times: an id may be another process's by now.
    if not (left := _living(processes)):
        return
    try:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    except psutil.AccessDenied as error:
        raise AccessDeniedError(
            f"{profile.name}: process {error.pid} of {profile.application.process_name} outlived its stop, "
            "and the worker may not kill it: stop it by hand."
        ) from None
    deadline = time.monotonic() + _END_SECONDS
    while left := _living(left):
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"{profile.name}: process {left[0].pid} of {profile.application.process_name} cannot be "
                "killed: see what it waits for with ps."
            )
        time.sleep(_POLL_SECONDS)


def _living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    living = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living
