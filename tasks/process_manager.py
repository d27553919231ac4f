"""Stop, start and observe the application through what keeps it running on this host."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.deliberate_stop import forget_stop
from tasks.errors import AccessDeniedError, UnreachableError
from tasks.process_manager_pm2 import Pm2
from tasks.process_manager_systemd import Systemd
from tasks.process_manager_windows import WindowsService
from tasks.records.process import ProcessStatus
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

_END_SECONDS = 10.0
_POLL_SECONDS = 0.05

_ONCE = task(cache_policy=NO_CACHE, persist_result=False)


class ProcessManager(Protocol):
    """What keeps an application running; a name that it does not know is a ``ConfigurationError``."""

    def observe(self) -> ProcessStatus:
        """Return how the application is."""
        ...

    def list_pids(self) -> list[int]:
        """Return the application's processes on this host, without what they started themselves."""
        ...

    def list_log_files(self) -> tuple[Path, ...]:
        """Return the files that it keeps of what the application says, those of errors last."""
        ...

    def read_journal(self, lines: int, since: datetime | None) -> tuple[str, ...] | None:
        """Return the last lines of what it keeps elsewhere than in files, None if it does not."""
        ...

    def stop(self) -> None:
        """Stop it, and return when it is to stay stopped."""
        ...

    def start(self) -> None:
        """Start what of it does not run."""
        ...

    def reload(self) -> None:
        """Put new processes in the place of all that run, without an outage where it can."""
        ...


def manager_of(profile: ServiceProfile) -> ProcessManager:
    """Return what keeps the service's application running; nothing is asked yet."""
    match profile.application.process_manager:
        case "pm2":
            return Pm2(profile.name, profile.application)
        case "systemd":
            return Systemd(profile.name, profile.application)
        case "windows":
            return WindowsService(profile.name, profile.application)


@retried
def observe_application(profile: ServiceProfile) -> ProcessStatus:
    """Given a service, return whether all of its application runs, and how each process of it is.

    A look takes at most five seconds. Raise ``UnreachableError`` if the process manager does not answer in
    time, ``ConfigurationError`` if the process manager is missing or does not know it.
    """
    return manager_of(profile).observe()


@retried
def stop_application(profile: ServiceProfile) -> None:
    """Given a service, stop its application and return when no process of it is left, if there was any.

    Raise ``UnreachableError`` if the process manager does not manage to, ``AccessDeniedError`` if the worker
    may not, ``ConfigurationError`` if the process manager is missing or does not know it.
    """
    _stop(profile, manager_of(profile))


def _stop(profile: ServiceProfile, manager: ProcessManager) -> None:
    before = _families(manager.list_pids())
    manager.stop()
    _end(profile, before + _families(manager.list_pids()))


@retried
def start_application(profile: ServiceProfile) -> None:
    """Given a service, start what of its application does not run; ``await_health`` says if it stays up.

    From then on it is not stopped on purpose any more.

    Raise ``UnreachableError`` if it cannot be started, ``AccessDeniedError`` if the worker may not,
    ``ConfigurationError`` if the process manager is missing or does not know it.
    """
    manager_of(profile).start()
    forget_stop.fn(profile)


@_ONCE
def reload_application(profile: ServiceProfile) -> None:
    """Given a service whose application runs, put new processes in the place of those that run.

    A cluster under PM2 serves all the while, and a unit that can reload; what cannot is restarted. Raise what
    ``start_application`` raises.
    """
    manager_of(profile).reload()


@_ONCE
def restart_application(profile: ServiceProfile) -> None:
    """Given a service, stop its application until no process of it is left, and start it.

    Raise what ``stop_application`` and ``start_application`` raise.
    """
    manager = manager_of(profile)
    _stop(profile, manager)
    manager.start()
    forget_stop.fn(profile)


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
