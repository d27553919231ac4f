"""systemd as a process manager, through systemctl and journalctl."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError
from tasks.host_program import Finished, find_program, run_program
from tasks.process_facts import kernel_state_of, memory_of
from tasks.records.application import Application
from tasks.records.process import InstanceState, ProcessInstance, ProcessStatus

_PROPERTIES = (
    "LoadState,ActiveState,SubState,MainPID,Result,NRestarts,ExecMainStartTimestamp,ExecMainStatus,"
    "ExecMainCode"
)
_STATES: dict[str, InstanceState] = {
    "active": "online",
    "reloading": "online",
    "refreshing": "online",
    "activating": "starting",
    "deactivating": "stopping",
    "inactive": "stopped",
    "failed": "errored",
}
# What systemd says of a number that it does not know.
_NOT_KNOWN = {"", "[not set]", "[no data]", "n/a", str(2**64 - 1)}
# CLD_KILLED and CLD_DUMPED of waitid(2): the status is then the signal, and a shell would add 128 to it.
_KILLED_OR_DUMPED, _BY_A_SIGNAL = {2, 3}, 128
_LOOK_SECONDS = 4.5
# systemd's own DefaultTimeoutStopSec is 90 s, then it kills.
_SECONDS = 180.0
_QUIET = {"NO_COLOR": "1", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_REMEDY = "name it in application.process_manager_program, or correct application.process_manager"
_JOURNAL_REMEDY = "install systemd's journalctl"
_DENIED = ("access denied", "authentication required", "permission denied", "not permitted")


class Systemd:
    """One unit under systemd."""

    def __init__(self, service: str, application: Application) -> None:
        """Take whose it is; nothing is asked yet."""
        self._service = service
        self._unit = application.process_name
        self._program = application.process_manager_program

    def observe(self) -> ProcessStatus:
        """Return how the unit is."""
        found = self._show(_LOOK_SECONDS)
        said = f"{found['ActiveState']} ({found['SubState']})"
        if found.get("Result", "success") != "success":
            said += f", result {found['Result']}"
        return ProcessStatus(
            running=found["ActiveState"] == "active",
            stopped=found["ActiveState"] in {"inactive", "failed"},
            detail=f"systemd says of {self._unit}: {said}",
            instances=(_tell(self._unit, found),),
        )

    def list_pids(self) -> list[int]:
        """Return the unit's main process, if it has one."""
        pid = int(self._show().get("MainPID", "0"))
        return [pid] if pid else []

    def list_log_files(self) -> tuple[Path, ...]:
        """Return nothing: a unit's output is in the journal."""
        return ()

    def read_journal(self, lines: int, since: datetime | None) -> tuple[str, ...] | None:
        """Return the unit's last lines in the journal."""
        program = find_program("journalctl", None, _JOURNAL_REMEDY)
        command = [
            program,
            "--no-pager",
            "--quiet",
            "--output=cat",
            f"--lines={lines}",
            f"--unit={self._unit}",
        ]
        if since is not None:
            command.append(f"--since=@{since.timestamp():.6f}")
        finished = run_program(command, seconds=_LOOK_SECONDS, extra=_QUIET)
        if finished.returncode != 0:
            raise AccessDeniedError(
                f"{self._service}: journalctl does not show the journal of {self._unit} (exit code "
                f"{finished.returncode}): add the worker's user to the group systemd-journal."
            )
        return tuple(finished.output.splitlines())

    def stop(self) -> None:
        """Stop the unit, also one that systemd is about to start again."""
        self.command("stop")
        if (state := self._show()["ActiveState"]) not in {"inactive", "failed"}:
            raise UnreachableError(
                f"{self._service}: systemd did not stop {self._unit}, it is {state}: see journalctl -u "
                f"{self._unit}."
            )

    def start(self) -> None:
        """Start the unit; one that failed too often is forgiven first, or systemd would refuse."""
        if self._show()["ActiveState"] == "failed":
            self.command("reset-failed")
        self.command("start")

    def reload(self) -> None:
        """Let the unit read its settings anew, or restart it where it has no way to."""
        self.command("reload-or-restart")

    def _show(self, seconds: float = _SECONDS) -> dict[str, str]:
        finished = self._run("show", f"--property={_PROPERTIES}", seconds=seconds)
        found = dict(line.split("=", 1) for line in finished.output.splitlines() if "=" in line)
        if "ActiveState" not in found or "SubState" not in found:
            raise self._error("show", finished)
        if found.get("LoadState") != "loaded":
            raise ConfigurationError(
                f"{self._service}: systemd cannot load a unit {self._unit} ({found.get('LoadState')}): "
                "correct application.process_name, or install the unit."
            )
        return found

    def read(self, name: str) -> str:
        """Return a property of the unit, empty if systemd does not know the unit."""
        finished = self._run("show", f"--property={name}", seconds=_LOOK_SECONDS)
        found = (
            line.partition("=")[2] for line in finished.output.splitlines() if line.startswith(f"{name}=")
        )
        return next(found, "")

    def load_files(self) -> None:
        """Let systemd read the files of all units anew."""
        self.command("daemon-reload", of_unit=False)

    def command(self, verb: str, *, of_unit: bool = True) -> None:
        """Let systemctl do something to the unit, or to systemd itself; raise if it fails."""
        finished = self._run(verb, of_unit=of_unit)
        if finished.returncode != 0:
            raise self._error(verb, finished)

    def _error(self, verb: str, finished: Finished) -> AccessDeniedError | UnreachableError:
        if any(word in finished.output.lower() for word in _DENIED):
            return AccessDeniedError(
                f"{self._service}: the worker may not {verb} {self._unit}: allow its user to, by polkit."
            )
        return UnreachableError(
            f"{self._service}: systemctl {verb} {self._unit} failed (exit code {finished.returncode}): see "
            f"journalctl -u {self._unit}."
        )

    def _run(self, verb: str, *options: str, seconds: float = _SECONDS, of_unit: bool = True) -> Finished:
        program = find_program("systemctl", self._program, _REMEDY)
        about = ("--", self._unit) if of_unit else ()
        command = [program, "--no-pager", "--no-ask-password", verb, *options, *about]
        finished = run_program(command, seconds=seconds, extra=_QUIET)
        if finished.returncode is None:
            raise UnreachableError(
                f"{self._service}: systemctl {verb} {self._unit} did not finish within {seconds:.3g} s: see "
                f"journalctl -u {self._unit}."
            )
        return finished


