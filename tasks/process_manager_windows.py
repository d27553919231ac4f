"""A Windows service as a process manager, through sc.

The worker runs on Linux, and a program that stands for ``sc`` asks the Windows host: a process id there is no
process of the worker's host, so none is told.

``sc`` and not ``net``: ``net`` ends with 2 whatever was wrong, and waits as long as it likes.
"""

import re
import time
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError, UnreachableError
from tasks.host_program import Finished, find_program, run_program
from tasks.records.application import Application
from tasks.records.process import InstanceState, ProcessInstance, ProcessStatus

_STATES: dict[str, InstanceState] = {
    "STOPPED": "stopped",
    "START_PENDING": "starting",
    "STOP_PENDING": "stopping",
    "RUNNING": "online",
    "CONTINUE_PENDING": "starting",
    "PAUSE_PENDING": "stopping",
    "PAUSED": "stopped",
}
# Labels are in the language of the host, these words are not.
_STATE = re.compile(rf":\s*[1-7]\s+({'|'.join(_STATES)})\b")
_EXIT_CODE = re.compile(r"^\s*WIN32_EXIT_CODE\s*:\s*(\d+)", re.MULTILINE)
# "[SC] OpenService FAILED 5:", in any language; an exit code of a shell between has one byte only.
_ERROR = re.compile(r"^\[SC\].*?(\d+)\s*:\s*$", re.MULTILINE)

_DENIED, _NO_ANSWER, _RUNS, _DISABLED, _UNKNOWN, _NOT_STARTED = 5, 1053, 1056, 1058, 1060, 1062
_LOGON_FAILED = 1069
_NEVER_STARTED = 1077
_LOOK_SECONDS = 4.5
_SECONDS = 60.0
_PENDING_SECONDS = 60.0
_POLL_SECONDS = 0.1
_REMEDY = "name it in application.process_manager_program, or correct application.process_manager"


class WindowsService:
    """One Windows service."""

    def __init__(self, service: str, application: Application) -> None:
        """Take whose it is; nothing is asked yet."""
        self._service = service
        self._name = application.process_name
        self._program = application.process_manager_program

    def observe(self) -> ProcessStatus:
        """Return how the service is."""
        found = self._query(_LOOK_SECONDS)
        state = _state_of(found)
        code = int(said[1]) if (said := _EXIT_CODE.search(found.output)) else None
        is_stopped = state == "STOPPED"
        # A service that was never started since the host was says so by a code of its own.
        exited = code if is_stopped and code != _NEVER_STARTED else None
        ended = f", exit code {exited}" if exited else ""
        instance = ProcessInstance(
            name=self._name,
            state="errored" if exited else _STATES[state],
            exit_code=exited,
        )
        return ProcessStatus(
            running=state == "RUNNING",
            stopped=is_stopped,
            detail=f"Windows says of {self._name}: {state}{ended}",
            instances=(instance,),
        )

    def list_pids(self) -> list[int]:
        """Return nothing: here its number would be a stranger's."""
        return []

    def list_log_files(self) -> tuple[Path, ...]:
        """Return nothing: Windows keeps no service's output."""
        return ()

    def read_journal(self, lines: int, since: datetime | None) -> tuple[str, ...] | None:
        """Return None: what the service writes to the event log is not its output."""
        del lines, since
        return None

    def stop(self) -> None:
        """Stop the service, and wait until it is."""
        self._settle({"START_PENDING", "CONTINUE_PENDING", "PAUSE_PENDING"})
        self._command("stop", {_NOT_STARTED})
        self._settle({"STOP_PENDING", "RUNNING"}, "STOPPED")

    def start(self) -> None:
        """Start the service, and wait until it runs."""
        self._settle({"STOP_PENDING"})
        self._command("start", {_RUNS})
        self._settle({"START_PENDING"}, "RUNNING")

    def reload(self) -> None:
        """Stop and start it: Windows has no other way."""
        self.stop()
        self.start()

    def _settle(self, passing: set[str], wanted: str | None = None) -> None:
        """Wait while the service is in a state that passes; raise if another than the wanted one follows."""
        deadline = time.monotonic() + _PENDING_SECONDS
        while (state := _state_of(self._query())) in passing and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if wanted is not None and state != wanted:
            raise UnreachableError(
                f"{self._service}: {self._name} is {state} and not {wanted}: see the event log, System, "
                "source Service Control Manager."
            )

    def _command(self, verb: str, harmless: set[int]) -> None:
        finished = self._run(verb, _SECONDS)
        if (code := _error_of(finished)) and code not in harmless:
            self._refuse(verb, code)

    def _query(self, seconds: float = _SECONDS) -> Finished:
        finished = self._run("queryex", seconds)
        if code := _error_of(finished):
            self._refuse("query", code)
        if _STATE.search(finished.output) is None:
            raise UnreachableError(f"{self._service}: sc queryex {self._name} named no state.")
        return finished

    def _refuse(self, verb: str, code: int) -> NoReturn:
        whose = f"{self._service}: "
        problems: dict[int, RunbookError] = {
            _DENIED: AccessDeniedError(
                f"{whose}the worker may not {verb} {self._name}: grant its user the right to, by sc sdset."
            ),
            _UNKNOWN: ConfigurationError(
                f"{whose}Windows has no service {self._name}: correct application.process_name, or install "
                "the service."
            ),
            _DISABLED: ConfigurationError(
                f"{whose}{self._name} is disabled: enable it with sc config {self._name} start= demand."
            ),
            _LOGON_FAILED: ConfigurationError(
                f"{whose}{self._name} cannot log on as its user: correct its password in services.msc."
            ),
            _NO_ANSWER: UnreachableError(
                f"{whose}{self._name} did not respond to sc {verb} in time (1053): see the event log, System."
            ),
        }
        raise problems.get(code) or UnreachableError(
            f"{whose}sc {verb} {self._name} failed with {code}: net helpmsg {code} says what that is."
        )

    def _run(self, verb: str, seconds: float) -> Finished:
        program = find_program("sc", self._program, _REMEDY)
        finished = run_program([program, verb, self._name], seconds=seconds)
        if finished.returncode is None:
            raise UnreachableError(
                f"{self._service}: sc {verb} {self._name} did not finish in {seconds:.3g} s."
            )
        return finished


def _error_of(finished: Finished) -> int:
    """Return Windows' number of what was wrong, or 0."""
    if finished.returncode == 0:
        return 0
    said = _ERROR.search(finished.output)
    return int(said[1]) if said else finished.returncode or 0


def _state_of(found: Finished) -> str:
    said = _STATE.search(found.output)
    return said[1] if said else ""
