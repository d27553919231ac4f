"""What is known of the application's systemd unit before it is written."""

from pathlib import Path

from tasks.records.observation import Record


class UnitFacts(Record):
    """The unit's file as it is, and what the one that we would write needs."""

    path: Path
    present: str | None
    """The file's text without the values of its environment; None if it is not there."""
    digest: str
    """SHA-256 of what is there, empty if nothing is."""
    enabled: bool
    problems: tuple[str, ...]
    """Why the new one cannot be written or would not work, whole sentences."""
    verified: bool
    """Whether systemd-analyze is here and read the new one."""