def _tell(unit: str, found: dict[str, str]) -> ProcessInstance:
    state = _STATES.get(found["ActiveState"], "errored")
    if found["SubState"] == "auto-restart":
        state = "starting"
    pid = _number(found, "MainPID") or None
    restarts = _number(found, "NRestarts")
    # Its last end stays the result where systemd restarted it by itself until the limit was reached.
    limited = found.get("Result") == "start-limit-hit" or bool(restarts)
    return ProcessInstance(
        name=unit,
        state=state,
        pid=pid,
        kernel_state=kernel_state_of(pid) if pid else None,
        since=_time(found.get("ExecMainStartTimestamp", "")) if pid else None,
        restarts=restarts,
        given_up=state == "errored" and limited,
        exit_code=_read_exit_code(found) if pid is None else None,
        # systemd's MemoryCurrent counts the page cache, too: a log that grows would look like a leak.
        memory_bytes=memory_of(pid) if pid else None,
    )


def _read_exit_code(found: dict[str, str]) -> int | None:
    code, status = _number(found, "ExecMainCode"), _number(found, "ExecMainStatus")
    # Of a process that lives or never was, the code is 0.
    if not code or status is None:
        return None
    return _BY_A_SIGNAL + status if code in _KILLED_OR_DUMPED else status


def _number(found: dict[str, str], name: str) -> int | None:
    said = found.get(name, "")
    return None if said in _NOT_KNOWN else int(said)


def _time(said: str) -> datetime | None:
    """Read what systemd says in the zone that we ask for, as "Sun 2026-11-22 07:43:57 UTC"."""
    with suppress(ValueError):
        return datetime.strptime(said.removesuffix(" UTC"), "%a %Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return None
