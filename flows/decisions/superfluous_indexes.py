"""Which indexes cost more than they are worth: nobody used them, or another one serves as well."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tasks.records.data_care import RecommendedIndex
from tasks.records.index_care import ObservedUse, name_index
from tasks.records.indexes import IndexFacts

_DIRECTIONS = {"1", "-1"}
# What an index does besides serving queries: it deletes, or is about to become unique.
_DUTIES = ("TTL ", "prepareUnique")


@dataclass(frozen=True, slots=True)
class Superfluous:
    """An index that may go; ``instead`` is the one that serves in its place, None where nobody needs one."""

    index: IndexFacts
    instead: IndexFacts | None
    idle: timedelta | None = None


def find_superfluous(
    indexes: Sequence[IndexFacts],
    uses: Mapping[str, ObservedUse],
    recommended: Sequence[RecommendedIndex],
    unused_for: timedelta,
) -> tuple[Superfluous, ...]:
    """Given all indexes and the use of those whose counts are true, return what may go, largest first.

    What serves in another's place stays itself.
    """
    unused = [
        Superfluous(index, None, use.idle)
        for index in indexes
        if (use := uses.get(name_index(index))) is not None
        and use.idle >= unused_for
        and _is_free(index)
        and not _has_duty(index)
        and not is_recommended(index, recommended)
    ]
    going = {name_index(found.index) for found in unused}
    others = [index for index in indexes if name_index(index) not in going]
    redundant = [Superfluous(index, other) for index, other in find_redundant(others, recommended)]
    return tuple(sorted((*unused, *redundant), key=lambda found: -found.index.bytes))


def find_redundant(
    indexes: Sequence[IndexFacts], recommended: Sequence[RecommendedIndex] = ()
) -> Iterator[tuple[IndexFacts, IndexFacts]]:
    """Yield each index whose keys another one begins with, and the other one, which stays."""
    kept: list[IndexFacts] = []
    # What serves more comes before what serves less; of two alike, the one that has to stay or is used more.
    asked_for = {name_index(index) for index in indexes if is_recommended(index, recommended)}
    order = sorted(
        indexes,
        key=lambda one: (
            -len(one.key),
            _may_go(one),
            name_index(one) not in asked_for,
            -(one.uses or 0),
            name_index(one),
        ),
    )
    for index in order:
        # In place of what the profile asks for, only its like serves.
        serving = [
            other
            for other in kept
            if _may_go(index)
            and _serves(other, index)
            and (other.key == index.key or name_index(index) not in asked_for)
        ]
        if serving:
            yield index, min(serving, key=lambda other: (len(other.key), other.bytes, other.name))
        else:
            kept.append(index)


def is_recommended(index: IndexFacts, recommended: Sequence[RecommendedIndex]) -> bool:
    """Does the profile ask for this index?"""
    return any(
        wanted.source == index.source
        and tuple((key, str(direction)) for key, direction in wanted.key.items()) == index.key
        for wanted in recommended
    )


def _serves(other: IndexFacts, index: IndexFacts) -> bool:
    """Does the other one serve every query that the index serves?"""
    if other.source != index.source or other.special or not other.is_valid:
        return False
    beginning = other.key[: len(index.key)]
    # An index is read in both directions.
    return beginning in {index.key, tuple((key, _reverse(kind)) for key, kind in index.key)}


def _reverse(kind: str) -> str:
    return {"1": "-1", "-1": "1"}.get(kind, kind)


def _may_go(index: IndexFacts) -> bool:
    """May another index serve in this one's place?"""
    is_plain = all(kind in _DIRECTIONS and "$**" not in key for key, kind in index.key)
    return _is_free(index) and is_plain and not index.special


def _is_free(index: IndexFacts) -> bool:
    return index.is_valid and not index.unique and not index.is_constraint


def _has_duty(index: IndexFacts) -> bool:
    return any(duty in index.special for duty in _DUTIES)
