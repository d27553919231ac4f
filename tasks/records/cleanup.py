"""What a cleanup rule meets in the database, as facts."""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

from tasks.records.data_care import CleanupRule

MOST_WITHOUT_INDEX: Final = 10_000


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MonthOfExpired(_Record):
    """What of one calendar month (UTC) has expired and is not held."""

    month: str
    """``2024-07``."""
    entries: int
    raw_bytes: int


class RuleFacts(_Record):
    """A rule's collection or table, looked at with the rule's cutoff."""

    rule: str
    source: str
    exists: bool
    others: tuple[str, ...] = ()
    """The collections or tables that there are, when the rule's is not among them."""
    columns: tuple[str, ...] = ()
    """A table's columns in their order; none for a collection."""
    entries: int = 0
    has_time_field: bool = True
    """Whether any document or the table has the rule's time field at all."""
    wrong_type: int = 0
    """Entries whose time field is something else than a time; missing and null are not counted."""
    wrong_type_example: str = ""
    """One of them, by its identity, and what it is."""
    without_time: int = 0
    """Entries without a time: they never expire."""
    newest: datetime | None = None
    oldest_expired: datetime | None = None
    """Where reading may begin, for a server that would otherwise look through all that has expired."""
    months: tuple[MonthOfExpired, ...] = ()
    held: int = 0
    """Expired entries that the legal hold keeps."""
    index: str | None = None
    """An index that begins with the time field, or None."""
    obstacles: tuple[str, ...] = ()
    """Why deleting would do harm or fail, each as a sentence: no primary key, a cascade to another table."""
    cautions: tuple[str, ...] = ()
    """What else happens at a deletion, or hides entries from us, each as a sentence: a trigger, a policy."""
    storage_bytes: int = 0
    """What the collection or table takes on the server's disk."""
    is_counted: bool = True
    """False where no more is known than how many entries there are: to count would take an index."""

    @property
    def expired(self) -> int:
        """Entries that the rule deletes."""
        return sum(month.entries for month in self.months)

    @property
    def needs_index(self) -> bool:
        """Whether every look for what has expired would read a large source from end to end."""
        return self.index is None and self.entries > MOST_WITHOUT_INDEX

    @property
    def expired_bytes(self) -> int:
        """Their size, uncompressed."""
        return sum(month.raw_bytes for month in self.months)


class RuleToClean(_Record):
    """A rule as a plan has it: all that is needed to apply it, or to go on with it after a kill."""

    rule: CleanupRule
    cutoff: datetime
    started_at: datetime
    database: str
    columns: tuple[str, ...] = ()
    archive_id: str | None = None
    """None for a rule without an archive."""
    entries: int
    raw_bytes: int
    oldest: datetime | None = None
    """Where reading begins, where that is known; older ones that came since are found last."""


class AfterCleaning(_Record):
    """A rule's collection or table after a cleanup, looked at anew."""

    rule: str
    entries: int
    storage_bytes: int
    is_clean: bool
    """Whether nothing expired is left that is not held."""


class CleanedRule(_Record):
    """What a run did for a rule; ``archive_id`` is None where nothing went into an archive."""

    rule: str
    archive_id: str | None
    entries: int
    raw_bytes: int
    stored_bytes: int
