"""systemd as a process manager, through systemctl."""

from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError
from tasks.host_program import Finished, find_program, run_program
from tasks.records.application import Application
from tasks.records.process import ProcessStatus

_PROPERTIES = "LoadState,ActiveState,SubState,MainPID,Result"
# systemd's own DefaultTimeoutStopSec is 90 s, then it kills.
_SECONDS = 180.0
_QUIET = {"NO_COLOR": "1", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
_REMEDY = "name it in application.process_manager_program, or correct application.process_manager"
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
        found = self._show()
        said = f"{found['ActiveState']} ({found['SubState']})"
        if found.get("Result", "success") != "success":
            said += f", result {found['Result']}"
        return ProcessStatus(
            running=found["ActiveState"] == "active",
            stopped=found["ActiveState"] in {"inactive", "failed"},
            detail=f"systemd says of {self._unit}: {said}",
        )

    def list_pids(self) -> list[int]:
        """Return the unit's main process, if it has one."""
        pid = int(self._show().get("MainPID", "0"))
        return [pid] if pid else []

    def stop(self) -> None:
        """Stop the unit, also one that systemd is about to start again."""
        self._command("stop")
        if (state := self._show()["ActiveState"]) not in {"inactive", "failed"}:
            raise UnreachableError(
                f"{self._service}: systemd did not stop {self._unit}, it is {state}: see journalctl -u "
                f"{self._unit}."
            )

    def start(self) -> None:
        """Start the unit; one that failed too often is forgiven first, or systemd would refuse."""
        if self._show()["ActiveState"] == "failed":
            self._command("reset-failed")
        self._command("start")

    def _show(self) -> dict[str, str]:
        finished = self._run("show", f"--property={_PROPERTIES}")
        found = dict(line.split("=", 1) for line in finished.output.splitlines() if "=" in line)
        if "ActiveState" not in found or "SubState" not in found:
            raise self._error("show", finished)
        if found.get("LoadState") != "loaded":
            raise ConfigurationError(
                f"{self._service}: systemd cannot load a unit {self._unit} ({found.get('LoadState')}): "
                "correct application.process_name, or install the unit."
            )
        return found

    def _command(self, verb: str) -> None:
        finished = self._run(verb)
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

    def _run(self, verb: str, *options: str) -> Finished:
        program = find_program("systemctl", self._program, _REMEDY)
        command = [program, "--no-pager", "--no-ask-password", verb, *options, "--", self._unit]
        finished = run_program(command, seconds=_SECONDS, extra=_QUIET)
        if finished.returncode is None:
            raise UnreachableError(
                f"{self._service}: systemctl {verb} {self._unit} did not finish within {_SECONDS:.0f} s: see "
                f"journalctl -u {self._unit}."
            )
        return finished
