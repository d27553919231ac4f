"""What a cleanup rule meets in a MongoDB collection, counted by the server where it can."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from tasks.errors import ConfigurationError
from tasks.records.cleanup import MonthOfExpired, RuleFacts
from tasks.records.data_care import CleanupRule
from tasks.records.figures import say_duration

# All that is neither a date, nor null, nor missing.
_WRONG_TYPES: Final = (
    "number",
    "string",
    "object",
    "array",
    "binData",
    "objectId",
    "bool",
    "regex",
    "javascript",
    "timestamp",
    "minKey",
    "maxKey",
)
_CLAMPED: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP
)
_CLAMPED_RAW: Final = CodecOptions(
    document_class=RawBSONDocument, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP
)
_SIZE: Final = {"$bsonSize": "$$ROOT"}
_RECENT: Final = (timedelta(hours=1), timedelta(days=1), timedelta(days=30))


def observe_rule(database: Database[dict[str, Any]], rule: CleanupRule, cutoff: datetime) -> RuleFacts:
    """Given a rule and its cutoff, return what the rule meets; raise ``ConfigurationError`` for a wrong hold.

    Without the index that it needs, a large collection is not counted: every count would read all of it. A
    server without the operators that count by month has the expired documents read instead.
    """
    kinds = {info["name"]: info for info in database.list_collections()}
    if rule.source not in kinds:
        return RuleFacts(rule=rule.name, source=rule.source, exists=False, others=tuple(sorted(kinds)))
    if obstacle := _find_obstacle(kinds[rule.source]):
        return RuleFacts(rule=rule.name, source=rule.source, exists=True, obstacles=(obstacle,))
    collection = database.get_collection(rule.source, codec_options=_CLAMPED)
    entries, size = measure_collection(collection)
    indexes = list(collection.list_indexes())
    facts = RuleFacts(
        rule=rule.name,
        source=rule.source,
        exists=True,
        entries=entries,
        index=_find_index(indexes, rule.time_field),
        cautions=tuple(_list_cautions(indexes, rule)),
        storage_bytes=size,
    )
    if facts.needs_index:
        # It ends at the first that has one; only a misspelt field is looked for to the end, once.
        known = collection.find_one({rule.time_field: {"$ne": None}}, {"_id": 1}) is not None
        return facts.model_copy(update={"has_time_field": known, "is_counted": False})
    return facts.model_copy(update=_count(collection, rule, cutoff, entries))


def free_query(rule: CleanupRule, span: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query for what lies in the span of time and is not held."""
    hold = parse_hold(rule)
    return {rule.time_field: dict(span), **({} if hold is None else {"$nor": [hold]})}


