"""MongoDB's profiler: its settings, what it wrote down, and the operations at work where it may not be used.

The level is a database's own; the threshold and the sampling rate are its whole server's, so all three are
put back, on the member of a replica set that was profiled: after an election, another one answers to the
URL. https://www.mongodb.com/docs/manual/reference/command/profile/
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo.database import Database
from pymongo.errors import OperationFailure

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import RefusedError, SourceError
from tasks.mongodb import Client, address_member, connect, database_of, find_member
from tasks.records.section import Reference
from tasks.records.service import ServiceProfile
from tasks.records.slow_queries import Document, ProfileExcerpt, ProfilerSettings
from tasks.retrying import retried

COLLECTION: Final = "system.profile"
_SLOW_ONLY = 1
# An operation's line is dated by its end and written after it: a look back leaves the newest for the next.
_SETTLED = timedelta(seconds=1)
_BAD_VALUE, _UNAUTHORIZED, _NO_SUCH_COMMAND, _NOT_SUPPORTED, _ATLAS = 2, 13, 59, 115, 8000
_REFUSALS: Final = {
    _BAD_VALUE: "this kind of server has no profiler",
    _UNAUTHORIZED: "its user may not: give it the role dbAdmin on the database",
    _NO_SUCH_COMMAND: "this server has no profiler",
    _NOT_SUPPORTED: "this server does not offer the profiler",
    _ATLAS: "this tier of Atlas does not offer the profiler",
}


class ProfilerRefusedError(RefusedError):
    """The server does not let us profile; the message is the reason, as a clause."""


class MongodbProfiler:
    """The profiler of the database that a service's application works in.

    Each method opens a connection of its own: what it reads back, the server says anew.
    """

    def __init__(self, admin_url: Reference, url: str, member: str = "") -> None:
        """Learn the database's name from the application's own URL; nothing is opened yet.

        Without a member, it is the primary's profiler.
        """
        self._admin_url, self._database, self._member = admin_url, database_of(url), member

    @contextmanager
    def _open(self) -> Generator[tuple[Client, Database[Document]]]:
        with connect(address_member(resolve(self._admin_url), self._member)) as client:
            yield client, client[self._database]

    def observe(self) -> ProfilerSettings:
        """Return the settings as they are; raise ``ProfilerRefusedError`` if the server does not tell."""
        with self._open() as (client, database):
            try:
                said = database.command({"profile": -1})
            except OperationFailure as error:
                if error.code not in _REFUSALS:
                    raise
                raise ProfilerRefusedError(_REFUSALS[error.code]) from None
            names = database.list_collection_names(filter={"name": COLLECTION})
            member = find_member(client)
        return ProfilerSettings(
            level=int(said["was"]),
            slow_milliseconds=int(said["slowms"]),
            sample_rate=float(said.get("sampleRate", 1.0)),
            has_filter="filter" in said,
            has_collection=COLLECTION in names,
            member=self._member or member,
        )

    def turn_on(self, slow_milliseconds: int) -> None:
        """Let the server write down what takes longer, all of it; raise ``ProfilerRefusedError`` if not."""
        with self._open() as (_, database):
            try:
                database.command({"profile": _SLOW_ONLY, "slowms": slow_milliseconds, "sampleRate": 1.0})
            except OperationFailure as error:
                if error.code not in _REFUSALS:
                    raise
                raise ProfilerRefusedError(_REFUSALS[error.code]) from None

    def put_back(self, settings: ProfilerSettings) -> None:
        """Make the settings what they were; safe to repeat."""
        with self._open() as (_, database):
            database.command(
                {
                    "profile": settings.level,
                    "slowms": settings.slow_milliseconds,
                    "sampleRate": settings.sample_rate,
                }
            )

    def drop_collection(self) -> None:
        """Drop ``system.profile``, as only a primary can; it refuses that while it writes there."""
        with self._open() as (client, database):
            if client.admin.command("hello").get("isWritablePrimary", True):
                database.drop_collection(COLLECTION)

    @contextmanager
    def follow(self) -> Generator["Follower"]:
        """Hold a connection by which what is written down, or at work, is read again and again."""
        with self._open() as (client, database):
            yield Follower(client, database)


class Follower:
    """A connection that follows a database's operations."""

    def __init__(self, client: Client, database: Database[Document]) -> None:
        """Take the connection."""
        self._client, self._database = client, database

    def read_clock(self) -> datetime:
        """Return the server's time."""
        moment: datetime = self._client.admin.command("hello")["localTime"]
        return moment

    def read(self, since: datetime, slow_milliseconds: int, *, whole: bool) -> ProfileExcerpt:
        """Return what was written down from a moment on; whole, or up to a second ago."""
        until = self.read_clock() + (_SETTLED if whole else -_SETTLED)
        collection = self._database[COLLECTION]
        wanted = {"ts": {"$gte": since, "$lt": until}, "millis": {"$gte": slow_milliseconds}}
        documents = tuple(collection.find(wanted)) if until > since else ()
        oldest = list(collection.find({}, {"ts": 1}).sort("$natural", 1).limit(1))
        return ProfileExcerpt(
            documents=documents,
            until=max(since, until),
            oldest=oldest[0].get("ts") if oldest else None,
        )

    def list_running(self, slow_milliseconds: int) -> tuple[Document, ...]:
        """Return what has been at work for so long in the database, whoever's it is.

        Raise ``ProfilerRefusedError`` if this user sees its own operations only.
        """
        slow: dict[str, Any] = {
            "active": True,
            "microsecs_running": {"$gte": slow_milliseconds * 1000},
            "op": {"$ne": "none"},
        }
        try:
            found = self._client.admin.aggregate([{"$currentOp": {"allUsers": True}}, {"$match": slow}])
            ours = f"{self._database.name}."
            return tuple(one for one in found if str(one.get("ns", "")).startswith(ours))
        except OperationFailure as error:
            if error.code not in _REFUSALS:
                raise
            raise ProfilerRefusedError(
                "its user does not see what others do: give it the role clusterMonitor"
            ) from None


