"""What a cleanup rule reads and deletes in MongoDB: raw documents, by ranges of the rule's time field."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from tasks.errors import SourceError
from tasks.mongodb import RAW, Client, connect, database_of, host_of, translated
from tasks.mongodb_cleanup_facts import free_query, measure_collection, observe_rule, value_at
from tasks.mongodb_missing import compare_documents, insert_documents
from tasks.mongodb_replication import measure_lag
from tasks.mongodb_snapshot import has_transactions
from tasks.records.cleanup import RuleFacts
from tasks.records.data_care import CleanupRule

Raw = Collection[RawBSONDocument]

# No date of BSON is lost or shifted: Python's own dates end in the year 9999.
_EXACT: Final[CodecOptions[RawBSONDocument]] = RAW.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
_MAJORITY: Final = WriteConcern("majority")
_STRANGERS: Final = 4
_GROWTH: Final = 8
_PAGE: Final = 200
# A server keeps a transaction that nobody ends for a minute: a new one must outlast it.
_TRANSACTION_SECONDS: Final = 90


@dataclass(frozen=True)
class _Window:
    """Where the next entries are looked for: milliseconds since 1970."""

    start: int
    width: int

    def fit(self, found: int) -> int:
        """Given how many documents it held, return the width that would likely have held a page."""
        likely = self.width * _PAGE // max(found, 1)
        return max(1, self.width // _GROWTH, min(likely, self.width * _GROWTH))


@dataclass
class _Taken:
    """The documents of one read, until there are as many or as large as wanted."""

    most_entries: int
    most_bytes: int
    entries: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= self.most_entries or self.size >= self.most_bytes

    def add(self, raw: bytes) -> None:
        self.entries.append(raw)
        self.size += len(raw)


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
        lead the server through all that was deleted. It reads short spans of time, about a page each, so that
        no read keeps the application's waiting. When nothing is left ahead it looks behind, for what was
        changed or came meanwhile.
        """
        taken = _Taken(most_entries, most_bytes)
        end = _milliseconds(cutoff)
        with self._open(rule) as collection:
            window = self._windows.get(rule.name)
            if window is None and since is not None:
                window = _Window(_milliseconds(since), 1)
            while window is not None and window.start < end and not taken.is_full:
                until = min(window.start + window.width, end)
                span = {"$gte": DatetimeMS(window.start), "$lt": DatetimeMS(until)}
                window = _Window(until, window.fit(_read(collection, rule, span, taken)))
                self._widths[rule.name] = window.width
            if not taken.entries:
                _read(collection, rule, {"$lt": DatetimeMS(end)}, taken)
        return tuple(taken.entries)

    def delete(self, rule: CleanupRule, cutoff: datetime, entries: Sequence[bytes]) -> int:
        """Delete those of the documents that are still there, unchanged to the byte, expired and not held.

        In one transaction, or on a standalone server each by a condition on all of its content.
        """
        if not entries:
            return 0
        deleting = partial(_delete, rule=rule, cutoff=cutoff, entries=entries)
        with self._open(rule) as collection:
            client = collection.database.client
            if not has_transactions(client):
                deleted = deleting(None, collection=collection)
            else:
                # The driver would try a lost commit again for two minutes, whoever waits for us.
                with pymongo.timeout(_TRANSACTION_SECONDS), client.start_session() as session:
                    deleted = session.with_transaction(
                        partial(deleting, collection=collection),
                        read_concern=ReadConcern("snapshot"),
                        write_concern=_MAJORITY,
                    )
        last = int(value_at(RawBSONDocument(entries[-1], _EXACT), rule.time_field))
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
        return client[self._database].with_options(_EXACT).get_collection(source, write_concern=_MAJORITY)


def _read(collection: Raw, rule: CleanupRule, span: dict[str, Any], taken: _Taken) -> int:
    """Take the documents of a span of time, oldest first, until it is enough; return how many it were."""
    before = len(taken.entries)
    limit = taken.most_entries - before
    with collection.find(free_query(rule, span)).sort(rule.time_field, 1).limit(limit) as cursor:
        for document in cursor:
            # A range also matches an array that holds such a date: that says nothing of its age.
            if isinstance(value_at(document, rule.time_field), DatetimeMS):
                taken.add(bytes(document.raw))
            if taken.is_full:
                break
    return len(taken.entries) - before


def _delete(
    session: ClientSession | None,
    collection: Raw,
    rule: CleanupRule,
    cutoff: datetime,
    entries: Sequence[bytes],
) -> int:
    """Delete by the range that the documents span, if it holds nothing else: that is one pass of an index."""
    documents = {entry: RawBSONDocument(entry, _EXACT) for entry in entries}
    times = [int(value_at(document, rule.time_field)) for document in documents.values()]
    last = min(max(times), _milliseconds(cutoff) - 1)
    query = free_query(rule, {"$gte": DatetimeMS(min(times)), "$lte": DatetimeMS(last)})
    there = {bytes(found.raw) for found in _find_again(collection, query, documents, session)}
    still = [document for entry, document in documents.items() if entry in there]
    if not still:
        return 0
    if session is not None and len(there) == len(still):
        deleted = collection.delete_many(query, session=session).deleted_count
    else:
        requests = [
            DeleteOne({"_id": document["_id"], **query, **({} if session else _unchanged(document))})
            for document in still
        ]
        deleted = collection.bulk_write(requests, ordered=False, session=session).deleted_count
    if session is not None and deleted != len(still):
        raise SourceError(
            f"MongoDB would have deleted {deleted} documents of {rule.source} where {len(still)} were read "
            "in the same transaction: it was rolled back."
        )
    return deleted


def _find_again(
    collection: Raw,
    query: dict[str, Any],
    documents: dict[bytes, RawBSONDocument],
    session: ClientSession | None,
) -> list[RawBSONDocument]:
    most = len(documents) * _STRANGERS
    found = list(collection.find(query, session=session).limit(most))
    if len(found) < most:
        return found
    # Thousands have the same moment: they are asked for by what they are.
    identities = [document["_id"] for document in documents.values()]
    return [*found, *collection.find({"_id": {"$in": identities}, **query}, session=session)]


def _unchanged(document: RawBSONDocument) -> dict[str, Any]:
    return {"$expr": {"$eq": ["$$ROOT", {"$literal": document}]}}


def _milliseconds(moment: datetime) -> int:
    return int(DatetimeMS(moment))
