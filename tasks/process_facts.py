"""What the kernel knows of a process, which no process manager tells."""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import psutil

from tasks.records.process import KernelState

_STATES: dict[str, KernelState] = {
    psutil.STATUS_DISK_SLEEP: "waiting for a disk",
    psutil.STATUS_STOPPED: "suspended",
    psutil.STATUS_TRACING_STOP: "suspended",
    psutil.STATUS_ZOMBIE: "zombie",
    psutil.STATUS_DEAD: "zombie",
}
# Until a new program is in its place the kernel shows an empty environment: 24 ms were seen on a busy host.
_EXEC_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.01


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

    Empty if it is gone, not ours to look at, or was started with none, which takes a second to tell from
    one that has only just started. It may hold secrets.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        while not (environment := process.environ()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return environment
    return {}


def memory_of(pid: int) -> int | None:
    """Given a process id, return the memory that it has, or None if it is gone or not ours to look at."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(psutil.Process(pid).memory_info().rss)
    return None
