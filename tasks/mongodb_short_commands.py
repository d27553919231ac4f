"""Reads and deletes old documents in commands that are over soon, so that none keeps users waiting."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from tasks.errors import SourceError
from tasks.mongodb import RAW
from tasks.mongodb_cleanup_facts import free_query, value_at
from tasks.records.data_care import CleanupRule

Raw = Collection[RawBSONDocument]

# No date of BSON is lost or shifted: Python's own dates end in the year 9999.
EXACT: Final[CodecOptions[RawBSONDocument]] = RAW.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
# What a command takes of the server, beyond the way there and back. When both took 4 ms, of those who asked
# during a read of ours 4.5 % waited for more than 6 ms, and of those who asked during a deletion 1 %.
LONGEST_READ_SECONDS: Final = 0.0025
LONGEST_DELETION_SECONDS: Final = 0.004
# Long enough for who asked meanwhile to be answered before our next command, instead of after it.
_GIVEN_WAY_SECONDS: Final = 0.001
_LEAST, _MOST = 10, 500
_GROWTH: Final = 2
_STRANGERS: Final = 4
_READ_AGAIN: Final = 40


@dataclass
class Pace:
    """How many documents a command is about: learnt from how long the ones before took."""

    longest_seconds: float
    documents: int = _LEAST
    _quickest: float = math.inf

    def learn(self, documents: int, seconds: float) -> None:
        """Given how long a command about so many documents took, choose the number for the next.

        The quickest so far stands for the way to the server and back, which keeps nobody waiting.
        """
        if not documents:
            return
        self._quickest = min(self._quickest, seconds)
        longest = self.longest_seconds
        likely = int(documents * longest / max(seconds - self._quickest, longest / _GROWTH))
        self.documents = max(_LEAST, min(likely, self.documents * _GROWTH, _MOST))


@dataclass
class Taken:
    """The documents of one read, until there are as many or as large as wanted."""

    most_entries: int
    most_bytes: int
    entries: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        """Are there enough?"""
        return len(self.entries) >= self.most_entries or self.size >= self.most_bytes

    def add(self, raw: bytes) -> None:
        """Take one more."""
        self.entries.append(raw)
        self.size += len(raw)


class Courtesy:
    """Leaves the server to others for a moment between any two commands."""

    def __init__(self) -> None:
        """Begin with no command before."""
        self._ended = -math.inf

    def __enter__(self) -> None:
        """Wait until the moment after the last command is over; what we did since is part of it."""
        time.sleep(max(0.0, self._ended + _GIVEN_WAY_SECONDS - time.monotonic()))

    def __exit__(self, *_: object) -> None:
        """Let the moment begin."""
        self._ended = time.monotonic()


def read_span(collection: Raw, rule: CleanupRule, span: dict[str, Any], taken: Taken) -> int:
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


@dataclass(frozen=True)
class Deletion:
    """What may be deleted of a collection: what is older than the cutoff and not held by the rule."""

    collection: Raw
    rule: CleanupRule
    cutoff: datetime
    pace: Pace
    courtesy: Courtesy

    def delete(self, session: ClientSession | None, entries: Sequence[bytes]) -> int:
        """Delete those of the entries that are there, unchanged to the byte; return how many they were."""
        known = {entry: RawBSONDocument(entry, EXACT) for entry in entries}
        ordered = sorted(known.values(), key=self._time_of)
        there = {bytes(found.raw) for found in self._find_again(session, ordered)}
        still = [document for document in ordered if bytes(document.raw) in there]
        # What lies between ours is not ours to delete.
        is_ours = session is not None and len(there) == len(still)
        deleted, done = 0, 0
        while done < len(still):
            some = still[done : done + self.pace.documents]
            with self.courtesy:
                began = time.monotonic()
                deleted += self._delete_range(session, some) if is_ours else self._delete_each(session, some)
                self.pace.learn(len(some), time.monotonic() - began)
            done += len(some)
        if session is not None and deleted != len(still):
            raise SourceError(
                f"MongoDB would have deleted {deleted} documents of {self.rule.source} where {len(still)} "
                "were read in the same transaction: it was rolled back."
            )
        return deleted

    def _find_again(
        self, session: ClientSession | None, ordered: Sequence[RawBSONDocument]
    ) -> Iterator[RawBSONDocument]:
        """Find all that is in the span of the documents, in commands that leave no gap between them."""
        parts = list(self._part(ordered))
        for part, next_part in zip_longest(parts, parts[1:]):
            query = self._query(part, until=self._time_of(next_part[0]) if next_part else None)
            most = len(part) * _STRANGERS
            with self.courtesy:
                found = list(self.collection.find(query, session=session).limit(most))
            yield from found
            if len(found) == most:
                # Thousands have the same moment: they are asked for by what they are.
                identities = [document["_id"] for document in part]
                yield from self.collection.find({"_id": {"$in": identities}, **query}, session=session)

    def _part(self, ordered: Sequence[RawBSONDocument]) -> Iterator[Sequence[RawBSONDocument]]:
        """Cut between two moments, never within one."""
        start = 0
        for place in range(1, len(ordered)):
            is_enough = place - start >= _READ_AGAIN
            if is_enough and self._time_of(ordered[place]) > self._time_of(ordered[place - 1]):
                yield ordered[start:place]
                start = place
        yield ordered[start:]

    def _delete_range(self, session: ClientSession | None, some: Sequence[RawBSONDocument]) -> int:
        """Delete all that the documents span: one pass of an index."""
        return self.collection.delete_many(self._query(some), session=session).deleted_count

    def _delete_each(self, session: ClientSession | None, some: Sequence[RawBSONDocument]) -> int:
        query = self._query(some)
        requests = [
            DeleteOne({"_id": document["_id"], **query, **({} if session else _unchanged(document))})
            for document in some
        ]
        return self.collection.bulk_write(requests, ordered=False, session=session).deleted_count

    def _query(self, some: Sequence[RawBSONDocument], until: int | None = None) -> dict[str, Any]:
        """Return the query for what they span, or lies before ``until``: nothing young and nothing held."""
        first, last = self._time_of(some[0]), self._time_of(some[-1])
        end = min(last + 1 if until is None else until, milliseconds(self.cutoff))
        return free_query(self.rule, {"$gte": DatetimeMS(first), "$lt": DatetimeMS(end)})

    def _time_of(self, document: RawBSONDocument) -> int:
        return int(value_at(document, self.rule.time_field))


def _unchanged(document: RawBSONDocument) -> dict[str, Any]:
    return {"$expr": {"$eq": ["$$ROOT", {"$literal": document}]}}


def milliseconds(moment: datetime) -> int:
    """Return a moment as BSON counts it: milliseconds since 1970."""
    return int(DatetimeMS(moment))
