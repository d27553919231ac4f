"""Is an index that the profile recommends there, and if not, why not?"""

import difflib
import re
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.records.data_care import RecommendedIndex
from tasks.records.figures import say_count
from tasks.records.indexes import BuildFacts, DuplicateValue, IndexFacts, ObservedIndexes

State = Literal[
    "present",
    "served",
    "missing",
    "invalid",
    "building",
    "different",
    "duplicates",
    "impossible",
    "no source",
]
Key = tuple[tuple[str, str], ...]

GOOD: frozenset[State] = frozenset({"present", "served"})
TO_BUILD: frozenset[State] = frozenset({"missing", "invalid"})
_SIMILAR_ENOUGH = 0.5
_MOST_NAMES = 3
_MOST_DUPLICATES = 10
# Further columns in the leaves of a PostgreSQL index change nothing of what it serves.
_INCLUDES = re.compile(r"INCLUDE \([^()]*\)")


class IndexVerdict(BaseModel):
    """A recommended index and how it stands with it; ``said`` tells more, and what to do, as sentences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wanted: RecommendedIndex
    state: State
    facts: IndexFacts | None = None
    """The index that was found in its place."""
    said: str = ""


def key_of(wanted: RecommendedIndex) -> Key:
    """Return the keys of a recommended index as a server's listing has them."""
    return tuple((key, str(direction)) for key, direction in wanted.key.items())


def say_key(keys: Key) -> str:
    """Return "userEmail, timestamp descending"."""
    words = {"1": "", "-1": " descending"}
    return ", ".join(f"{key}{words.get(kind, f' ({kind})')}" for key, kind in keys)


def say_index(wanted: RecommendedIndex) -> str:
    """Return "the unique index on users (email)"."""
    unique = "unique " if wanted.unique else ""
    return f"the {unique}index on {wanted.source} ({say_key(key_of(wanted))})"


def judge_index(
    wanted: RecommendedIndex, observed: ObservedIndexes, examined: BuildFacts | None = None
) -> IndexVerdict:
    """Given a recommended index and what is there, return how it stands with it.

    ``examined`` is what a build of it would meet, where that was looked at.
    """
    if wanted.source not in observed.sources:
        return IndexVerdict(wanted=wanted, state="no source", said=_say_no_source(wanted, observed.sources))
    there = [index for index in observed.indexes if index.source == wanted.source]
    verdict = _judge_those_there(wanted, there)
    if verdict.state not in TO_BUILD or examined is None:
        return verdict
    if said := _find_obstacle(wanted, examined):
        return verdict.model_copy(update={"state": "impossible", "said": said})
    if examined.duplicates:
        said = _say_duplicates(wanted, examined.duplicates)
        return verdict.model_copy(update={"state": "duplicates", "said": said})
    return verdict


def _judge_those_there(wanted: RecommendedIndex, there: Iterable[IndexFacts]) -> IndexVerdict:
    keys = key_of(wanted)
    alike = [index for index in there if index.key == keys]
    same = [index for index in alike if is_plain(index) and index.unique == wanted.unique]
    for index in same:
        if index.is_valid:
            return IndexVerdict(wanted=wanted, state="present", facts=index)
    for index in there:
        if serves(index, wanted):
            unique = ", which is unique as well" if index.unique and not wanted.unique else ""
            return IndexVerdict(
                wanted=wanted, state="served", facts=index, said=f"Served by {index.name}{unique}."
            )
    for index in same:
        if index.is_building:
            said = f"{index.name} is being built: look again when that is done."
            return IndexVerdict(wanted=wanted, state="building", facts=index, said=said)
    for index in same:
        said = f"{index.name} was left by a build that failed."
        return IndexVerdict(wanted=wanted, state="invalid", facts=index, said=said)
    for index in alike:
        return IndexVerdict(wanted=wanted, state="different", facts=index, said=_say_other(index, wanted))
    return IndexVerdict(wanted=wanted, state="missing")


def is_plain(index: IndexFacts) -> bool:
    """Does the index hold every entry by its keys alone, as a recommended one does?"""
    return not index.special or _INCLUDES.fullmatch(index.special) is not None


def serves(index: IndexFacts, wanted: RecommendedIndex) -> bool:
    """Would the recommended index be of no more use beside this one?

    It would not if this one begins with its keys, all in the same or all in the other direction; one that has
    to be unique is only replaced by another unique one on just these keys.
    """
    if not (index.is_valid and is_plain(index)):
        return False
    keys = key_of(wanted)
    if wanted.unique and not (index.unique and len(index.key) == len(keys)):
        return False
    turned = tuple((key, "1" if direction == "-1" else "-1") for key, direction in keys)
    return index.key[: len(keys)] in (keys, turned)


def _say_other(index: IndexFacts, wanted: RecommendedIndex) -> str:
    differences = [index.special] if not is_plain(index) else []
    if index.unique != wanted.unique:
        differences.append("unique" if index.unique else "not unique")
    if not index.is_valid:
        differences.append("being built" if index.is_building else "left by a build that failed")
    return (
        f"{index.name} has the same key, but it is another one ({'; '.join(differences)}): drop it by hand "
        "and start again, or correct the profile."
    )


def _say_no_source(wanted: RecommendedIndex, sources: Iterable[str]) -> str:
    return f"There is no {wanted.source}{_suggest(wanted.source, sources)}: correct the profile."


def _find_obstacle(wanted: RecommendedIndex, examined: BuildFacts) -> str:
    if examined.columns is not None:
        for key in wanted.key:
            if key not in examined.columns:
                similar = _suggest(key, examined.columns)
                return f"{wanted.source} has no column {key}{similar}: correct the profile."
    return f"It cannot be built without blocking: {examined.obstacle}." if examined.obstacle else ""


def _suggest(name: str, known: Iterable[str]) -> str:
    """Return which names somebody may have meant, or nothing."""
    by_letters = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_letters, n=_MOST_NAMES, cutoff=_SIMILAR_ENOUGH)
    return f" (there is {', '.join(by_letters[one] for one in close)})" if close else ""


def _say_duplicates(wanted: RecommendedIndex, duplicates: tuple[DuplicateValue, ...]) -> str:
    shown = "; ".join(_say_duplicate(found) for found in duplicates[:_MOST_DUPLICATES])
    several = "more than ten values" if duplicates[_MOST_DUPLICATES:] else say_count(len(duplicates), "value")
    return f"{several} of {', '.join(wanted.key)} more than once: {shown}. Settle which one counts first."


def _say_duplicate(found: DuplicateValue) -> str:
    more = found.count - len(found.entries)
    return f"{', '.join(found.entries)}{f' and {more:,} more' if more else ''}"
