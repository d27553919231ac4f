"""See what is left of the host's resources: disks, memory, processors."""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import UnreachableError
from tasks.own_processes import find_starters_homes, say_name
from tasks.records.evidence import DiskFacts, HostFacts
from tasks.records.observation import Complaint
from tasks.records.service import ServiceProfile
from tasks.time_limits import run_together

_MOMENT_SECONDS = 0.5
_DISK_SECONDS = 3.0
_BUSY_PERCENT = 10.0
_BUSIEST = 3
_PRESSURE = Path("/proc/pressure/cpu")
_WAITING = re.compile(r"^some avg10=(?P<percent>[\d.]+)", re.MULTILINE)
# At the top of what a process sees of its control groups there is a limit in a container, and none on a host.
_CGROUPS = Path("/sys/fs/cgroup")
_VERSION_2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
_VERSION_1 = (
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    "total_inactive_file",
)


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_host(profile: ServiceProfile) -> HostFacts:
    """Given a service, return its host's disks, as far as it uses them, its memory and its processors.

    Raise ``UnreachableError`` if a disk does not answer, as one of another host may not.
    """
    before = {process: _cpu_seconds(process) for process in psutil.process_iter()}
    psutil.cpu_percent(None)
    started = time.monotonic()
    disks = _observe_disks(profile)
    time.sleep(max(0.0, _MOMENT_SECONDS - (time.monotonic() - started)))
    total, available = _observe_memory()
    return HostFacts(
        at=datetime.now(UTC),
        disks=disks,
        memory_bytes=total,
        memory_available_bytes=available,
        cores=psutil.cpu_count() or 1,
        cpu_percent=psutil.cpu_percent(None),
        waiting_percent=_observe_waiting(),
        busiest=tuple(_list_busiest(before, time.monotonic() - started)),
    )


def _observe_disks(profile: ServiceProfile) -> tuple[DiskFacts, ...]:
    application = profile.application
    wanted = [
        application.directory,
        *(application.directory / path.parent for path in application.log_files),
        *_list_mounts(application.directory),
        *find_starters_homes(profile),
        profile.state_directory,
        Path(tempfile.gettempdir()),
    ]
    (found,) = run_together([lambda: _look_at_disks(wanted)], _DISK_SECONDS)
    if found is None:
        raise UnreachableError(
            f"{profile.name}: a disk does not answer within {_DISK_SECONDS:.0f} s: see df for which of "
            f"{', '.join(dict.fromkeys(map(str, wanted)))} it is."
        )
    return found


def _list_mounts(directory: Path) -> list[Path]:
    """Return what is mounted within the directory, as for logs or uploads."""
    inside = Path(os.path.realpath(directory))
    mounted = (Path(found.mountpoint) for found in psutil.disk_partitions(all=True))
    return sorted(path for path in mounted if path.is_relative_to(inside))


def _look_at_disks(wanted: list[Path]) -> tuple[DiskFacts, ...]:
    """Return one entry a file system, by the first path on it."""
    found: dict[int, DiskFacts] = {}
    for path in map(_existing, wanted):
        device = path.stat().st_dev
        if device not in found:
            status = os.statvfs(path)
            # What nobody can write to cannot become full.
            if status.f_flag & os.ST_RDONLY or not status.f_blocks:
                continue
            found[device] = DiskFacts(
                path=str(path),
                total_bytes=status.f_blocks * status.f_frsize,
                free_bytes=status.f_bavail * status.f_frsize,
                free_files=status.f_favail / status.f_files if status.f_files else None,
            )
    return tuple(found.values())


def _existing(path: Path) -> Path:
    """Return the folder, or the nearest one above it that is there and that we may look at."""
    return next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))


def _observe_memory() -> tuple[int, int]:
    """Return how much memory there is and how much of it can be had: a container's, where that is less."""
    host = psutil.virtual_memory()
    for limit, used, statistics, reclaimable in (_VERSION_2, _VERSION_1):
        with suppress(OSError, ValueError):
            total = int((_CGROUPS / limit).read_text(encoding="ascii"))
            in_use = int((_CGROUPS / used).read_text(encoding="ascii"))
            counted = dict(
                line.split() for line in (_CGROUPS / statistics).read_text(encoding="ascii").splitlines()
            )
            free = total - in_use + int(counted.get(reclaimable, "0"))
            if 0 < total < host.total:
                return total, max(0, min(free, host.available))
    return host.total, host.available


def _observe_waiting() -> float | None:
    with suppress(OSError):
        if found := _WAITING.search(_PRESSURE.read_text(encoding="ascii")):
            return float(found["percent"])
    return None


def _cpu_seconds(process: psutil.Process) -> float | None:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _list_busiest(before: dict[psutil.Process, float | None], seconds: float) -> Iterator[Complaint]:
    """Yield the processes that took most, by program and id only: a command line may hold a secret."""
    taken = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # One that began meanwhile took all of its time meanwhile.
            now, earlier = _cpu_seconds(process), before.get(process, 0.0)
            if now is not None and earlier is not None:
                taken.append(((now - earlier) / seconds * 100, f"{say_name(process)} ({process.pid})"))
    for percent, name in sorted(taken, reverse=True)[:_BUSIEST]:
        if percent >= _BUSY_PERCENT:
            yield Complaint(name=name, problem=f"takes {percent:.0f} % of a core")
