"""systemd's journal of the application's unit, by journalctl."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tasks.errors import ConfigurationError
from tasks.host_program import find_program, run_program
from tasks.log_entries import Entry, Reading, Splitter, join_traces, parse_line
from tasks.records.logs import Level
from tasks.records.observation import Complaint

_MOST_ENTRIES = 5000
_LAST_ERROR, _WARNING = 3, 4
_MAY_NOT = ("insufficient permissions", "not seeing messages from other users")


def read_journal(unit: str, since: datetime, split: Splitter, seconds: float) -> Reading:
    """Given a unit, return what its journal says since a moment."""
    source = f"journal of {unit}"
    try:
        program = find_program("journalctl", None, "leave system_logs.journal_unit out where there is none")
    except ConfigurationError as error:
        return _complain(source, str(error))
    # Without --all, a message of more than 4096 bytes is null.
    options = [f"--since=@{since.timestamp():.0f}", "--output=json", "--all", "--no-pager"]
    command = [program, f"--unit={unit}", *options, f"--lines={_MOST_ENTRIES}"]
    finished = run_program(command, seconds=seconds)
    if finished.returncode is None:
        return _complain(source, f"journalctl did not finish within {seconds:.0f} s")
    entries = tuple(join_traces(_parse(finished.output, split)))
    if any(words in finished.output for words in _MAY_NOT) and not entries:
        return _complain(source, "the worker's user may not read it: put it into the group systemd-journal")
    if finished.returncode != 0:
        return _complain(source, f"journalctl ended with {finished.returncode}")
    return Reading(source, tuple(entry for entry in entries if entry.at is None or entry.at >= since))


def _complain(source: str, why: str) -> Reading:
    problem = f"could not be read: {why.removesuffix('.')}"
    return Reading(source, (), (Complaint(name=source, problem=problem),))


def _parse(output: str, split: Splitter) -> Iterator[Entry]:
    for line in output.split("\n"):
        if not line.startswith("{"):
            continue
        try:
            document: dict[str, Any] = json.loads(line)
            at = datetime.fromtimestamp(int(document["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
            level = _read_priority(int(document.get("PRIORITY", 6)))
            # What the application writes as JSON says itself how bad it is.
            said = parse_line(_read_message(document.get("MESSAGE")), split)
        except (ValueError, KeyError, TypeError):
            continue
        yield Entry(at, level or said.level, said.text)


def _read_priority(priority: int) -> Level | None:
    # What a service writes to its outputs has priority 6, whatever it says.
    return "error" if priority <= _LAST_ERROR else "warning" if priority == _WARNING else None


def _read_message(message: Any) -> str:
    """Return the message; what is not all printable comes as a list of bytes."""
    if isinstance(message, list):
        return bytes(message).decode("utf-8", errors="replace")
    return str(message or "")
