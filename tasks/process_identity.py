"""Who this process is, so that another one on the same host can tell for certain that it is dead."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

UNKNOWN: Final = "unknown"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE: Final = Path("/proc/self/ns/pid")
# Of /proc/PID/stat, counted after the command name: the kernel's own ticks, which no clock change moves.
_START_TICKS_FIELD: Final = 19


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of a host since its boot. Containers count as hosts: each has process ids of its own."""

    host: str
    boot: str
    pid: int
    process_started: str


def this_process() -> ProcessIdentity:
    """Return who we are. Asked anew each time, because a fork changes it."""
    pid = os.getpid()
    return ProcessIdentity(socket.gethostname(), _boot(), pid, _started(pid) or UNKNOWN)


def is_dead_for_certain(other: ProcessIdentity) -> bool:
    """Tell whether the process is of this host and boot and gone; its id may be another's by now."""
    if other.host != socket.gethostname() or other.boot != _boot() or other.process_started == UNKNOWN:
        return False
    return _started(other.pid) not in {other.process_started, UNKNOWN}


def _boot() -> str:
    """Name this boot of this host, and on Linux the space in which a process id means something."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        return f"{boot} {_PID_NAMESPACE.readlink()}"
    except OSError:
        return str(int(psutil.boot_time()))


def _started(pid: int) -> str | None:
    """Return when the process started, ``UNKNOWN`` if it does not show, None if it is gone or a zombie."""
    if not sys.platform.startswith("linux"):
        return _started_elsewhere(pid)
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return UNKNOWN if _is_hidden(pid) else None
    fields = status.rpartition(b")")[2].split()
    return None if fields[0] in {b"Z", b"X"} else fields[_START_TICKS_FIELD].decode("ascii")


def _is_hidden(pid: int) -> bool:
    """Tell whether the process lives although /proc, mounted with hidepid, does not show it to us."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return UNKNOWN
