"""PM2's logs: what the application writes to its outputs, and what the daemon says of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.errors import ConfigurationError, UnreachableError
from tasks.log_entries import Entry, Reading, Splitter, judge_level
from tasks.log_reading_files import read_log, text_parser
from tasks.log_tail import Tail
from tasks.pm2_listing import find_pm2_home, list_entries
from tasks.records.application import Application
from tasks.records.logs import Level
from tasks.records.observation import Complaint

_NOWHERE = {"", "/dev/null", "NULL", "null"}


@dataclass(frozen=True)
class _Paths:
    """Where PM2 writes; the whole is both outputs once more, as they came."""

    outputs: frozenset[Path]
    errors: frozenset[Path]
    wholes: frozenset[Path]
    homes: frozenset[Path]

    @property
    def copies(self) -> frozenset[Path]:
        """What only repeats the others."""
        return self.wholes if self.outputs and self.errors else frozenset()


def read_pm2_logs(
    application: Application, since: datetime, split: Splitter, seconds: float
) -> tuple[list[Reading], frozenset[Path]]:
    """Given an application under PM2, return its logs, and which files hold only a copy of them."""
    try:
        paths = _ask(application, seconds)
        complaints: list[Reading] = []
    except (ConfigurationError, UnreachableError) as error:
        problem = f"does not say where the logs are: {str(error).removesuffix('.')}"
        complaints = [Reading("PM2", (), (Complaint(name="PM2", problem=problem),))]
        paths = None
    # Where they are unless somebody wanted them elsewhere.
    found = paths or _usual_paths(application.process_name)
    readings = [read_log(path.name, path, since, text_parser(split)) for path in sorted(found.outputs)]
    readings += [_read_errors(path, since, split) for path in sorted(found.errors)]
    for path in sorted(found.wholes - found.copies):
        readings.append(read_log(path.name, path, since, text_parser(split)))
    readings += [_read_daemon_log(home, application, since, split) for home in sorted(found.homes)]
    return complaints + readings, found.copies


def _read_errors(path: Path, since: datetime, split: Splitter) -> Reading:
    read = text_parser(split)

    def parse(tail: Tail) -> Iterator[Entry]:
        for entry in read(tail):
            yield Entry(entry.at, entry.level or judge_level(entry.text, "error"), entry.text)

    return read_log(path.name, path, since, parse)


def _read_daemon_log(home: Path, application: Application, since: datetime, split: Splitter) -> Reading:
    """Return what PM2 says of the application: that it ended, was started again, was given up."""
    names = (f"[{application.process_name}:", f"name:{application.process_name} ", str(application.directory))

    def parse(tail: Tail) -> Iterator[Entry]:
        for line in tail.lines:
            if any(name in line for name in names):
                at, rest = split(line)
                text = rest.removeprefix("PM2 log: ").removeprefix("PM2 error: ")
                given_up = "too many unstable restarts" in text
                level: Level = "error" if given_up else judge_level(text)
                yield Entry(at, level, text)

    return read_log("pm2.log", home / "pm2.log", since, parse)


def _ask(application: Application, seconds: float) -> _Paths | None:
    """Return where PM2 writes the application's logs; None where it does not know the application."""
    entries = list_entries(application, seconds)
    return _gather([entry.get("pm2_env") or {} for entry in entries]) if entries else None


def _gather(environments: list[dict[str, Any]]) -> _Paths:
    def paths(name: str) -> frozenset[Path]:
        found = {str(environment.get(name) or "") for environment in environments}
        return frozenset(Path(path) for path in found - _NOWHERE)

    # The daemon's home is above the folder of the process ids that it writes down.
    homes = frozenset(path.parent.parent for path in paths("pm_pid_path"))
    return _Paths(paths("pm_out_log_path"), paths("pm_err_log_path"), paths("pm_log_path"), homes)


def _usual_paths(name: str) -> _Paths:
    home = find_pm2_home()
    # PM2 puts a dash where a name has a blank.
    stem = name.replace(" ", "-")
    logs = home / "logs"
    return _Paths(
        outputs=frozenset({*logs.glob(f"{stem}-out.log"), *logs.glob(f"{stem}-out-[0-9]*.log")}),
        errors=frozenset({*logs.glob(f"{stem}-error.log"), *logs.glob(f"{stem}-error-[0-9]*.log")}),
        wholes=frozenset(),
        homes=frozenset({home} if (home / "pm2.log").exists() else ()),
    )
