"""The indexes of a MongoDB database as it describes them: keys, kind, size, use."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from typing import Any, Final, TypeVar

from bson import json_util
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from tasks.records.indexes import IndexFacts

Document = dict[str, Any]
T = TypeVar("T")

# One that was dropped a moment ago.
_NO_COLLECTION = 26
_UNAUTHORIZED = 13
_UNTOLD = (_NO_COLLECTION, _UNAUTHORIZED)
# What an index may be besides its keys, and how that is said.
_FLAGS = ("sparse", "hidden", "clustered", "prepareUnique")
_WHOLE_DOCUMENTS = ("weights", "wildcardProjection", "storageEngine")
_INDEXED = ("collection", "timeseries")
_SIMPLE: Final = {"locale": "simple"}


def list_collections(database: Database[Document]) -> dict[str, Mapping[str, Any]]:
    """Return the names of the collections that may have indexes, with their options; no views."""
    return {
        found["name"]: found.get("options", {})
        for found in database.list_collections()
        if found.get("type", "collection") in _INDEXED and not found["name"].startswith("system.")
    }


def list_indexes(database: Database[Document]) -> tuple[IndexFacts, ...]:
    """Return every index, by collection and name; what is being built is not valid yet.

    Sizes and uses are left out where the server does not tell this user. On a replica set the uses are those
    of the node that answers.
    """
    return tuple(
        facts
        for name, options in sorted(list_collections(database).items())
        for facts in _describe_collection(database[name], options.get("collation"))
    )


def _describe_collection(
    collection: Collection[Document], collation: Mapping[str, Any] | None
) -> Iterator[IndexFacts]:
    try:
        specifications = sorted(map(dict, collection.list_indexes()), key=lambda found: found["name"])
    except OperationFailure as error:
        if error.code != _NO_COLLECTION:
            raise
        return
    storage = _told(lambda: collection.database.command("collStats", collection.name)) or {}
    statistics = _told(lambda: list(collection.aggregate([{"$indexStats": {}}]))) or []
    building = {*storage.get("indexBuilds", ()), *(one["name"] for one in statistics if one.get("building"))}
    for index in specifications:
        name = index["name"]
        # One for each shard; where nothing is counted, there is no time since which that would be.
        accesses = [one["accesses"] for one in statistics if one["name"] == name and one["accesses"]["since"]]
        yield IndexFacts(
            source=collection.name,
            name=name,
            key=tuple((field, _say_kind(kind)) for field, kind in index["key"].items()),
            unique=bool(index.get("unique")) or _is_identity(index),
            is_constraint=_is_identity(index),
            is_valid=name not in building,
            is_building=name in building,
            special=", ".join(_describe_special(index, collation)),
            bytes=int(storage.get("indexSizes", {}).get(name, 0)),
            uses=sum(int(found["ops"]) for found in accesses) if accesses else None,
            definition=json_util.dumps(
                {"createIndexes": collection.name, "indexes": [{k: v for k, v in index.items() if k != "ns"}]}
            ),
            uses_since=min((found["since"].replace(tzinfo=UTC) for found in accesses), default=None),
        )


def _told(question: Callable[[], T]) -> T | None:
    """Return the server's answer; None where it does not tell this user."""
    try:
        return question()
    except OperationFailure as error:
        if error.code not in _UNTOLD:
            raise
        return None


def _is_identity(index: Mapping[str, Any]) -> bool:
    return bool(index.get("clustered")) or list(index["key"].items()) == [("_id", 1)]


def _say_kind(kind: object) -> str:
    """Return a direction as 1 or -1: a server keeps 1.0 or 5 as it was given."""
    if isinstance(kind, int | float):
        return "1" if kind > 0 else "-1"
    return str(kind)


def _describe_special(index: Mapping[str, Any], inherited: Mapping[str, Any] | None) -> Iterator[str]:
    if (condition := index.get("partialFilterExpression")) is not None:
        yield f"partial {json_util.dumps(condition)}"
    yield from (flag for flag in _FLAGS if index.get(flag))
    if (seconds := index.get("expireAfterSeconds")) is not None:
        yield f"TTL {seconds:g} s"
    collation = index.get("collation") or _SIMPLE
    # The collection's own is that of a new index as well.
    if collation != (inherited or _SIMPLE) and not _is_identity(index):
        strength = f", strength {collation['strength']}" if "strength" in collation else ""
        yield f"collation {collation['locale']}{strength}"
    yield from (f"{name} {json_util.dumps(index[name])}" for name in _WHOLE_DOCUMENTS if index.get(name))
