"""Logs that are files: the application's own and the system's."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from tasks.errors import SourceError
from tasks.log_entries import Entry, Reading, Splitter, join_traces, parse_line, read_files
from tasks.log_tail import Tail, find_files
from tasks.records.observation import Complaint

Parse = Callable[[Tail], Iterable[Entry]]
# The kernel writes these of whoever it takes the memory from.
_OUT_OF_MEMORY = re.compile(r"out of memory|oom-kill|killed process", re.IGNORECASE)
_SYSLOG_HEAD = re.compile(r"^[\w.-]+ (?=[\w./-]+(?:\[\d+\])?: )")


def read_log(source: str, path: Path, since: datetime, parse: Parse) -> Reading:
    """Given a log file, return what it and those that it was rotated into say since a moment."""
    try:
        files = find_files(path, since)
    except SourceError as error:
        return Reading(source, (), (Complaint(name=source, problem=f"could not be read: {error}"),))
    return read_files(source, files, parse, since)


def read_application_log(directory: Path, file: Path, since: datetime, split: Splitter) -> Reading:
    """Given a log file of the application, text or JSON, return what it says since a moment."""
    return read_log(str(file), directory / file, since, text_parser(split))


def read_system_log(path: Path, name: str, since: datetime, split: Splitter) -> Reading:
    """Given a log file of the system, return what it says of the application since a moment."""

    def parse(tail: Tail) -> Iterator[Entry]:
        for line in tail.lines:
            if name in line or _OUT_OF_MEMORY.search(line):
                at, rest = split(line)
                yield Entry(at, None, _SYSLOG_HEAD.sub("", rest))

    return read_log(str(path), path, since, parse)


def text_parser(split: Splitter) -> Parse:
    """Given what finds times, return what makes entries of an application's log, text or JSON."""

    def parse(tail: Tail) -> Iterator[Entry]:
        return join_traces(parse_line(line, split) for line in tail.lines)

    return parse
