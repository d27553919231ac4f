"""A small `systemctl` with a memory: `python systemctl.py FOLDER [OPTION...] VERB [OPTION...] [--] [UNIT]`.

systemd does not run in the sandbox. FOLDER has a file UNIT.json for each unit that is loaded, with the
`command` that it runs and, when it is to be refused, `denied`. `daemon-reload` loads what it finds in
FOLDER/system/*.service. What a unit says is in FOLDER/UNIT.SECONDS.log, for unit_journal.py. Outputs and exit
codes are those that systemctl(1) and LSB name: 5 for a unit that is not loaded, 4 for one that we may not
touch, 1 for a start that failed.
"""

import configparser
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOT_LOADED = 5
DENIED = 4
SETTLE_SECONDS = 0.3
STOP_SECONDS = 5.0
START_LIMIT = 5
# As waitid(2) has them: the status is an exit code, or the signal that ended it.
CLD_EXITED, CLD_KILLED = 1, 2
# What a unit's files take of memory besides, when it has written much.
PAGE_CACHE_BYTES = 10**9


def main() -> int:
    """Do what the verb says."""
    folder = Path(sys.argv[1])
    words = [word for word in sys.argv[2:] if word != "--"]
    options = [word for word in words if word.startswith("--")]
    verb, *units = (word for word in words if not word.startswith("--"))
    if verb == "daemon-reload":
        return _load(folder)
    unit = units[0]
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
    return VERBS[verb](file)


def _show(file: Path, wanted: list[str]) -> None:
    unit = _read(file) if file.exists() else {}
    active = _is_alive(unit)
    failed = unit.get("failed") or (unit.get("pid") and not active)
    state = ("active", "running") if active else ("failed", "failed") if failed else ("inactive", "dead")
    values = {
        # What runs on without its file is not found any more, and can be stopped.
        "LoadState": "loaded" if unit and not unit.get("lost") else "not-found",
        "ActiveState": state[0],
        "SubState": state[1],
        "MainPID": unit["pid"] if active else 0,
        "Result": unit.get("result", "exit-code") if failed else "success",
        "NRestarts": unit.get("restarts", 0),
        "ExecMainStartTimestamp": unit.get("started", ""),
        "ExecMainCode": 0 if active or not unit.get("started") else unit.get("code", CLD_EXITED),
        "ExecMainStatus": 0 if active else unit.get("status", 1 if failed else 0),
        "MemoryCurrent": _memory_of(unit["pid"]) + PAGE_CACHE_BYTES if active else "[not set]",
        "UnitFileState": "enabled" if unit.get("enabled") else "disabled" if unit else "",
    }
    for name, value in values.items():
        if name in wanted:
            print(f"{name}={value}")


def _load(folder: Path) -> int:
    """Make the units in memory those of the files, as a manager does that reads them anew."""
    found = {path.stem: path for path in (folder / "system").glob("*.service")}
    for file in folder.glob("*.json"):
        if _read(file).get("from_file") and file.stem not in found:
            if _is_alive(_read(file)):
                _write(file, {**_read(file), "lost": True})
            else:
                file.unlink()
    for name, path in found.items():
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path, encoding="utf-8")
        service = parser["Service"]
        file = folder / f"{name}.json"
        _write(
            file,
            {
                **(_read(file) if file.exists() else {}),
                "from_file": True,
                "lost": False,
                "command": shlex.split(service["ExecStart"]),
                "directory": service.get("WorkingDirectory"),
                "environment": dict([service["Environment"].split("=", 1)])
                if "Environment" in service
                else {},
            },
        )
    return 0


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
    with (file.parent / f"{file.stem}.{time.time():.6f}.log").open("wb") as journal:
        process = subprocess.Popen(
            unit["command"],
            cwd=unit.get("directory"),
            env={**os.environ, **unit.get("environment", {})},
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            start_new_session=True,
        )
    time.sleep(SETTLE_SECONDS)
    if process.poll() is None:
        _write(file, {**_settings(unit), "pid": process.pid, "starts": starts, "started": _now()})
        return 0
    code, status = CLD_EXITED, process.returncode
    if status < 0:
        code, status = CLD_KILLED, -status
    failed = {"failed": True, "code": code, "status": status, "started": _now()}
    _write(file, {**_settings(unit), **failed, "starts": starts})
    print(f"Job for {file.stem}.service failed because the control process exited.", file=sys.stderr)
    return 1


def _stop(file: Path) -> int:
    unit = _read(file)
    if _is_alive(unit):
        os.kill(unit["pid"], signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_alive(unit) and time.monotonic() < deadline:
            time.sleep(0.02)
        # Nobody is its parent: what runs here is taken for one that has no handler of the signal.
        unit |= {"code": CLD_KILLED, "status": int(signal.SIGTERM)}
        if _is_alive(unit):
            os.kill(unit["pid"], signal.SIGKILL)
            unit |= {"status": int(signal.SIGKILL), "failed": True, "result": "timeout"}
        unit.pop("pid")
    if unit.get("lost"):
        file.unlink()
    else:
        _write(file, unit)
    return 0


def _restart(file: Path) -> int:
    return _stop(file) or _start(file)


def _reset_failed(file: Path) -> int:
    _write(file, _settings(_read(file)))
    return 0


def _enable(file: Path) -> int:
    _write(file, {**_read(file), "enabled": True})
    wanted = f"/etc/systemd/system/multi-user.target.wants/{file.stem}.service"
    print(f"Created symlink {wanted} → /etc/systemd/system/{file.stem}.service.", file=sys.stderr)
    return 0


def _disable(file: Path) -> int:
    if _read(file).get("lost"):
        print(f"Failed to disable unit: Unit file {file.stem}.service does not exist.", file=sys.stderr)
        return 1
    _write(file, {**_read(file), "enabled": False})
    return 0


def _settings(unit: dict[str, Any]) -> dict[str, Any]:
    """What is not forgotten when a unit stops, fails or starts."""
    kept = ("command", "directory", "environment", "from_file", "enabled", "restarts")
    return {name: unit[name] for name in kept if name in unit}


def _now() -> str:
    return f"{datetime.now(UTC):%a %Y-%m-%d %H:%M:%S} UTC"


def _memory_of(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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


VERBS = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    # No unit of ours knows how to reload.
    "reload-or-restart": _restart,
    "reset-failed": _reset_failed,
    "enable": _enable,
    "disable": _disable,
}


if __name__ == "__main__":
    sys.exit(main())
