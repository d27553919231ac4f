"""Which indexes may go: cases, and that whatever goes is served by what stays."""

from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.superfluous_indexes import find_redundant, find_superfluous
from tasks.records.data_care import RecommendedIndex
from tasks.records.index_care import ObservedUse, name_index
from tasks.records.indexes import IndexFacts

MONTH = timedelta(days=30)


def make_index(name: str, *key: str, **changed: Any) -> IndexFacts:
    """An index; a field with a minus is descending, and one with a colon has a kind of its own."""
    parts = [(one.lstrip("-").partition(":")) for one in key]
    kinds = [
        kind or ("-1" if one.startswith("-") else "1") for one, (_, _, kind) in zip(key, parts, strict=True)
    ]
    fields = tuple((field, kind) for (field, _, _), kind in zip(parts, kinds, strict=True))
    return IndexFacts(**({"source": "users", "name": name, "key": fields, "bytes": 1000} | changed))


def redundant(*indexes: IndexFacts, recommended: tuple[RecommendedIndex, ...] = ()) -> dict[str, str]:
    return {index.name: other.name for index, other in find_redundant(indexes, recommended)}


AB = make_index("ab", "a", "b")


@pytest.mark.parametrize(
    ("indexes", "expected"),
    [
        ((make_index("a", "a"), AB), {"a": "ab"}),
        ((make_index("a", "-a"), AB), {"a": "ab"}),
        ((make_index("ab_down", "-a", "-b"), make_index("abc", "a", "b", "c")), {"ab_down": "abc"}),
        ((make_index("ab_mixed", "a", "-b"), make_index("abc", "a", "b", "c")), {}),
        ((make_index("b", "b"), AB), {}),
        ((make_index("a", "a", source="clients"), AB), {}),
        ((make_index("a", "a", unique=True), AB), {}),
        ((make_index("a", "a", is_constraint=True), AB), {}),
        ((make_index("a", "a", special="sparse"), AB), {}),
        ((make_index("a", "a", special="TTL 0 s"), AB), {}),
        ((make_index("a", "a", is_valid=False), AB), {}),
        ((make_index("a", "a"), make_index("ab", "a", "b", special="partial")), {}),
        ((make_index("a", "a"), make_index("ab", "a", "b", is_valid=False)), {}),
        ((make_index("a", "a"), make_index("ab", "a", "b", unique=True)), {"a": "ab"}),
        (
            (make_index("a", "a"), make_index("primary", "a", unique=True, is_constraint=True)),
            {"a": "primary"},
        ),
        ((make_index("place", "at:2dsphere"), make_index("place_a", "at:2dsphere", "a")), {}),
        ((make_index("all", "$**"), make_index("all_a", "$**", "a")), {}),
        # Of two alike the one that is used more stays, and of a chain the whole one.
        ((make_index("a_1", "a", uses=2), make_index("a_2", "a", uses=9)), {"a_1": "a_2"}),
        ((make_index("a", "a"), AB, make_index("abc", "a", "b", "c")), {"a": "abc", "ab": "abc"}),
    ],
)
def test_an_index_is_redundant_when_another_begins_with_its_key(
    indexes: tuple[IndexFacts, ...], expected: dict[str, str]
) -> None:
    assert redundant(*indexes) == expected
    assert redundant(*reversed(indexes)) == expected


def test_what_the_profile_asks_for_stays_and_what_is_like_it_goes() -> None:
    wanted = (RecommendedIndex(source="users", key={"a": 1}),)
    assert redundant(make_index("a", "a"), AB, recommended=wanted) == {}
    alike = (make_index("a", "a", uses=0), make_index("a_too", "a", uses=9))
    assert redundant(*alike, recommended=wanted) == {"a": "a_too"}


DIRECTION: st.SearchStrategy[Literal["1", "-1"]] = st.sampled_from(["1", "-1"])
KEYS = st.lists(
    st.tuples(st.sampled_from("abc"), DIRECTION), min_size=1, max_size=3, unique_by=lambda one: one[0]
)
RARELY = st.sampled_from([False, False, False, True])