def parse_hold(rule: CleanupRule) -> dict[str, Any] | None:
    """Return a rule's legal hold as a query, or None; raise ``ConfigurationError`` if it is none."""
    if rule.legal_hold is None:
        return None
    if isinstance(rule.legal_hold, str) or not rule.legal_hold:
        raise ConfigurationError(
            f"The legal_hold of the rule {rule.name} is no MongoDB query: write one, such as "
            "{organizationId: ACME}, in MongoDB's Extended JSON."
        )
    try:
        parsed: dict[str, Any] = json_util.loads(json_util.dumps(rule.legal_hold))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"The legal_hold of the rule {rule.name} is not MongoDB's Extended JSON: correct it."
        ) from None
    return parsed


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """Return what a document has at a path with dots, or None."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _find_obstacle(info: Mapping[str, Any]) -> str:
    kind = info.get("type", "collection")
    if kind == "view":
        return f"{info['name']} is a view: name the collection behind it."
    if kind == "timeseries":
        return f"{info['name']} is a time series: let the server expire it (expireAfterSeconds)."
    if info.get("options", {}).get("capped"):
        return f"{info['name']} is capped: the server itself drops its oldest documents."
    return ""


def _count(
    collection: Collection[dict[str, Any]], rule: CleanupRule, cutoff: datetime, entries: int
) -> dict[str, Any]:
    wrong, example = _find_wrong_types(collection, rule.time_field)
    newest = _find_newest(collection, rule.time_field)
    months, oldest = _count_months(collection, rule, free_query(rule, {"$lt": cutoff}))
    return {
        "has_time_field": newest is not None or wrong > 0 or entries == 0,
        "wrong_type": wrong,
        "wrong_type_example": example,
        "without_time": collection.count_documents({rule.time_field: None}),
        "newest": newest,
        "oldest_expired": oldest,
        "months": months,
        "held": _count_held(collection, rule, cutoff),
    }


def _find_wrong_types(collection: Collection[dict[str, Any]], field: str) -> tuple[int, str]:
    query = {field: {"$type": list(_WRONG_TYPES)}}
    example = collection.find_one(query)
    if example is None:
        return 0, ""
    kind = type(value_at(example, field)).__name__
    identity = json_util.dumps(example["_id"])
    return collection.count_documents(query), f"_id {identity}, which has a value of type {kind}"


def _find_newest(collection: Collection[dict[str, Any]], field: str) -> datetime | None:
    """Look among the recent ones first: not every server stops at the first of a sorted search."""
    now = datetime.now(UTC)
    spans: list[dict[str, Any]] = [{"$gte": now - back} for back in _RECENT]
    for span in (*spans, {"$lt": now}):
        for document in collection.find({field: span}).sort(field, -1).limit(1):
            found = value_at(document, field)
            if isinstance(found, datetime):
                return found
    return None


def measure_collection(collection: Collection[dict[str, Any]]) -> tuple[int, int]:
    """Return how many documents there are, and what they and their indexes take on the disk."""
    # A sharded collection has statistics on each shard.
    shards = [found["storageStats"] for found in collection.aggregate([{"$collStats": {"storageStats": {}}}])]
    return sum(int(found["count"]) for found in shards), sum(
        int(found.get("storageSize", 0)) + int(found.get("totalIndexSize", 0)) for found in shards
    )


def _count_months(
    collection: Collection[dict[str, Any]], rule: CleanupRule, expired: Mapping[str, Any]
) -> tuple[tuple[MonthOfExpired, ...], datetime | None]:
    """Return what has expired month by month, and the oldest of it where the server says so."""
    month = {"$dateToString": {"format": "%Y-%m", "date": f"${rule.time_field}"}}
    sums = {
        "entries": {"$sum": 1},
        "raw_bytes": {"$sum": _SIZE},
        "oldest": {"$min": f"${rule.time_field}"},
    }
    oldest: list[datetime] = []
    pipeline: list[dict[str, Any]] = [{"$match": expired}, {"$group": {"_id": month, **sums}}]
    try:
        groups = list(collection.aggregate(pipeline))
        counted = {str(found["_id"]): (int(found["entries"]), int(found["raw_bytes"])) for found in groups}
        oldest = [found["oldest"] for found in groups if isinstance(found["oldest"], datetime)]
    except OperationFailure:
        # $bsonSize is there since 4.4, and no server formats a year before the first.
        entries: Counter[str] = Counter()
        raw_bytes: Counter[str] = Counter()
        for name, length in _read_months(collection, rule, expired):
            entries[name] += 1
            raw_bytes[name] += length
        counted = {name: (entries[name], raw_bytes[name]) for name in entries}
    months = tuple(
        MonthOfExpired(month=name, entries=number, raw_bytes=length)
        for name, (number, length) in sorted(counted.items())
    )
    return months, min(oldest, default=None)


def _read_months(
    collection: Collection[dict[str, Any]], rule: CleanupRule, expired: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    for document in collection.with_options(codec_options=_CLAMPED_RAW).find(expired):
        moment = value_at(document, rule.time_field)
        yield f"{moment:%Y-%m}" if isinstance(moment, datetime) else "", len(document.raw)


def _count_held(collection: Collection[dict[str, Any]], rule: CleanupRule, cutoff: datetime) -> int:
    hold = parse_hold(rule)
    if hold is None:
        return 0
    return collection.count_documents({rule.time_field: {"$lt": cutoff}, "$and": [hold]})


def _find_index(indexes: Sequence[Mapping[str, Any]], field: str) -> str | None:
    for index in indexes:
        first, kind = next(iter(index["key"].items()))
        usable = kind in {1, -1} and not index.get("hidden") and "partialFilterExpression" not in index
        if first == field and usable:
            return str(index["name"])
    return None


def _list_cautions(indexes: Sequence[Mapping[str, Any]], rule: CleanupRule) -> Iterator[str]:
    if not rule.archive and rule.legal_hold is None:
        return
    for index in indexes:
        seconds = float(index.get("expireAfterSeconds", math.nan))
        # An index whose time is no number, which old servers took, is not one by which anything goes.
        if math.isfinite(seconds) and list(index["key"]) == [rule.time_field]:
            yield (
                f"by its index {index['name']} the server itself deletes what of {rule.source} is older than "
                f"{say_duration(seconds)}, without an archive and whatever the legal_hold says."
            )
