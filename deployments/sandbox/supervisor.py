"""Start, watch and stop the processes of one sandbox, and find those that an unclean stop left behind.

Every process is in a session of its own, has a pid file with its start time (a pid alone may belong to
somebody else by now), and carries the state folder in an environment variable, so that it is found even when
its pid file was never written.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psutil

from deployments.sandbox.errors import SandboxError

MARKER = "OPERATIONS_SANDBOX"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
POLL_SECONDS = 0.03
LOG_TAIL_BYTES = 1500
START_TICKS_FIELD = 19  # of /proc/PID/stat, counted after the command name

# Children of this interpreter, kept so that they are reaped: a zombie would look alive to its parent only.
_children: dict[int, "subprocess.Popen[bytes]"] = {}


class Supervisor:
    """The processes of the sandbox that lives in one state folder."""

    def __init__(self, state: Path) -> None:
        """Take the state folder; nothing is started or made here."""
        self.state = state.resolve()
        self.is_given_up = Event()
        """Set while a start is given up: whoever waits for a process stops waiting."""

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the clean environment that every process starts with: nothing of the caller's leaks in."""
        clean = {
            "PATH": SYSTEM_PATH,
            "HOME": str(self.state),
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
        }
        return {**clean, **(extra or {}), **self.marker}

    @property
    def marker(self) -> dict[str, str]:
        """Return the variable that every process of this sandbox carries."""
        return {MARKER: str(self.state)}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two commands on one state folder apart; the kernel frees the lock of a killed one."""
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.state / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.state / "log" / f"{name}.log"

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start a process in the background; its output goes to its log."""
        self._pid_file(name).parent.mkdir(parents=True, exist_ok=True)
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(environment),
                cwd=folder or "/",
                start_new_session=True,
            )
        _children[child.pid] = child
        self._pid_file(name).write_text(f"{child.pid} {_start_ticks(child.pid)}\n", encoding="ascii")

    def process(self, name: str) -> psutil.Process | None:
        """Return the living process of this name, or None."""
        try:
            pid, ticks = self._pid_file(name).read_text(encoding="ascii").split()
        except (FileNotFoundError, ValueError):
            return None
        return living(int(pid)) if _start_ticks(int(pid)) == ticks else None

    def wait_until(self, name: str, missing: Callable[[], str | None], *, seconds: float) -> None:
        """Wait until `missing` returns None; until then it returns what is missing.

        Raises:
            SandboxError: the process died or was not ready in time; carries the end of its log.
        """
        deadline = time.monotonic() + seconds
        while True:
            reason = missing()
            if reason is None:
                return
            if self.process(name) is None:
                raise SandboxError(f"{name} stopped while it was starting. {self.log_tail(name)}")
            if self.is_given_up.is_set() or time.monotonic() > deadline:
                raise SandboxError(
                    f"{name} was not ready after {seconds:.0f} s ({reason}). {self.log_tail(name)}"
                )
            time.sleep(POLL_SECONDS)

    def log_tail(self, name: str) -> str:
        """Return the end of a log as a sentence, for an error message."""
        try:
            text = self.log(name).read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return f"There is no {self.log(name)}."
        return f"The end of {self.log(name)}:\n{text}"

    def stop(self, name: str, with_signal: signal.Signals, *, seconds: float) -> None:
        """Ask a process to stop, and kill it and its children after so many seconds."""
        process = self.process(name)
        if process is not None:
            tree = family(process)
            _send(process, with_signal)
            _wait_for_end([process], seconds)
            kill_all([member for member in tree if living(member.pid) is not None])
        self._pid_file(name).unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """Take a process away without a word, as a crash or the OOM killer would."""
        process = self.process(name)
        if process is not None:
            kill_all(family(process))
        self._pid_file(name).unlink(missing_ok=True)

    def marked(self) -> list[psutil.Process]:
        """Return every living process that was started for this state folder, pid file or not."""
        mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        return [
            process
            for process in psutil.process_iter()
            if process.pid not in mine and living(process.pid) is not None and self.owns(process)
        ]

    def kill_strays(self, keep: Iterable[psutil.Process] = ()) -> list[str]:
        """Kill every marked process outside the families of those to keep; return what was killed."""
        kept = {member.pid for process in keep for member in family(process)}
        names: list[str] = []
        # Again until a look finds none: one of them may have started another between look and kill.
        while strays := [process for process in self.marked() if process.pid not in kept]:
            names += [f"{_name(process)} ({process.pid})" for process in strays]
            kill_all(strays)
        return names

    def owns(self, process: psutil.Process) -> bool:
        """Tell whether a process was started for this state folder."""
        try:
            if process.environ().get(MARKER) == str(self.state):
                return True
            # PostgreSQL's children write their titles over their environment; their folder tells them.
            return process.name() == "postgres" and Path(process.cwd()).is_relative_to(self.state)
        except (psutil.Error, OSError):
            return False

    def _pid_file(self, name: str) -> Path:
        return self.state / "run" / f"{name}.pid"


def living(pid: int) -> psutil.Process | None:
    """Return the process unless it is gone or a zombie; a child of ours that ended is reaped on the way."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
        return None
    try:
        process = psutil.Process(pid)
        # A child that is not reaped yet has threads that end, and that hold its files and their locks.
        is_over = child is None and process.status() == psutil.STATUS_ZOMBIE
        return None if is_over else process
    except psutil.NoSuchProcess:
        return None


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all that descend from it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def kill_all(processes: Iterable[psutil.Process], seconds: float = 10) -> None:
    """Send SIGKILL to all and wait until they are gone."""
    doomed = list(processes)
    for process in doomed:
        _send(process, signal.SIGKILL)
    _wait_for_end(doomed, seconds)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _wait_for_end(processes: Iterable[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        while living(process.pid) is not None and process.is_running() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "a process that is gone"


def _start_ticks(pid: int) -> str | None:
    """Return when the process started, in the kernel's own ticks, which no clock change moves."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[START_TICKS_FIELD]
