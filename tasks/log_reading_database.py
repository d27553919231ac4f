"""The database's own log: PostgreSQL's as text, CSV or JSON, and MongoDB's. No value of a query gets out.

A statement, and what PostgreSQL quotes of one, holds what users typed: of those only the first word is told.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.log_entries import Entry, Reading, Splitter, read_stamp
from tasks.log_reading_files import read_log
from tasks.log_tail import MOST_BYTES, Tail
from tasks.records.logs import Level
from tasks.records.observation import Complaint

_SEVERITY = re.compile(
    r"(?:^|\s)(?P<severity>DEBUG\d?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC|DETAIL|HINT|STATEMENT|QUERY|CONTEXT"
    r"|LOCATION|BACKTRACE):\s+(?P<said>.*)"
)
_LEVELS: dict[str, Level] = {
    "ERROR": "error",
    "FATAL": "error",
    "PANIC": "error",
    "WARNING": "warning",
    "F": "error",
    "E": "error",
    "W": "warning",
}
_TOLD = {"DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "LOG", "FATAL", "PANIC", "HINT"}
_VALUES = re.compile(r"(?P<before>\b(?:statement|execute [^:]*|parse [^:]*|bind [^:]*): *\w*).*", re.DOTALL)
_RECORD = re.compile(r"\d{4}-\d\d-\d\d ")
_CSV_TIME, _CSV_SEVERITY, _CSV_MESSAGE, _CSV_HINT, _CSV_FEWEST = 0, 11, 13, 15, 16
_MOST_FILES = 10
# A statement may be as long as all that is read of a log; csv itself stops at 128 kB.
csv.field_size_limit(MOST_BYTES)


def read_database_logs(pattern: str, since: datetime, split: Splitter) -> list[Reading]:
    """Given a shell pattern of log files, return what each of them says since a moment."""
    root = Path(pattern).anchor
    paths = sorted(path for path in Path(root).glob(pattern.removeprefix(root)) if path.suffix != ".gz")
    if not paths:
        problem = (
            "could not be read: there is no such file, or the worker's user may not look into its folder"
        )
        return [Reading(pattern, (), (Complaint(name=pattern, problem=problem),))]

    def parse(tail: Tail) -> Iterator[Entry]:
        return _parse(tail, split)

    # Their names have a date, where there are many.
    return [read_log(str(path), path, since, parse) for path in paths[-_MOST_FILES:]]


def _parse(tail: Tail, split: Splitter) -> Iterator[Entry]:
    first = next((line for line in tail.lines if line.strip()), "")
    if first.startswith("{"):
        return _parse_json(tail.lines, split)
    return _parse_csv(tail.lines, split) if tail.path.suffix == ".csv" else _parse_text(tail.lines, split)


def _parse_text(lines: Iterable[str], split: Splitter) -> Iterator[Entry]:
    for line in lines:
        at, rest = split(line)
        found = _SEVERITY.search(rest) if at is not None else None
        if found is not None and found["severity"].rstrip("12345") in _TOLD:
            yield _tell(at, found["severity"], found["said"])


def _parse_csv(lines: Iterable[str], split: Splitter) -> Iterator[Entry]:
    # A record goes over several lines where a message does.
    records: list[str] = []
    for line in lines:
        if _RECORD.match(line) or not records:
            records.append(line)
        else:
            records[-1] += "\n" + line
    for fields in _read_rows(record for record in records if _RECORD.match(record)):
        if len(fields) >= _CSV_FEWEST:
            at, _ = split(fields[_CSV_TIME])
            said = " ".join(filter(None, (fields[_CSV_MESSAGE], fields[_CSV_HINT])))
            yield _tell(at, fields[_CSV_SEVERITY], said)


def _read_rows(records: Iterable[str]) -> Iterator[list[str]]:
    rows = csv.reader(records)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            # The file is damaged there: what follows is read all the same.
            continue


def _parse_json(lines: Iterable[str], split: Splitter) -> Iterator[Entry]:
    for line in lines:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield _read_mongodb(document, split) if "msg" in document else _read_postgresql(document, split)


def _read_postgresql(document: Mapping[str, Any], split: Splitter) -> Entry:
    said = " ".join(str(part) for part in (document.get("message"), document.get("hint")) if part)
    return _tell(read_stamp(document.get("timestamp"), split), str(document.get("error_severity", "")), said)


def _read_mongodb(document: Mapping[str, Any], split: Splitter) -> Entry:
    stamp, attributes = document.get("t"), document.get("attr")
    at = read_stamp(stamp.get("$date") if isinstance(stamp, dict) else None, split)
    said = f"{document.get('c', '')}: {document['msg']}"
    if isinstance(attributes, dict):
        error = attributes.get("error")
        why = error.get("errmsg", error.get("codeName")) if isinstance(error, dict) else error
        told = {**{name: attributes.get(name) for name in ("ns", "durationMillis", "signal")}, "error": why}
        said += "".join(f", {name} {value}" for name, value in told.items() if value not in (None, ""))
    return Entry(at, _LEVELS.get(str(document.get("s")), "info"), said)


def _tell(at: datetime | None, severity: str, said: str) -> Entry:
    return Entry(at, _LEVELS.get(severity, "info"), _VALUES.sub(r"\g<before> …", said))
