"""What a cleanup rule reads and deletes in MongoDB: raw documents, by ranges of the rule's time field."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pymongo
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import WriteConcern
from pymongo.read_concern import ReadConcern

from tasks.mongodb import Client, connect, database_of, host_of, translated
from tasks.mongodb_cleanup_facts import measure_collection, observe_rule, value_at
from tasks.mongodb_missing import compare_documents, insert_documents
from tasks.mongodb_replication import measure_lag
from tasks.mongodb_short_commands import (
    EXACT,
    LONGEST_DELETION_SECONDS,
    LONGEST_READ_SECONDS,
    Courtesy,
    Deletion,
    Pace,
    Raw,
    Taken,
    milliseconds,
    read_span,
)
from tasks.mongodb_snapshot import has_transactions
from tasks.records.cleanup import RuleFacts
from tasks.records.data_care import CleanupRule

_MAJORITY: Final = WriteConcern("majority")
_GROWTH: Final = 8
# A server keeps a transaction that nobody ends for a minute: a new one must outlast it.
_TRANSACTION_SECONDS: Final = 90


@dataclass(frozen=True)
class _Window:
    """Where the next entries are looked for: milliseconds since 1970."""

    start: int
    width: int

    def fit(self, found: int, wanted: int) -> int:
        """Given how many documents it held, return the width that would likely have held the wanted."""
        likely = self.width * wanted // max(found, 1)
        return max(1, self.width // _GROWTH, min(likely, self.width * _GROWTH))


class MongodbCleanup:
    """The collections of one database, as its application's user may read and delete them.

    One client serves all calls until ``close``: to log in anew takes longer than a small batch.
    """

    def __init__(self, url: str, admin_url: str) -> None:
        """Given the application's URL, and one whose user may ask how far replicas are behind."""
        self._url, self._admin_url = url, admin_url
        self._database = database_of(url)
        self._held = ExitStack()
        self._client: Client | None = None
        self._windows: dict[str, _Window] = {}
        self._widths: dict[str, int] = {}
        self._reading, self._deleting = Pace(LONGEST_READ_SECONDS), Pace(LONGEST_DELETION_SECONDS)
        self._courtesy = Courtesy()

    def close(self) -> None:
        """Let the server go; the next call connects again."""
        self._client = None
        self._held.close()

    def observe(self, rule: CleanupRule, cutoff: datetime) -> RuleFacts:
        """Given a rule and its cutoff, return what the rule meets."""
        with self._connected() as client:
            return observe_rule(client[self._database], rule, cutoff)

    def read_expired(
        self,
        rule: CleanupRule,
        cutoff: datetime,
        most_entries: int,
        most_bytes: int,
        since: datetime | None = None,
    ) -> tuple[bytes, ...]:
        """Return the oldest documents that are expired and not held: at least one if there is any.

        It begins at ``since``, and after a deletion where that ended: to begin at the oldest each time would
        lead the server through all that was deleted. It reads short spans of time, so that no read keeps the
        application's waiting. When nothing is left ahead it looks behind, for what was changed or came
        meanwhile.
        """
        taken = Taken(most_entries, most_bytes)
        end = milliseconds(cutoff)
        with self._open(rule) as collection:
            window = self._windows.get(rule.name)
            if window is None and since is not None:
                window = _Window(milliseconds(since), 1)
            while window is not None and window.start < end and not taken.is_full:
                until = min(window.start + window.width, end)
                span = {"$gte": DatetimeMS(window.start), "$lt": DatetimeMS(until)}
                with self._courtesy:
                    began = time.monotonic()
                    found = read_span(collection, rule, span, taken)
                    self._reading.learn(found, time.monotonic() - began)
                window = _Window(until, window.fit(found, self._reading.documents))
                self._widths[rule.name] = window.width
            if not taken.entries:
                read_span(collection, rule, {"$lt": DatetimeMS(end)}, taken)
        return tuple(taken.entries)

    def delete(self, rule: CleanupRule, cutoff: datetime, entries: Sequence[bytes]) -> int:
        """Delete those of the documents that are still there, unchanged to the byte, expired and not held.

        In one transaction, or on a standalone server each by a condition on all of its content.
        """
        if not entries:
            return 0
        with self._open(rule) as collection:
            client = collection.database.client
            deletion = Deletion(collection, rule, cutoff, self._deleting, self._courtesy)
            if not has_transactions(client):
                deleted = deletion.delete(None, entries)
            else:
                # The driver would try a lost commit again for two minutes, whoever waits for us.
                with pymongo.timeout(_TRANSACTION_SECONDS), client.start_session() as session:
                    deleted = session.with_transaction(
                        lambda held: deletion.delete(held, entries),
                        read_concern=ReadConcern("snapshot"),
                        write_concern=_MAJORITY,
                    )
        last = int(value_at(RawBSONDocument(entries[-1], EXACT), rule.time_field))
        self._windows[rule.name] = _Window(last, self._widths.get(rule.name, 1))
        return deleted

    def measure(self, source: str) -> tuple[int, int]:
        """Return how many documents there are, and what they and their indexes take on the server's disk."""
        with self._connected() as client:
            return measure_collection(client[self._database][source])

    def read_clock(self) -> datetime:
        """Return the server's own time."""
        with self._connected() as client:
            found: datetime = client.admin.command("hello")["localTime"]
        return found.replace(tzinfo=UTC)

    def read_lag(self) -> float:
        """Return how many seconds the slowest replica is behind; 0 where there is none."""
        with self._connected() as client:
            return measure_lag(client, self._admin_url)

    def insert_missing(
        self, source: str, columns: tuple[str, ...], entries: Sequence[bytes]
    ) -> tuple[int, tuple[str, ...]]:
        """Insert the documents whose ``_id`` is not there; return how many, and what is there otherwise."""
        del columns
        with self._connected() as client:
            return insert_documents(self._raw(client, source), entries)

    def compare(
        self, source: str, columns: tuple[str, ...], entries: Sequence[bytes]
    ) -> tuple[int, tuple[str, ...]]:
        """Return how many of the documents are not there, and what is there otherwise, by its ``_id``."""
        del columns
        with self._connected() as client:
            return compare_documents(self._raw(client, source), entries)

    @contextmanager
    def _connected(self) -> Generator[Client]:
        with translated(f"MongoDB at {host_of(self._url)}"):
            if self._client is None:
                self._client = self._held.enter_context(connect(self._url, patient=True))
            yield self._client

    @contextmanager
    def _open(self, rule: CleanupRule) -> Generator[Raw]:
        with self._connected() as client:
            yield self._raw(client, rule.source)

    def _raw(self, client: Client, source: str) -> Raw:
        return client[self._database].with_options(EXACT).get_collection(source, write_concern=_MAJORITY)
