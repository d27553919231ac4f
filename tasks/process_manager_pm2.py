"""PM2 as a process manager, looked at through its daemon and ordered about through its command.

Everything is done by PM2's ids: it takes a name like ``all``, ``/x/`` or ``server.js`` for something else.
One look serves until something is done.
"""

import re
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.errors import ConfigurationError, UnreachableError
from tasks.host_program import Finished
from tasks.pm2_listing import cannot_be_read, list_entries, run_pm2
from tasks.process_facts import kernel_state_of
from tasks.records.application import Application
from tasks.records.process import InstanceState, ProcessInstance, ProcessStatus

_ONLINE, _LAUNCHING, _STOPPED, _ERRORED = "online", "launching", "stopped", "errored"
_WAITING = "waiting restart"
_ALIVE = {_ONLINE, _LAUNCHING, "stopping"}
# PM2 waits for every instance's listen_timeout or kill_timeout in turn.
_SECONDS = 180.0
_LOOK_SECONDS = 4.5
_STOPS = 4
# So long PM2 may take, on a busy host, until the process that it was starting is in its list.
_RETURN_SECONDS = 1.0
# PM2's own kill_timeout, and what the rest of a stop and a start may take.
_KILL_MILLISECONDS, _MARGIN_MILLISECONDS = 1600, 1000
# A name that PM2 takes for nothing but a name.
_PLAIN_NAME = re.compile(r"(?!all$)[A-Za-z][\w-]*")
_STATES: dict[str, InstanceState] = {
    _ONLINE: "online",
    _LAUNCHING: "starting",
    _WAITING: "starting",
    "one-launch-status": "starting",
    "stopping": "stopping",
    _STOPPED: "stopped",
}


@dataclass(frozen=True)
class _Instance:
    """Of what PM2 lists, the little that is needed: the rest holds the application's secrets."""

    pm_id: int
    pid: int
    status: str
    started_at: datetime | None
    restarts: int | None
    unstable_restarts: int | None
    restarted_alone: bool | None
    exit_code: int | None
    memory_bytes: int | None
    log_files: tuple[Path, ...]

    @property
    def is_alive(self) -> bool:
        """Whether its id is a process's own: a crashed one's may be another process's by now."""
        return bool(self.pid) and self.status in _ALIVE


class Pm2:
    """One application under PM2, with all its instances; for one act, or one look."""

    def __init__(self, service: str, application: Application) -> None:
        """Take whose it is; nothing is asked yet."""
        self._service = service
        self._application = application
        self._name = application.process_name
        self._seen: list[_Instance] | None = None

    def observe(self) -> ProcessStatus:
        """Return how the application is."""
        instances = self._list(_LOOK_SECONDS)
        counted = Counter(instance.status for instance in instances)
        said = ", ".join(f"{count} {status}" for status, count in sorted(counted.items()))
        return ProcessStatus(
            running=all(instance.status == _ONLINE for instance in instances),
            stopped=all(instance.status == _STOPPED for instance in instances),
            detail=f"PM2 says of {self._name}: {said}",
            instances=tuple(_tell(instance) for instance in instances),
        )

    def list_pids(self) -> list[int]:
        """Return the processes of all instances."""
        return [found.pid for found in self._list() if found.is_alive]

    def list_log_files(self) -> tuple[Path, ...]:
        """Return the files that the instances' output goes to, those of errors last."""
        paths = [path for found in self._list(_LOOK_SECONDS) for path in found.log_files]
        return tuple(sorted(dict.fromkeys(paths), key=lambda path: "err" in path.name))

    def read_journal(self, lines: int, since: datetime | None) -> tuple[str, ...] | None:
        """Return None: PM2 has files."""
        del lines, since
        return None

    def stop(self) -> None:
        """Stop every instance, also one that PM2 is about to start again."""
        left = self._list_not_stopped()
        for _ in range(_STOPS):
            if not left:
                return
            self._command("stop", left)
            if self._may_return(left):
                # Ends also what PM2 put off until restart_delay is over (PM2 7: God.handleExit).
                self._command("stop", left)
                time.sleep(_RETURN_SECONDS)
                self._seen = None
            # Of one that crashed meanwhile too often, nothing runs or will be started again.
            left = [found for found in self._list_not_stopped() if found.status != _ERRORED]
        if left:
            raise UnreachableError(
                f"{self._service}: PM2 did not stop {self._name}, {len(left)} of it is {left[0].status}: see "
                f"pm2 logs {self._name}."
            )

    def start(self) -> None:
        """Start every instance that neither runs nor is being started; PM2 calls that ``restart``."""
        if not (down := self._list_down()):
            return
        # One that crashed has a restart of PM2's own before it, and may keep its dead process's id.
        if crashed := [found for found in down if found.status != _STOPPED]:
            self._command("stop", crashed)
        finished = self._command("restart", down)
        # That also fails when somebody else starts it.
        if finished.returncode != 0 and self._list_down():
            raise UnreachableError(
                f"{self._service}: PM2 did not start {self._name} (exit code {finished.returncode}): see pm2 "
                f"logs {self._name}."
            )

    def reload(self) -> None:
        """Start a second process of each instance in turn, and end the first when the second is ready.

        The application keeps the environment that it has: ours is the worker's. An instance that is no part
        of a cluster is restarted.
        """
        # Of a number, PM2 7 never hears that it is ready, and waits for all of listen_timeout.
        is_plain = _PLAIN_NAME.fullmatch(self._name)
        names = [self._name] if is_plain else [str(one.pm_id) for one in self._list()]
        self._seen = None
        for name in names:
            finished = self._run("reload", name)
            if finished.returncode != 0:
                # Of a name that it does not know, the look says so.
                self._list()
                raise UnreachableError(
                    f"{self._service}: PM2 did not reload {self._name} (exit code {finished.returncode}): "
                    f"see pm2 logs {self._name}."
                )

    def _may_return(self, before: list[_Instance]) -> bool:
        """Tell whether one had crashed before its stop: PM2 forgets a stop while it starts a process."""
        restarts = {found.pm_id: found.restarts for found in self._list()}
        return any(one.status != _ONLINE or one.restarts != restarts.get(one.pm_id) for one in before)

    def _list_not_stopped(self) -> list[_Instance]:
        return [found for found in self._list() if found.status != _STOPPED]

    def _list_down(self) -> list[_Instance]:
        return [found for found in self._list() if found.status not in {_ONLINE, _LAUNCHING}]

    def _command(self, verb: str, instances: list[_Instance]) -> Finished:
        self._seen = None
        return self._run(verb, *(str(instance.pm_id) for instance in instances))

    def _list(self, seconds: float = _SECONDS) -> list[_Instance]:
        if self._seen is None:
            self._seen = self._look(seconds)
        return self._seen

    def _look(self, seconds: float) -> list[_Instance]:
        with self._saying_whose():
            instances = _parse(list_entries(self._application, seconds))
        if not instances:
            raise ConfigurationError(
                f"{self._service}: PM2 does not know {self._name}: start it once with pm2 start, as the "
                "worker's user, or correct application.process_name."
            )
        return instances

    def _run(self, verb: str, *arguments: str) -> Finished:
        with self._saying_whose():
            return run_pm2(self._application, verb, *arguments, seconds=_SECONDS)

    @contextmanager
    def _saying_whose(self) -> Generator[None]:
        try:
            yield
        except UnreachableError as error:
            raise UnreachableError(f"{self._service}: {error}") from None


