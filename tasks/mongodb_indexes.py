"""The indexes of a MongoDB database: listed, built and dropped while the application reads and writes."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from pymongo.errors import OperationFailure

from tasks.errors import AccessDeniedError, RunbookError, SourceError
from tasks.mongodb import Client, connect, database_of
from tasks.mongodb_index_duplicates import find_duplicates
from tasks.mongodb_index_listing import list_collections, list_indexes
from tasks.records.data_care import RecommendedIndex
from tasks.records.figures import say_period
from tasks.records.indexes import BuildFacts, IndexFacts

_POLL_SECONDS = 1.0
# Longer than most builds; what goes on after that may be waiting for a member that does not come back.
_CLEAR_SECONDS = 3_600.0
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_UNAUTHORIZED = 13
_GONE = {26, 27}
_DUPLICATE_KEY = {11000, 11001, 12582}
_KEY_TOO_LONG = 17280
# Since then a build takes no lock for long, and does not have to be told.
_NEVER_BLOCKS = [4, 2]
# Since then all members build at the same time, and the primary waits for each one that votes, without end.
_BUILDS_TOGETHER = [4, 4]
# What is sorted on the disk is written twice.
_SORTING = 2


class MongodbIndexes:
    """The indexes of the database that a URL names. Connections are opened and closed within each call."""

    def __init__(self, url: str) -> None:
        """Keep the URL; nothing is opened yet."""
        self._url, self._database = url, database_of(url)

    def list_sources(self) -> tuple[str, ...]:
        """Return the collections."""
        with connect(self._url) as client:
            return tuple(sorted(list_collections(client[self._database])))

    def list_indexes(self) -> tuple[IndexFacts, ...]:
        """Return every index of every collection."""
        with connect(self._url) as client:
            return list_indexes(client[self._database])

    def examine(self, wanted: RecommendedIndex) -> BuildFacts:
        """Return what a build would meet."""
        with connect(self._url, patient=True) as client:
            database = client[self._database]
            sizes = database.command("collStats", wanted.source).get("indexSizes", {})
            # Its keys are not known yet; most are about as long as those that every collection has.
            estimate = int(sizes.get("_id_", 0)) * (1 + len(wanted.key)) * _SORTING
            disk = database.command("dbStats")
            found = find_duplicates(database[wanted.source], tuple(wanted.key)) if wanted.unique else ()
        free = int(disk["fsTotalSize"] - disk["fsUsedSize"]) if disk.get("fsTotalSize") else None
        return BuildFacts(duplicates=found, bytes=estimate, free_bytes=free)

    def build(self, index: IndexFacts) -> None:
        """Build an index; one that fails leaves nothing."""
        specification: dict[str, Any] = {
            "key": {key: int(kind) for key, kind in index.key},
            "name": index.name,
        }
        if index.unique:
            specification["unique"] = True
        with connect(self._url, patient=True) as client, _judged(self._database, index):
            collation = list_collections(client[self._database]).get(index.source, {}).get("collation")
            if collation is not None:
                specification["collation"] = collation
            if client.server_info()["versionArray"][:2] < _NEVER_BLOCKS:
                specification["background"] = True
            command = {"createIndexes": index.source, "indexes": [specification]}
            client[self._database].command(command | _choose_quorum(client))

    def drop(self, index: IndexFacts) -> None:
        """Drop an index; one that is gone is no error."""
        with connect(self._url, patient=True) as client, _judged(self._database, index):
            try:
                client[self._database].command({"dropIndexes": index.source, "index": index.name})
            except OperationFailure as error:
                if error.code not in _GONE:
                    raise

    def clear(self, index: IndexFacts) -> bool:
        """Wait until nobody builds this index any more; the server leaves nothing of a build that failed.

        Return whether the index is there; raise ``RunbookError`` if the build does not end.
        """
        deadline = time.monotonic() + _CLEAR_SECONDS
        while found := [one for one in self.list_indexes() if _is_same(one, index)]:
            if found[0].is_valid:
                return True
            if time.monotonic() > deadline:
                raise RunbookError(_say_endless(self._database, index))
            time.sleep(_POLL_SECONDS)
        return False

    def read_progress(self, index: IndexFacts) -> str | None:
        """Return how far the build is, in words; None when nothing is built or this user may not see it."""
        with connect(self._url) as client:
            try:
                operations = list(client.admin.aggregate([{"$currentOp": {"allUsers": True}}]))
            except OperationFailure as error:
                if error.code == _UNAUTHORIZED:
                    return None
                raise
        return next(_find_progress(operations, index.source), None)

    def explain(self, index: IndexFacts) -> str | None:
        """Return the index that a query by this one's first key uses, "" for none."""
        (first, kind), *_ = index.key
        find = {"find": index.source, "filter": {first: 1}, "hint": index.name, "sort": {first: int(kind)}}
        with connect(self._url) as client:
            explained = client[self._database].command({"explain": find, "verbosity": "queryPlanner"})
        plan = explained.get("queryPlanner", {}).get("winningPlan")
        return None if plan is None else next(_find_index_names(plan), "")


def _choose_quorum(client: Client) -> dict[str, str]:
    """Let a build end when most members are through with it: one that is away would be waited for."""
    if client.server_info()["versionArray"][:2] < _BUILDS_TOGETHER:
        return {}
    hello = client.admin.command("hello")
    # A server without members refuses the option.
    return {"commitQuorum": "majority"} if "setName" in hello or hello.get("msg") == "isdbgrid" else {}


def _say_endless(database: str, index: IndexFacts) -> str:
    waited = say_period(timedelta(seconds=_CLEAR_SECONDS))
    return (
        f"MongoDB database {database}: {index.name} on {index.source}, which a killed run began, is still "
        f"being built after {waited} of waiting. If db.currentOp() shows progress, start again: this runbook "
        "waits on. If members of the replica set are away, bring them back; or drop the index, which ends "
        "its build, and start again."
    )


def _is_same(found: IndexFacts, index: IndexFacts) -> bool:
    return (found.source, found.name) == (index.source, index.name)


def _find_progress(operations: list[dict[str, Any]], collection: str) -> Iterator[str]:
    for operation in operations:
        if operation.get("command", {}).get("createIndexes") == collection and operation.get("progress"):
            progress = operation["progress"]
            share = f", {progress['done'] / progress['total']:.0%}" if progress.get("total") else ""
            yield f"{operation.get('msg', 'building').partition(':')[2].strip() or 'building'}{share}"


def _find_index_names(plan: Any) -> Iterator[str]:
    """Yield the indexes that a plan scans: its stages lie in documents and lists of many names."""
    if isinstance(plan, Mapping):
        if plan.get("stage") == "IXSCAN":
            yield str(plan["indexName"])
        for value in plan.values():
            yield from _find_index_names(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from _find_index_names(value)


@contextmanager
def _judged(database: str, index: IndexFacts) -> Generator[None]:
    """Raise what concerns indexes as a sentence of its own; the server would repeat the value."""
    what = f"MongoDB database {database}: {index.name} on {index.source}"
    try:
        yield
    except OperationFailure as error:
        if error.code in _DUPLICATE_KEY:
            raise SourceError(
                f"{what} cannot be unique, a value came in twice since the plan was made: start again, the "
                "new plan names it."
            ) from None
        if error.code == _KEY_TOO_LONG:
            raise SourceError(f"{what} has a value that is longer than this server indexes.") from None
        if error.code == _UNAUTHORIZED:
            raise AccessDeniedError(
                f"{what}: the application's user may not change indexes: grant it the role readWrite on the "
                "database, or createIndex and dropIndex on the collection."
            ) from None
        raise
