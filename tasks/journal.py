"""What a run has begun, written down before it is done: the next run finishes or undoes it.

A journal is a file of the host that acts, ``<state_directory>/<service>/journals/<runbook>.jsonl``, as long
as the run is not over; then it moves to ``closed/`` beside it. A line is on the disk before the act is begun.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.host_folder import append_line, host_folder, sync_folder, whole_lines
from tasks.records.service import ServiceProfile

CLOSED: Final = "closed"


class JournalEntry(BaseModel):
    """One line: a step that is begun or done, and what is needed to finish or undo it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime
    step: str
    facts: dict[str, Any]


class Journal:
    """The journal of one runbook of one service. Who writes to it holds the service's lock.

    ``outcome`` is what it was closed with, in words.
    """

    def __init__(self, folder: Path, runbook: str) -> None:
        """Given the folder of the journals, read what an earlier run left, if anything.

        Raise ``ConfigurationError`` if the file is no journal.
        """
        self._folder, self.runbook = folder, runbook
        self._path = folder / f"{runbook}.jsonl"
        self._entries = list(_read(self._path))
        self.outcome = ""
        if _is_closed(self._entries):
            # Killed between its last line and the move.
            self._archive()

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """All lines so far, oldest first; none means that nothing is under way."""
        return tuple(self._entries)

    def has(self, step: str) -> bool:
        """Was this step written down?"""
        return self.find(step) is not None

    def find(self, step: str) -> JournalEntry | None:
        """Return the newest line of a step, or None."""
        return next((entry for entry in reversed(self._entries) if entry.step == step), None)

    def write(self, step: str, **facts: Any) -> None:
        """Put a step down, on the disk when this returns; facts are JSON and hold no secret."""
        entry = JournalEntry(at=datetime.now(UTC), step=step, facts=facts)
        append_line(self._path, entry.model_dump_json().encode())
        self._entries.append(entry)

    def close(self, outcome: str) -> None:
        """Say that nothing is left to finish or undo."""
        self.write(CLOSED, outcome=outcome)
        self.outcome = outcome
        self._archive()

    def _archive(self) -> None:
        closed = self._folder / "closed"
        closed.mkdir(mode=0o700, exist_ok=True)
        self._path.rename(closed / f"{self.runbook}-{self._entries[0].at:%Y%m%dT%H%M%S%f}.jsonl")
        sync_folder(closed)
        sync_folder(self._folder)
        self._entries = []


def open_journal(profile: ServiceProfile, runbook: str) -> Journal:
    """Given a service and a runbook, return its journal on this host."""
    return Journal(_journals(profile), runbook)


def list_open_journals(profile: ServiceProfile) -> tuple[str, ...]:
    """Given a service, return the runbooks of which a killed run left something to finish or undo.

    Nothing is moved: who asks need not hold the service, and whoever does may be writing.
    """
    found = ((path.stem, _read(path)) for path in sorted(_journals(profile).glob("*.jsonl")))
    return tuple(runbook for runbook, entries in found if entries and not _is_closed(entries))


def _journals(profile: ServiceProfile) -> Path:
    folder = host_folder(profile) / "journals"
    with naming_file(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_closed(entries: Sequence[JournalEntry]) -> bool:
    return any(entry.step == CLOSED for entry in entries)


def _read(path: Path) -> tuple[JournalEntry, ...]:
    try:
        lines = whole_lines(path.read_bytes()).splitlines()
        return tuple(JournalEntry.model_validate_json(line) for line in lines)
    except FileNotFoundError:
        return ()
    except ValidationError:
        raise ConfigurationError(
            f"{path} is no journal of ours: somebody or another version wrote it. See what it says of what "
            "was begun, put that right by hand, and move the file away."
        ) from None
