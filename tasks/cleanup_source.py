"""What cleanup needs of a database, whichever it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tasks.records.cleanup import RuleFacts
from tasks.records.data_care import CleanupRule


class CleanupSource(Protocol):
    """The database of a service. An entry is a document's BSON, or a row's line in COPY's text format.

    Every method raises only errors of ours. It is open within the block that opened it.
    """

    def observe(self, rule: CleanupRule, cutoff: datetime) -> RuleFacts:
        """Given a rule and its cutoff, return what the rule meets."""
        ...

    def read_expired(
        self,
        rule: CleanupRule,
        cutoff: datetime,
        most_entries: int,
        most_bytes: int,
        since: datetime | None = None,
    ) -> tuple[bytes, ...]:
        """Return the oldest entries that are expired and not held: at least one if there is any.

        It ends at ``most_entries``, or with the entry that reaches ``most_bytes``. Older ones than ``since``
        may come last.
        """
        ...

    def delete(self, rule: CleanupRule, cutoff: datetime, entries: Sequence[bytes]) -> int:
        """Delete those of the entries that are still there, unchanged to the byte, expired and not held.

        Return how many were deleted. All of the call is one transaction where the server has them; whoever
        calls keeps the batches small. Safe to repeat.
        """
        ...

    def measure(self, source: str) -> tuple[int, int]:
        """Return how many entries there are, and the bytes that they take on the server's disk."""
        ...

    def read_clock(self) -> datetime:
        """Return the server's own time, to hold against ours."""
        ...

    def read_lag(self) -> float:
        """Return how many seconds the slowest replica is behind; 0 where there is none."""
        ...

    def insert_missing(
        self, source: str, columns: tuple[str, ...], entries: Sequence[bytes]
    ) -> tuple[int, tuple[str, ...]]:
        """Insert the entries whose identity is not there; return how many, and what is there otherwise.

        An entry that is there unchanged is neither counted nor named; one that is there otherwise is named by
        its identity and left as it is.
        """
        ...

    def compare(
        self, source: str, columns: tuple[str, ...], entries: Sequence[bytes]
    ) -> tuple[int, tuple[str, ...]]:
        """Return how many of the entries are not there, and what is there otherwise, by its identity.

        It reads only. What ``insert_missing`` has been through has none missing.
        """
        ...
