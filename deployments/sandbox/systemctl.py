"""A small `systemctl` with a memory: `python systemctl.py FOLDER [OPTION...] VERB [OPTION...] [--] UNIT`.

systemd does not run in the sandbox. FOLDER has a file UNIT.json for each unit, with the `command` that it
runs and, when it is to be refused, `denied`. Outputs and exit codes are those that systemctl(1) and LSB name:
5 for a unit that is not loaded, 4 for one that we may not touch, 1 for a start that failed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NOT_LOADED = 5
DENIED = 4
SETTLE_SECONDS = 0.3
STOP_SECONDS = 5.0
START_LIMIT = 5


def main() -> int:
    """Do what the verb says."""
    folder = Path(sys.argv[1])
    words = [word for word in sys.argv[2:] if word != "--"]
    options = [word for word in words if word.startswith("--")]
    verb, unit = (word for word in words if not word.startswith("--"))
    file = folder / f"{unit}.json"
    if verb == "show":
        wanted = next(option for option in options if option.startswith("--property="))
        _show(file, wanted.partition("=")[2].split(","))
        return 0
    if not file.exists():
        problem = "not found" if verb == "start" else "not loaded"
        print(f"Failed to {verb} {unit}.service: Unit {unit}.service {problem}.", file=sys.stderr)
        return NOT_LOADED
    if _read(file).get("denied"):
        print(f"Failed to {verb} {unit}.service: Access denied", file=sys.stderr)
        return DENIED
    return {"start": _start, "stop": _stop, "reset-failed": _reset_failed}[verb](file)


def _show(file: Path, wanted: list[str]) -> None:
    if file.exists():
        unit = _read(file)
        active = _is_alive(unit)
        failed = unit.get("failed") or (unit.get("pid") and not active)
        state = ("active", "running") if active else ("failed", "failed") if failed else ("inactive", "dead")
        result = unit.get("result", "exit-code") if failed else "success"
        values = ["loaded", *state, str(unit["pid"] if active else 0), result]
    else:
        values = ["not-found", "inactive", "dead", "0", "success"]
    names = ("LoadState", "ActiveState", "SubState", "MainPID", "Result")
    for name, value in zip(names, values, strict=True):
        if name in wanted:
            print(f"{name}={value}")


def _start(file: Path) -> int:
    unit = _read(file)
    if _is_alive(unit):
        return 0
    starts = unit.get("starts", 0) + 1
    if starts > START_LIMIT:
        _write(file, {**unit, "failed": True, "result": "start-limit-hit"})
        print(f"Job for {file.stem}.service failed.", file=sys.stderr)
        return 1
    # Its parent ends before it does, so that init reaps it, as systemd would.
    process = subprocess.Popen(
        unit["command"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(SETTLE_SECONDS)
    if process.poll() is None:
        _write(file, {"command": unit["command"], "pid": process.pid, "starts": starts})
        return 0
    _write(file, {"command": unit["command"], "starts": starts, "failed": True})
    print(f"Job for {file.stem}.service failed because the control process exited.", file=sys.stderr)
    return 1


def _stop(file: Path) -> int:
    unit = _read(file)
    if _is_alive(unit):
        os.kill(unit["pid"], signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_alive(unit) and time.monotonic() < deadline:
            time.sleep(0.02)
        if _is_alive(unit):
            os.kill(unit["pid"], signal.SIGKILL)
        unit.pop("pid")
    _write(file, unit)
    return 0


def _reset_failed(file: Path) -> int:
    _write(file, {"command": _read(file)["command"]})
    return 0


def _is_alive(unit: dict[str, Any]) -> bool:
    try:
        stat = Path(f"/proc/{unit['pid']}/stat").read_text(encoding="utf-8")
    except (KeyError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _read(file: Path) -> dict[str, Any]:
    unit: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return unit


def _write(file: Path, unit: dict[str, Any]) -> None:
    file.write_text(json.dumps(unit), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
