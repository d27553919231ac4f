"""Take care of a MongoDB database's indexes and files, by what its server and its topology support."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pymongo
from pymongo.database import Database
from pymongo.errors import OperationFailure

from tasks.credentials import resolve
from tasks.errors import UnreachableError
from tasks.mongodb import Client, address_member, connect, database_of
from tasks.mongodb_index_listing import list_collections, list_indexes
from tasks.records.index_care import CareAct, CollectionSpace, IndexCareFacts, IndexUseFacts
from tasks.records.indexes import IndexFacts
from tasks.records.section import Reference

Document = dict[str, Any]

# A drop waits for whoever works in the collection, and others wait behind it.
LOCK_SECONDS: Final = 60
_UNAUTHORIZED, _NOT_FOUND = 13, {26, 27}
_NO_SUCH_COMMAND = 59
# Until then a compact kept everybody out of the database.
_COMPACTS_BESIDE = (4, 4)
_IDENTITY = (("_id", "1"),)
# Files of their own kind, which compact refuses.
_NOT_COMPACTED = {"capped", "timeseries"}


class MongodbIndexCare:
    """The database that a service's application works in, as an administrator sees it."""

    def __init__(self, admin_url: Reference, url: str) -> None:
        """Learn the database's name from the application's own URL; nothing is opened yet."""
        self._admin_url, self._database = admin_url, database_of(url)

    def observe_use(self) -> IndexUseFacts:
        """Return every index with its uses, and whether the server counts them."""
        with connect(resolve(self._admin_url)) as client:
            return _observe_use(client, client[self._database])

    def observe(self) -> IndexCareFacts:
        """Return all that care is decided by."""
        url = resolve(self._admin_url)
        with connect(url) as client:
            use = _observe_use(client, client[self._database])
            hello = client.admin.command("hello")
            reason = _find_why_not_compacted(client, hello)
        members = [*hello.get("hosts", ()), *hello.get("passives", ())] or [""]
        asked = {member: self._ask(url, member) for member in members if not reason}
        return IndexCareFacts(
            **dict(use),
            identity=self._database,
            cannot_rebuild=reason,
            spaces=tuple(space for spaces in asked.values() for space in spaces or ()),
            away=tuple(member for member, spaces in asked.items() if spaces is None),
        )

    def _ask(self, url: str, member: str) -> tuple[CollectionSpace, ...] | None:
        """Return the files of a member; None where it does not answer, and the others are looked at."""
        try:
            return tuple(self._measure(url, member))
        except UnreachableError:
            if not member:
                raise
            return None

    def _measure(self, url: str, member: str) -> Iterator[CollectionSpace]:
        """Ask a member itself: each has files of its own. The one without a name is the server of the URL."""
        with connect(address_member(url, member)) as client:
            hello = client.admin.command("hello")
            database = client[self._database]
            for name, options in sorted(list_collections(database).items()):
                if _NOT_COMPACTED & set(options):
                    continue
                (stats,) = database[name].aggregate([{"$collStats": {"storageStats": {}}}])
                yield CollectionSpace(
                    source=name,
                    member=member,
                    is_primary=_is_primary(hello),
                    file_bytes=int(stats["storageStats"]["storageSize"]),
                    reusable_bytes=read_reusable(stats["storageStats"]),
                )

    def apply(self, act: CareAct) -> None:
        """Do an act: drop an index, or compact a collection on one member."""
        url = resolve(self._admin_url)
        if act.kind == "compact":
            with connect(address_member(url, act.member), patient=True) as client:
                is_primary = _is_primary(client.admin.command("hello"))
                client[self._database].command(
                    {"compact": act.source, **({"force": True} if is_primary else {})}
                )
            return
        with connect(url) as client, pymongo.timeout(LOCK_SECONDS):
            try:
                client[self._database][act.source].drop_index(act.name)
            except OperationFailure as error:
                if error.code not in _NOT_FOUND:
                    raise

    def list_invalid(self) -> tuple[IndexFacts, ...]:
        """Return nothing, and ask nobody: what does not come to its end leaves no index here."""
        return ()

    def end_own_work(self) -> None:
        """Do nothing: a drop is over at once, and a compact that goes on alone keeps nobody out."""


def _observe_use(client: Client, database: Database[Document]) -> IndexUseFacts:
    hello = client.admin.command("hello")
    indexes = list_indexes(database)
    others = len(hello.get("hosts", ())) + len(hello.get("passives", ())) > 1
    return IndexUseFacts(
        observed_at=datetime.now(UTC),
        indexes=indexes,
        uncounted=_find_why_uncounted(database, indexes),
        counted_by=f"Uses are those of {hello.get('me', 'the primary')}: each member counts its own, so that "
        "reads from another one are not among them."
        if others
        else "",
    )


def _find_why_uncounted(database: Database[Document], indexes: Sequence[IndexFacts]) -> str:
    """Read one document by an index, and see whether the server has counted it."""
    try:
        for index in indexes:
            before = _count_uses(database, index) if index.key == _IDENTITY else None
            if before is None or not _read_by(database, index):
                continue
            if _count_uses(database, index) != before:
                return ""
            return (
                f"this server does not count uses: {index.source} was read by {index.name} a moment ago, and "
                f"the count stayed at {before}."
            )
    except OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        return (
            "the server does not tell this user how often: give the user of database.admin_url the role "
            "clusterMonitor."
        )
    return "no collection has a document by which to see whether this server counts uses."


def _count_uses(database: Database[Document], index: IndexFacts) -> int | None:
    """Return the uses of an index; None of one of which there is no count, as of a clustered collection's."""
    said = database[index.source].aggregate([{"$indexStats": {}}])
    counts = [int(found["accesses"]["ops"]) for found in said if found["name"] == index.name]
    return sum(counts) if counts else None


def _read_by(database: Database[Document], index: IndexFacts) -> bool:
    return bool(list(database[index.source].find({}, {"_id": 1}).hint(index.name).limit(1)))


def _find_why_not_compacted(client: Client, hello: Mapping[str, Any]) -> str:
    if hello.get("msg") == "isdbgrid":
        return "Nothing is compacted: this is a sharded cluster's router, and compact is for each shard."
    try:
        offered = client.admin.command("listCommands")["commands"]
    except OperationFailure as error:
        if error.code != _NO_SUCH_COMMAND:
            raise
        offered = {}
    if "compact" not in offered:
        return "Nothing is rebuilt: this server offers no compact, and reIndex is no way to do it any more."
    version = client.server_info()["versionArray"]
    if tuple(version[:2]) < _COMPACTS_BESIDE:
        return "Nothing is compacted: before MongoDB 4.4 that keeps everybody out of the database."
    return ""


def read_reusable(stats: Mapping[str, Any]) -> int:
    """Given a collection's storage statistics, return how much of its file is empty."""
    blocks = stats.get("wiredTiger", {}).get("block-manager", {})
    return int(stats.get("freeStorageSize", blocks.get("file bytes available for reuse", 0)))


def _is_primary(hello: Mapping[str, Any]) -> bool:
    return "setName" in hello and bool(hello.get("isWritablePrimary"))