@st.composite
def index_lists(draw: st.DrawFn) -> list[IndexFacts]:
    return [
        IndexFacts(
            source=draw(st.sampled_from(["users", "clients"])),
            name=f"index_{number}",
            key=tuple(draw(KEYS)),
            unique=draw(RARELY),
            is_constraint=draw(RARELY),
            is_valid=not draw(RARELY),
            special="sparse" if draw(RARELY) else "",
            bytes=draw(st.integers(0, 10)),
            uses=draw(st.one_of(st.none(), st.integers(0, 3))),
        )
        for number in range(draw(st.integers(0, 9)))
    ]


def serves(other: IndexFacts, prefix: tuple[tuple[str, str], ...]) -> bool:
    """Can the other index answer and sort by this, read forwards or backwards as a whole?"""
    beginning = other.key[: len(prefix)]
    backwards = tuple((field, "1" if kind == "-1" else "-1") for field, kind in beginning)
    return prefix in {beginning, backwards}


@given(index_lists())
def test_what_is_redundant_is_replaced_for_every_query_by_one_that_stays(indexes: list[IndexFacts]) -> None:
    pairs = list(find_redundant(indexes))
    gone = [index for index, _ in pairs]
    assert len({name_index(index) for index in gone}) == len(gone)
    for index, other in pairs:
        assert other not in gone
        assert other.source == index.source
        assert other.is_valid
        assert not other.special
        assert not index.unique
        assert not index.is_constraint
        assert not index.special
        assert index.is_valid
        assert all(serves(other, index.key[:length]) for length in range(1, len(index.key) + 1))


@given(index_lists())
def test_nothing_redundant_is_left_over(indexes: list[IndexFacts]) -> None:
    gone = [index for index, _ in find_redundant(indexes)]
    kept = [index for index in indexes if index not in gone]
    assert list(find_redundant(kept)) == []


# --- Unused ---


def superfluous(
    indexes: list[IndexFacts], idle_days: dict[str, float], recommended: tuple[RecommendedIndex, ...] = ()
) -> dict[str, str | None]:
    uses = {
        f"users/{name}": ObservedUse(uses=5, watched=timedelta(days=90), idle=timedelta(days=idle))
        for name, idle in idle_days.items()
    }
    found = find_superfluous(indexes, uses, recommended, MONTH)
    return {one.index.name: one.instead.name if one.instead else None for one in found}


def test_an_index_is_unused_after_the_whole_time_without_a_use_and_not_before() -> None:
    indexes = [make_index("a", "a"), make_index("b", "b"), make_index("c", "c")]
    assert superfluous(indexes, {"a": 30, "b": 29.9}) == {"a": None}


@pytest.mark.parametrize(
    "changed",
    [
        {"unique": True},
        {"is_constraint": True},
        {"is_valid": False},
        {"special": "TTL 3600 s"},
        {"special": "sparse, TTL 0 s"},
        {"special": "prepareUnique"},
    ],
)
def test_an_index_that_does_more_than_serve_queries_is_never_unused(changed: dict[str, Any]) -> None:
    assert superfluous([make_index("a", "a", **changed)], {"a": 300}) == {}


def test_an_index_that_the_profile_asks_for_is_never_unused() -> None:
    wanted = (RecommendedIndex(source="users", key={"a": 1}),)
    assert superfluous([make_index("a", "a")], {"a": 300}, wanted) == {}
    assert superfluous([make_index("a", "-a")], {"a": 300}, wanted) == {"a": None}


def test_an_unused_index_serves_nobody_instead_of_another() -> None:
    # Dropping both, one as unused and the other in its favour, would leave the used one's queries alone.
    assert superfluous([make_index("a", "a"), AB], {"ab": 31}) == {"ab": None}


def test_the_largest_comes_first() -> None:
    indexes = [
        make_index("a", "a", bytes=10),
        make_index("b", "b", bytes=5),
        make_index("bc", "b", "c", bytes=90),
    ]
    assert list(superfluous(indexes, {"a": 40, "bc": 1})) == ["a", "b"]
