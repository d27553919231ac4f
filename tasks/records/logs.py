"""What the logs of a service say, from all places and in one order. Times are aware, UTC."""

from datetime import datetime
from typing import Literal

from tasks.records.observation import Complaint, Record

Level = Literal["error", "warning", "info"]


class LogLine(Record):
    """A line of a log, secrets masked; one that has no time of its own has that of the line before it."""

    at: datetime | None
    source: str
    level: Level
    text: str


class LogExtract(Record):
    """What the logs hold since a moment, merged by time."""

    since: datetime
    sources: tuple[str, ...]
    unreadable: tuple[Complaint, ...] = ()
    lines: tuple[LogLine, ...] = ()
    left_out: int = 0
    """Lines that were too many: the oldest are left out."""


class LogSignature(Record):
    """Lines of one known meaning (``flows/decisions``' table names them), how many and when."""

    name: str
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    """The newest such line, masked."""


class LogFacts(Record):
    """What the logs of the last hour say."""

    since: datetime
    sources: tuple[str, ...]
    unreadable: tuple[Complaint, ...] = ()
    signatures: tuple[LogSignature, ...] = ()
    started_at: datetime | None = None
    """When the application last said that it is up."""
    firebase_started: bool | None = None
    """Whether the log has Firebase's line since the last start; None where no start is in it."""
    errors: int = 0
    slow_requests: int = 0
    last_words: tuple[str, ...] = ()
    """The last error lines, masked, at most ten."""
