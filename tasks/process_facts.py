"""What the kernel knows of a process, which no process manager tells."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import psutil

from tasks.records.process import KernelState

_STATES: dict[str, KernelState] = {
    psutil.STATUS_DISK_SLEEP: "waiting for a disk",
    psutil.STATUS_STOPPED: "suspended",
    psutil.STATUS_TRACING_STOP: "suspended",
    psutil.STATUS_ZOMBIE: "zombie",
    psutil.STATUS_DEAD: "zombie",
}


def kernel_state_of(pid: int) -> KernelState:
    """Given a process id, return what the process does; all kinds of waiting are a part of running."""
    try:
        return _STATES.get(psutil.Process(pid).status(), "running")
    except psutil.NoSuchProcess:
        return "gone"


def start_of(pid: int) -> datetime | None:
    """Given a process id, return when that process started, or None if it is gone."""
    with suppress(psutil.NoSuchProcess):
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC)
    return None


def environment_of(pid: int) -> Mapping[str, str]:
    """Given a process id, return the environment that the process was started with.

    Empty if it is gone or not ours to look at. It may hold secrets.
    """
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return psutil.Process(pid).environ()
    return {}


def memory_of(pid: int) -> int | None:
    """Given a process id, return the memory that it has, or None if it is gone or not ours to look at."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(psutil.Process(pid).memory_info().rss)
    return None
