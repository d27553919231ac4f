"""Observe the application's processes as the kernel sees them, beside what their manager says."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.process_manager import observe_application
from tasks.records.process import ProcessInstance, ProcessStatus
from tasks.records.service import ServiceProfile

_MOMENT_SECONDS: Final = 0.5


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_processes(profile: ServiceProfile) -> ProcessStatus:
    """Given a service, return how each process of its application is and what it computes.

    PM2's own figure is the mean since somebody asked last, or else of the process's whole life: what began
    to compute an hour ago seems idle. Raise what ``observe_application`` raises.
    """
    status = observe_application.fn(profile)
    before = {instance.pid: _Usage.read(instance.pid) for instance in status.instances if instance.pid}
    if before:
        time.sleep(_MOMENT_SECONDS)
    measured = (_measure(instance, before.get(instance.pid or 0)) for instance in status.instances)
    return status.model_copy(update={"instances": tuple(measured)})


@dataclass(frozen=True)
class _Usage:
    """What a process had of the cores until a moment, in seconds, as did its first thread wait for one."""

    at: float
    process: psutil.Process
    computed: float
    waited: float | None

    @classmethod
    def read(cls, pid: int) -> Self | None:
        """Return what the kernel counts, or None if the process has ended or is not ours to look at."""
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(pid)
            computed = sum(process.cpu_times()[:2])
            if process.status() != psutil.STATUS_ZOMBIE:
                return cls(time.monotonic(), process, computed, _read_waited(pid))
        return None


def _read_waited(pid: int) -> float | None:
    """Return how long the first thread, Node.js' own, was ready and had no core; only Linux counts it."""
    try:
        # Nanoseconds on a core, nanoseconds ready and without one, turns: the kernel's sched-stats.rst.
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return None


def _measure(instance: ProcessInstance, before: _Usage | None) -> ProcessInstance:
    after = _Usage.read(instance.pid) if instance.pid else None
    # A process is equal to another only if both started at the same time: its id may be another's by now.
    if before is None or after is None or before.process != after.process:
        return instance
    seconds = after.at - before.at
    waited = None if before.waited is None or after.waited is None else after.waited - before.waited
    return instance.model_copy(
        update={
            "cpu_percent": 100 * (after.computed - before.computed) / seconds,
            "waiting_percent": None if waited is None else 100 * waited / seconds,
        }
    )