def _parse(entries: Sequence[dict[str, Any]]) -> list[_Instance]:
    try:
        return [_take(entry) for entry in entries]
    except (ValueError, KeyError, TypeError):
        # What cannot be read may hold the application's secrets: it is not repeated.
        raise cannot_be_read() from None


def _take(entry: dict[str, Any]) -> _Instance:
    about, monitored = entry["pm2_env"], entry.get("monit") or {}
    status = _status_of(entry)
    started = about.get("pm_uptime")
    # pm_log_path is both of the others once more.
    paths = (about.get("pm_out_log_path"), about.get("pm_err_log_path"))
    return _Instance(
        pm_id=entry["pm_id"],
        # PM2 7 has none of what was stopped when it was resurrected.
        pid=entry.get("pid") or 0,
        status=status,
        started_at=datetime.fromtimestamp(started / 1000, UTC) if started else None,
        restarts=about.get("restart_time"),
        unstable_restarts=about.get("unstable_restarts"),
        restarted_alone=_is_restarted_alone(status, about),
        exit_code=about.get("exit_code"),
        memory_bytes=monitored.get("memory"),
        log_files=tuple(Path(path) for path in paths if path and path != "/dev/null"),
    )


def _status_of(entry: dict[str, Any]) -> str:
    """Return PM2's word; of what ended it says for a moment that it is stopped, and starts it again.

    What is to stay stopped has lost its process's id (PM2 7: God.handleExit, God.stopProcessId).
    """
    status: str = entry["pm2_env"]["status"]
    return _WAITING if status == _STOPPED and entry.get("pid") else status


def _is_restarted_alone(status: str, about: dict[str, Any]) -> bool | None:
    """Tell whether PM2 started it later than it was told to; its exit code is 0 also after a signal.

    What PM2 calls created is when somebody last had it started, restarted or reloaded: the stop before that
    takes up to ``kill_timeout``.
    """
    if status == _WAITING:
        return True
    ordered, started = about.get("created_at"), about.get("pm_uptime")
    if not ordered or not started:
        return None
    stopping = int(about.get("kill_timeout") or _KILL_MILLISECONDS)
    return bool(started - ordered > stopping + _MARGIN_MILLISECONDS)


def _tell(found: _Instance) -> ProcessInstance:
    alive = found.is_alive
    return ProcessInstance(
        name=str(found.pm_id),
        state=_STATES.get(found.status, "errored"),
        pid=found.pid if alive else None,
        kernel_state=kernel_state_of(found.pid) if alive else None,
        since=found.started_at if alive else None,
        restarts=found.restarts,
        unstable_restarts=found.unstable_restarts,
        restarted_alone=found.restarted_alone,
        given_up=found.status == _ERRORED,
        exit_code=found.exit_code,
        memory_bytes=found.memory_bytes if alive else None,
    )
