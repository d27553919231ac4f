"""A small `sc` with a memory: `python windows_services.py FOLDER VERB NAME`.

There is no Windows in the sandbox. FOLDER has a file NAME.json for each service, with the `command` that it
runs and what it is to do wrong: `denied`, `disabled`, `silent` (it does not respond in time), `pending` (so
many seconds it is starting or stopping), `fails` (it ends while it starts). Outputs and codes are those of
sc.exe. A POSIX exit code has one byte: the whole code is in the output, as it is on Windows.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DENIED, SILENT, RUNS, DISABLED, UNKNOWN, NOT_STARTED = 5, 1053, 1056, 1058, 1060, 1062
MESSAGES = {
    DENIED: "Access is denied.",
    SILENT: "The service did not respond to the start or control request in a timely fashion.",
    RUNS: "An instance of the service is already running.",
    DISABLED: (
        "The service cannot be started, either because it is disabled or because it has no enabled devices "
        "associated with it."
    ),
    UNKNOWN: "The specified service does not exist as an installed service.",
    NOT_STARTED: "The service has not been started.",
}
STATES = {"STOPPED": 1, "START_PENDING": 2, "STOP_PENDING": 3, "RUNNING": 4}
ACCEPTS = "(STOPPABLE, NOT_PAUSABLE, ACCEPTS_SHUTDOWN)"
IGNORES = "(NOT_STOPPABLE, NOT_PAUSABLE, IGNORES_SHUTDOWN)"


def main() -> int:
    """Do what the verb says."""
    folder, verb, name = Path(sys.argv[1]), sys.argv[2].lower(), sys.argv[3]
    file = folder / f"{name}.json"
    if not file.exists():
        called = "EnumQueryServicesStatus:OpenService" if verb == "queryex" else "OpenService"
        return _fail(called, UNKNOWN)
    service = _settle(json.loads(file.read_text(encoding="utf-8")))
    code = {"queryex": _query, "start": _start, "stop": _stop}[verb](name, service)
    file.write_text(json.dumps(service), encoding="utf-8")
    return code


def _query(name: str, service: dict[str, Any]) -> int:
    _show(name, service)
    print(f"        PID                : {service.get('pid', 0)}\n        FLAGS              : ")
    return 0


def _start(name: str, service: dict[str, Any]) -> int:
    if service.get("denied"):
        return _fail("StartService: OpenService", DENIED)
    if service.get("disabled"):
        return _fail("StartService", DISABLED)
    if service["state"] != "STOPPED":
        return _fail("StartService", RUNS)
    if service.get("silent"):
        return _fail("StartService", SILENT)
    process = subprocess.Popen(
        service["command"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    service |= {"pid": process.pid, "state": "START_PENDING", "until": _later(service), "exit_code": 0}
    _show(name, service)
    print(f"        PID                : {process.pid}\n        FLAGS              : ")
    return 0


def _stop(name: str, service: dict[str, Any]) -> int:
    if service.get("denied"):
        return _fail("OpenService", DENIED)
    if service["state"] == "STOPPED":
        return _fail("ControlService", NOT_STARTED)
    if service.get("silent"):
        return _fail("ControlService", SILENT)
    service |= {"state": "STOP_PENDING", "until": _later(service)}
    _show(name, service)
    return 0


def _settle(service: dict[str, Any]) -> dict[str, Any]:
    """Let happen what has happened since somebody looked."""
    service.setdefault("state", "STOPPED")
    if service["state"] == "START_PENDING" and time.time() >= service["until"]:
        service["state"] = "RUNNING"
        if service.get("fails"):
            os.kill(service["pid"], signal.SIGKILL)
            service |= {"exit_code": 1067}
            _await_end(service["pid"])
    if service["state"] == "STOP_PENDING" and time.time() >= service["until"]:
        os.kill(service["pid"], signal.SIGTERM)
        _await_end(service["pid"])
        service |= {"exit_code": 0}
    if service["state"] != "STOPPED" and not _is_alive(service["pid"]):
        # 1067: the process terminated unexpectedly.
        expected = service["state"] == "STOP_PENDING"
        service |= {"state": "STOPPED", "pid": 0, "exit_code": 0 if expected else 1067}
    return service


def _show(name: str, service: dict[str, Any]) -> None:
    state, code = service["state"], service.get("exit_code", 1077)
    pending = state.endswith("PENDING")
    accepted = (
        "" if state == "STOPPED" else f"\n                                {IGNORES if pending else ACCEPTS}"
    )
    print(
        f"\nSERVICE_NAME: {name} \n"
        f"        TYPE               : 10  WIN32_OWN_PROCESS  \n"
        f"        STATE              : {STATES[state]}  {state} {accepted}\n"
        f"        WIN32_EXIT_CODE    : {code}  ({code:#x})\n"
        f"        SERVICE_EXIT_CODE  : 0  (0x0)\n"
        f"        CHECKPOINT         : {'0x1' if pending else '0x0'}\n"
        f"        WAIT_HINT          : {'0x7d0' if pending else '0x0'}"
    )


def _fail(called: str, code: int) -> int:
    print(f"[SC] {called} FAILED {code}:\n\n{MESSAGES[code]}\n")
    return code % 256


def _later(service: dict[str, Any]) -> float:
    return time.time() + float(service.get("pending", 0.3))


def _await_end(pid: int) -> None:
    deadline = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


if __name__ == "__main__":
    sys.exit(main())