def open_profiler(profile: ServiceProfile, member: str = "") -> MongodbProfiler:
    """Given a service on MongoDB, return its primary's profiler, or a member's; nothing is opened yet."""
    url = read_variable(profile, profile.database.url_variable)
    return MongodbProfiler(profile.database.admin_url, url, member)


@retried
def observe_profiler(profile: ServiceProfile) -> ProfilerSettings:
    """Given a service, return how its database is profiled; raise ``ProfilerRefusedError`` if not told."""
    return open_profiler(profile).observe()


@retried
def put_back_profiler(profile: ServiceProfile, former: ProfilerSettings) -> str:
    """Given the settings of before, put them back and say what a new connection reads; safe to repeat.

    What the profiler wrote down goes where it was not there before. Raise ``SourceError`` if the server has
    other settings then.
    """
    profiler = open_profiler(profile, former.member)
    profiler.put_back(former)
    now = profiler.observe()
    if _ours(now) != _ours(former):
        raise SourceError(
            f"{profile.name}: the profiler was to be put back to {_say(former)}, and is at {_say(now)}: "
            "somebody else changes it, put it back by hand."
        )
    if former.level == 0 and not former.has_collection:
        profiler.drop_collection()
    off = "off again" if former.level == 0 else "as it was"
    return f"The profiler is {off} ({_say(now)}), as a new connection reads"


def _ours(settings: ProfilerSettings) -> tuple[int, int, float]:
    return settings.level, settings.slow_milliseconds, settings.sample_rate


def _say(settings: ProfilerSettings) -> str:
    return f"level {settings.level}, slowms {settings.slow_milliseconds}, sampleRate {settings.sample_rate:g}"
