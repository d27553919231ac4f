"""Which index would help a query: fields compared for equality first, then the sort, then ranges.

https://www.mongodb.com/docs/manual/tutorial/equality-sort-range-guideline/
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from flows.decisions.query_masking import MASK, mask_name
from tasks.records.indexes import IndexFacts
from tasks.records.slow_queries import HelpfulIndex, Need

_EQUAL: Final = {"$eq", "$in", "$all"}
_RANGE: Final = {"$gt", "$gte", "$lt", "$lte", "$regex", "$type"}
# Only an index of its own kind serves these.
_SPECIAL: Final = {"$text", "$near", "$nearSphere", "$geoWithin", "$geoIntersects", "$where"}
_IDENTITY = "_id"
# Of a wider one, little more than its first fields is ever used.
_WIDEST = 5


def read_needs(query: Mapping[str, Any], sort: Mapping[str, Any]) -> tuple[Need, ...]:
    """Given a filter and a sort, return what would be asked of an index; one need for each way of an $or."""
    equal: dict[str, None] = {}
    ranges: dict[str, None] = {}
    ways: list[Mapping[str, Any]] = []
    if not _collect(query, "", equal, ranges, ways):
        return ()
    order = tuple((mask_name(field), "-1" if _is_descending(way) else "1") for field, way in sort.items())
    if ways and not equal and not ranges:
        return tuple(need for way in ways for need in read_needs(way, sort))
    need = Need(equal=tuple(equal), sort=order, range=tuple(field for field in ranges if field not in equal))
    return (need,) if need.equal or need.sort or need.range else ()


def _collect(
    query: Mapping[str, Any],
    prefix: str,
    equal: dict[str, None],
    ranges: dict[str, None],
    ways: list[Mapping[str, Any]],
) -> bool:
    """Sort a filter's fields; return False if only an index of a special kind would serve it."""
    for name, value in query.items():
        if name in _SPECIAL:
            return False
        if name == "$and":
            if not all(_collect(one, prefix, equal, ranges, ways) for one in _mappings(value)):
                return False
        elif name == "$or":
            ways.extend(_mappings(value))
        elif not name.startswith("$") and not _collect_field(
            f"{prefix}{mask_name(name)}", value, equal, ranges
        ):
            return False
    return True


def _collect_field(field: str, value: object, equal: dict[str, None], ranges: dict[str, None]) -> bool:
    operators = value if isinstance(value, Mapping) else {}
    if not any(str(operator).startswith("$") for operator in operators):
        equal[field] = None
        return True
    if set(operators) & _SPECIAL:
        return False
    if isinstance(inner := operators.get("$elemMatch"), Mapping):
        if any(not str(name).startswith("$") for name in inner):
            return _collect(inner, f"{field}.", equal, ranges, [])
        return _collect_field(field, inner, equal, ranges)
    if set(operators) & _EQUAL:
        equal[field] = None
    elif set(operators) & _RANGE:
        ranges[field] = None
    return True


def _mappings(value: object) -> Iterable[Mapping[str, Any]]:
    return (one for one in value if isinstance(one, Mapping)) if isinstance(value, list | tuple) else ()


def _is_descending(way: object) -> bool:
    return isinstance(way, int | float) and way < 0


def recommend(source: str, needs: Sequence[Need], existing: Sequence[IndexFacts]) -> tuple[HelpfulIndex, ...]:
    """Given what a query needs, return the indexes that would help and are not there."""
    wanted = (_make_key(need) for need in needs)
    keys = dict.fromkeys(key for key in wanted if key and not _is_there(source, key, existing))
    return tuple(HelpfulIndex(source=source, key=key) for key in keys)


def _make_key(need: Need) -> tuple[tuple[str, str], ...]:
    equal = [field for field in need.equal if MASK not in field]
    if _IDENTITY in need.equal:
        return ()
    sort = [pair for pair in need.sort if pair[0] not in equal]
    # What comes after a field that cannot be named would be in another order.
    sort = list(takewhile(lambda pair: MASK not in pair[0], sort))
    fields = dict.fromkeys(equal, "1") | dict(sort)
    # After a first range, the next one narrows nothing down.
    first_range = [field for field in need.range if MASK not in field and field not in fields][:1]
    fields |= dict.fromkeys(first_range, "1")
    key = tuple(fields.items())[:_WIDEST]
    return () if [field for field, _ in key] == [_IDENTITY] else key


def _is_there(source: str, key: tuple[tuple[str, str], ...], existing: Sequence[IndexFacts]) -> bool:
    return any(
        index.source == source and index.is_valid and not index.special and _serves(index.key, key)
        for index in existing
    )


def _serves(index: tuple[tuple[str, str], ...], key: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether an index begins with the key, read forwards or backwards."""
    head = index[: len(key)]
    return head == key or head == tuple((field, "1" if kind == "-1" else "-1") for field, kind in key)
