"""What the watch remembers on the host: what it told when, and since when the engine answers."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.watch.complaints import Complaint
from tasks.host_folder import replace_file

_AGAIN_AFTER: Final = timedelta(hours=1)
# Looks that are further apart do not tell what was in between.
_LONGEST_GAP: Final = timedelta(minutes=3)


class Memory(BaseModel):
    """The content of one file."""

    model_config = ConfigDict(extra="forbid")

    told: dict[str, datetime] = {}
    answers_since: datetime | None = None
    answered_at: datetime | None = None

    def choose_new(self, complaints: list[Complaint], now: datetime) -> list[Complaint]:
        """Return those that nobody was told of within the hour."""
        self.told = {key: at for key, at in self.told.items() if timedelta(0) <= now - at < _AGAIN_AFTER}
        return [complaint for complaint in complaints if complaint.key not in self.told]

    def remember(self, told: list[Complaint], now: datetime) -> None:
        """Keep that people know of these."""
        self.told |= {complaint.key: now for complaint in told}

    def note_answer(self, now: datetime, *, answers: bool) -> timedelta:
        """Keep whether the engine answers; return for how long it has done so."""
        if not answers:
            self.answers_since = self.answered_at = None
            return timedelta(0)
        if self.answered_at is None or not timedelta(0) <= now - self.answered_at <= _LONGEST_GAP:
            self.answers_since = now
        self.answered_at = now
        return now - (self.answers_since or now)


def read_memory(path: Path) -> Memory:
    """Return what a file holds; one that is missing or damaged makes people be told once more."""
    try:
        return Memory.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Memory()


def write_memory(path: Path, memory: Memory) -> str | None:
    """Put the file in place of the old one, whole or not at all; return what went wrong, if anything did."""
    try:
        replace_file(path, memory.model_dump_json().encode())
    except OSError as error:
        return (
            f"{path} could not be written ({error.strerror}), so that people are told of the same thing at "
            "each look: make room, or correct what is in its place."
        )
    return None
