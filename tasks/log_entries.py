"""Make entries of a log's lines: when, how bad, what; a stack trace belongs to what it is the trace of."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.errors import SourceError
from tasks.log_tail import MOST_BYTES, Tail, read_tail
from tasks.log_times import Split
from tasks.records.logs import Level
from tasks.records.observation import Complaint

Splitter = Callable[[str], Split]

_LEAST_BYTES = 1 << 16
_MOST_LINES_OF_ONE = 60
_MOST_UNDATED = 50
_WARNS = re.compile(r"⚠|\bwarn(?:ing)?\b|\bSlow request\b", re.IGNORECASE)
_FAILS = re.compile(
    r"❌|\b(?:error|fatal|panic|critical|emerg|crit|alert)\b|\w(?:Error|Exception):|\bunhandled|\buncaught",
    re.IGNORECASE,
)
_SEVERE = re.compile(r"err|fatal|panic|crit|emerg|alert|[EF]$", re.IGNORECASE)
_WARNING = re.compile(r"warn|[W]$", re.IGNORECASE)
_PINO_WARNS, _PINO_FAILS = 40, 50
# In milliseconds this is the year 1973.
_MOST_SECONDS = 100_000_000_000
_FURTHER = re.compile(
    r"\s+\S|\}|at |Caused by|Require stack:|- /|Node\.js v\d|----- (?:Native|JavaScript) stack trace|\d+: 0x"
)
# Where Node.js begins to say why it ends: file and line, then the line itself, then the error.
_CRASH = re.compile(r"(?:file://|node:|/|[A-Za-z]:[\\/])\S.*:\d+$")
_CRASH_ENDS = re.compile(r"Node\.js v\d")
_SAME_MOMENT_SECONDS = 2.0
_UNDATED = (
    "has lines without a time: how recent its last ones are nobody can tell; give PM2 a log_date_format"
)


@dataclass(frozen=True)
class Entry:
    """What one place of a log says; ``level`` is None where only its words tell."""

    at: datetime | None
    level: Level | None
    text: str


@dataclass(frozen=True)
class Reading:
    """What one source says since a moment, oldest first, and what could not be read of it."""

    source: str
    entries: tuple[Entry, ...]
    complaints: tuple[Complaint, ...] = ()
    written_at: datetime | None = None
    """When the last of it was written: where entries without a time stand among others."""


def parse_line(line: str, split: Splitter) -> Entry:
    """Given a line of an application's log, text or JSON, return it as an entry."""
    at, rest = split(line)
    if rest.startswith("{"):
        try:
            document = json.loads(rest)
        except (ValueError, RecursionError):
            return Entry(at, None, rest)
        if isinstance(document, dict):
            return _read_document(document, at, split)
    return Entry(at, None, rest)


def _read_document(document: Mapping[str, Any], at: datetime | None, split: Splitter) -> Entry:
    """Return what Winston, pino or PM2 wrote as JSON."""
    stamp = document.get("timestamp", document.get("time", document.get("@timestamp")))
    said = document.get("message", document.get("msg", ""))
    error = document.get("err", document.get("error"))
    details = error if isinstance(error, dict) else document
    stack = str(details.get("stack") or "")
    message = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    if isinstance(error, str) and error not in message:
        message = f"{message}: {error}"
    elif details is error and str(details.get("message", "")) not in message:
        message = f"{message}: {details['message']}"
    found = read_stamp(stamp, split) or at
    level = _read_level(document.get("level", document.get("severity", document.get("type"))))
    text = f"{message}\n{stack}" if stack and stack not in message else message
    return Entry(found, level, text.rstrip("\n"))


def read_stamp(stamp: Any, split: Splitter) -> datetime | None:
    """Given a time as JSON has it, text, milliseconds or seconds, return it; None if it is none."""
    if isinstance(stamp, str):
        return split(stamp)[0]
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        try:
            return datetime.fromtimestamp(stamp / 1000 if stamp > _MOST_SECONDS else stamp, UTC)
        except (ValueError, OverflowError, OSError):
            return None
    return None


def _read_level(level: Any) -> Level | None:
    if isinstance(level, int | float):
        return "error" if level >= _PINO_FAILS else "warning" if level >= _PINO_WARNS else "info"
    if not isinstance(level, str):
        return None
    return "error" if _SEVERE.match(level) else "warning" if _WARNING.match(level) else "info"


def judge_level(text: str, usual: Level = "info") -> Level:
    """Given what a line says, return how bad it is, and the usual of its source where it does not tell."""
    first = text.partition("\n")[0]
    if _WARNS.search(first) and "❌" not in first:
        return "warning"
    return "error" if _FAILS.search(first) else usual


def join_traces(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Given entries line by line, yield them with stack traces and crashes as one entry each."""
    held: list[Entry] = []
    for entry in entries:
        if held and len(held) < _MOST_LINES_OF_ONE and _belongs(entry, held):
            held.append(entry)
            continue
        yield from _join(held)
        held = [entry]
    yield from _join(held)


def _belongs(entry: Entry, held: list[Entry]) -> bool:
    if entry.at and held[0].at and abs((entry.at - held[0].at).total_seconds()) > _SAME_MOMENT_SECONDS:
        return False
    if _CRASH.match(entry.text):
        return False
    crashes = bool(_CRASH.match(held[0].text)) and not _CRASH_ENDS.match(held[-1].text)
    return crashes or bool(_FURTHER.match(entry.text)) or (not entry.text.strip() and entry.at is None)


def _join(held: list[Entry]) -> Iterator[Entry]:
    text = "\n".join(entry.text for entry in held).strip("\n")
    if text.strip():
        yield replace(held[0], text=text)


def read_files(
    source: str, files: Sequence[Path], parse: Callable[[Tail], Iterable[Entry]], since: datetime
) -> Reading:
    """Given a log's files, oldest first, and what makes entries of one, return what they say since then.

    Together no more is read of them than of one: an application that fails fills many within the hour.
    """
    entries: list[Entry] = []
    complaints: list[Complaint] = []
    tails, unread = _read_newest(source, files)
    for tail in reversed(tails):
        found = _date(parse(tail))
        oldest = next((entry.at for entry in found if entry.at is not None), None)
        if oldest is None:
            entries += found[-_MOST_UNDATED:]
            complaints += [Complaint(name=source, problem=_UNDATED)] if found else []
            continue
        entries += [entry for entry in found if entry.at is not None and entry.at >= since]
        if tail.cut and oldest > since:
            problem = f"has more than is read at once: only what it says since {oldest:%H:%M} UTC"
            complaints.append(Complaint(name=source, problem=problem))
    written_at = tails[0].written_at if tails else None
    return Reading(source, tuple(entries), (*unread, *complaints), written_at)


def _read_newest(source: str, files: Sequence[Path]) -> tuple[list[Tail], list[Complaint]]:
    """Return the ends of the files, newest first, and of which there is none: that hides no other."""
    tails: list[Tail] = []
    complaints: list[Complaint] = []
    left = MOST_BYTES
    for path in reversed(files):
        if left < _LEAST_BYTES:
            # What is left would begin within a line.
            tails[-1] = replace(tails[-1], cut=True)
            break
        try:
            tails.append(read_tail(path, left))
        except SourceError as error:
            complaints.append(Complaint(name=source, problem=f"could not be read: {error}"))
        else:
            left -= tails[-1].bytes_read
    return tails, complaints


def _date(entries: Iterable[Entry]) -> list[Entry]:
    """Give an entry without a time that of the one before it."""
    dated, last = [], None
    for entry in entries:
        last = entry.at or last
        dated.append(replace(entry, at=last))
    return dated
