"""Values that keep an index of a MongoDB collection from being unique."""

from collections.abc import Sequence
from typing import Any

from pymongo.collection import Collection

from tasks.records.indexes import DuplicateValue

Document = dict[str, Any]

_MOST_VALUES = 11
_MOST_ENTRIES = 5


def find_duplicates(collection: Collection[Document], fields: Sequence[str]) -> tuple[DuplicateValue, ...]:
    """Return the values that several documents have, the most frequent first, by the documents' ``_id``.

    A missing field counts as null, and of an array each value counts for itself: so does the index.
    """
    pairs = {f"k{number}": field for number, field in enumerate(fields)}
    stages: list[Document] = [
        {"$project": {k: {"$ifNull": [f"${field}", None]} for k, field in pairs.items()}}
    ]
    # What an index takes an empty array for depends on where it is: the build itself is the better judge.
    stages += [{"$match": {k: {"$ne": []} for k in pairs}}]
    stages += [{"$unwind": {"path": f"${k}", "preserveNullAndEmptyArrays": True}} for k in pairs]
    value = {k: {"$ifNull": [f"${k}", None]} for k in pairs}
    # Twice in one document's array is once in the index.
    stages += [
        {"$group": {"_id": {"value": value, "entry": "$_id"}}},
        {"$group": {"_id": "$_id.value", "count": {"$sum": 1}}},
        {"$match": {"count": {"$gt": 1}}},
        {"$sort": {"count": -1, "_id": 1}},
        {"$limit": _MOST_VALUES},
    ]
    several = list(collection.aggregate(stages, allowDiskUse=True))
    return tuple(
        DuplicateValue(
            count=one["count"],
            entries=_identify(collection, {field: one["_id"].get(k) for k, field in pairs.items()}),
        )
        for one in several
    )


def _identify(collection: Collection[Document], values: Document) -> tuple[str, ...]:
    query = {field: {"$eq": value} for field, value in values.items()}
    found = collection.find(query, {"_id": 1}).sort("_id", 1).limit(_MOST_ENTRIES)
    return tuple(f"_id {document['_id']}" for document in found)
