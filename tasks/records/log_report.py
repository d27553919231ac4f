"""What a person is shown of the logs."""

from datetime import datetime

from tasks.records.logs import LogExtract, LogLine
from tasks.records.observation import Record


class KnownLines(Record):
    """Lines of one known meaning."""

    name: str
    meaning: str
    row: str
    count: int
    first: datetime | None
    last: datetime | None


class LogReport(Record):
    """Meanings with their numbers, the worst first, and the newest lines that were asked for."""

    service: str
    at: datetime
    extract: LogExtract
    errors: int
    warnings: int
    known: tuple[KnownLines, ...]
    wanted: str
    """Which lines are listed, as "errors that contain 'payment'"."""
    lines: tuple[LogLine, ...]
    """Newest first."""
    more: int
    """So many older ones are not listed."""
