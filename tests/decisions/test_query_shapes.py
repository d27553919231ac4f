"""Which queries are one shape, how slow they are together, and which index would help."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.helpful_index import read_needs, recommend
from flows.decisions.profile_documents import read_profile_document, read_running_operation
from flows.decisions.query_plans import LARGE_BYTES, read_plan
from flows.decisions.query_shapes import (
    MOST_SHAPES,
    ShapeCollector,
    compare_statements,
    describe_report,
    find_percentile,
    records_enough,
)
from tasks.query_rendering import render_queries
from tasks.records.indexes import IndexFacts
from tasks.records.slow_queries import ProfilerSettings, QueryReport, QueryShape, SlowQuery, Statement

# As the manual's page on the database profiler has them.
FIND: dict[str, Any] = {
    "op": "query",
    "ns": "shop.orders",
    "command": {
        "find": "orders",
        "filter": {"status": "open", "total": {"$gt": 100}},
        "sort": {"placed": -1},
        "limit": 20,
        "$db": "shop",
    },
    "keysExamined": 0,
    "docsExamined": 9_000,
    "hasSortStage": True,
    "nreturned": 20,
    "queryHash": "AAC4B2F1",
    "planCacheKey": "5A2B1C3D",
    "millis": 140,
    "planSummary": "COLLSCAN",
    "appName": "shop",
}
MORE = {
    **FIND,
    "op": "getmore",
    "command": {"getMore": 7, "collection": "orders"},
    "originatingCommand": FIND["command"],
    "millis": 60,
}
UPDATE = {
    "op": "update",
    "ns": "shop.orders",
    "command": {"q": {"customer.id": 5}, "u": {"$set": {"seen": True}}, "multi": True, "upsert": False},
    "keysExamined": 3,
    "docsExamined": 3,
    "nMatched": 3,
    "millis": 200,
    "planSummary": "IXSCAN { customer.id: 1, placed: -1 }",
}


def collect(*documents: dict[str, Any]) -> tuple[ShapeCollector, list[SlowQuery]]:
    collector = ShapeCollector()
    queries = [query for one in documents if (query := read_profile_document(one)) is not None]
    for query in queries:
        collector.add(query)
    return collector, queries


def index(source: str, *key: tuple[str, str], **more: Any) -> IndexFacts:
    return IndexFacts(source=source, name="n", key=key, **more)


def test_a_find_and_its_further_batches_are_one_shape_with_the_index_that_would_help() -> None:
    other = {
        **FIND,
        "millis": 100,
        "command": {**FIND["command"], "filter": {"status": "x", "total": {"$gt": 1}}},
    }
    collector, _ = collect(FIND, MORE, other, UPDATE)
    first, second = collector.shapes(())
    assert (first.source, first.kind, first.count, first.mean, first.p95) == ("orders", "find", 3, 100, 140)
    assert (first.examined, first.keys_examined, first.returned) == (27_000, 0, 60)
    assert first.text == "find {status: ?, total: {$gt: ?}} sort {placed: -1} limit"
    assert first.plan == "COLLSCAN, sorted in memory"
    assert [str(found) for found in first.helpful] == ["orders (status, placed descending, total)"]
    assert second.text == "update {customer.id: ?} u {$set: {seen: ?}}"
    assert second.plan == "IXSCAN (customer.id, placed)"
    assert second.helpful == (), "three examined for three that were changed is what an index is for"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ({"u": {"$set": {"word": "$canary", "name": "Bob"}}}, "update {a: ?} u {$set: {word: ?, name: ?}}"),
        ({"update": {"word": "$canary"}}, "update {a: ?} update {word: ?}"),
        ({"u": [{"$set": {"word": "$other"}}]}, "update {a: ?} u [{$set: {word: $other}}]"),
    ],
)
def test_only_in_a_pipeline_is_a_string_with_a_dollar_a_field(command: dict[str, Any], text: str) -> None:
    _, (query,) = collect({**UPDATE, "command": {"q": {"a": 1}, **command}})
    assert query.text == text


def test_a_command_that_was_too_long_to_record_shows_nothing_of_itself() -> None:
    _, (query,) = collect({**FIND, "queryHash": None, "command": {"$truncated": "{ find: 'canary' }"}})
    assert query.text == "a command too long to be recorded"


def test_an_operation_at_work_is_read_alike() -> None:
    running = {**FIND, "microsecs_running": 2_500_000, "opid": 4}
    found = read_running_operation(running)
    assert found is not None
    assert (found.milliseconds, found.kind, found.plan) == (2500, "find", "COLLSCAN, sorted in memory")


NEEDS = [
    ({"a": 1, "b": {"$in": [1, 2]}}, {"c": -1}, ["t (a, b, c descending)"]),
    ({"$and": [{"a": {"$gt": 1}}, {"b": 2}]}, {"a": 1}, ["t (b, a)"]),
    ({"a": {"$lt": 5}, "b": {"$gt": 1}}, {}, ["t (a)"]),
    ({"$or": [{"a": 1}, {"b": {"$gte": 2}}]}, {}, ["t (a)", "t (b)"]),
    ({"lines": {"$elemMatch": {"sku": 1, "n": {"$gt": 2}}}}, {}, ["t (lines.sku, lines.n)"]),
    ({"a": {"b": 1}}, {}, ["t (a)"]),
    ({"a": {"$ne": 1}, "b": {"$exists": True}}, {}, []),
    ({"_id": 5, "a": 1}, {}, []),
    ({"_id": {"$gt": 5}}, {}, []),
    ({"$text": {"$search": "x"}, "a": 1}, {}, []),
    ({"place": {"$near": [1, 2]}}, {}, []),
    ({"rights.ada@example.com": True}, {"a": 1}, ["t (a)"]),
    ({}, {"a": 1, "x.77": 1, "b": 1}, ["t (a)"]),
    ({}, {}, []),
]


@pytest.mark.parametrize(("query", "sort", "said"), NEEDS)
def test_equality_comes_first_then_the_sort_then_one_range(
    query: dict[str, Any], sort: dict[str, Any], said: list[str]
) -> None:
    assert [str(found) for found in recommend("t", read_needs(query, sort), ())] == said


@pytest.mark.parametrize(
    ("existing", "is_there"),
    [
        (index("t", ("a", "1"), ("b", "-1")), True),
        (index("t", ("a", "-1"), ("b", "1"), ("c", "1")), True),
        (index("t", ("a", "1")), False),
        (index("t", ("b", "-1"), ("a", "1")), False),
        (index("u", ("a", "1"), ("b", "-1")), False),
        (index("t", ("a", "1"), ("b", "-1"), special="partial {}"), False),
        (index("t", ("a", "1"), ("b", "-1"), is_valid=False), False),
    ],
)
def test_an_index_that_begins_so_is_not_proposed_again(existing: IndexFacts, is_there: bool) -> None:
    found = recommend("t", read_needs({"a": 1}, {"b": -1}), (existing,))
    assert (found == ()) is is_there


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_nineteen_in_twenty_are_within_the_percentile(values: list[float]) -> None:
    limit = find_percentile(values, 0.95)
    assert limit in values
    assert sum(value <= limit for value in values) >= 0.95 * len(values)
    assert sum(value < limit for value in values) < 0.95 * len(values)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(1, 1e4)), max_size=60))
def test_no_query_is_lost_or_counted_twice(pairs: list[tuple[int, float]]) -> None:
    collector = ShapeCollector()
    for number, milliseconds in pairs:
        collector.add(SlowQuery(str(number), "t", "find", str(number), milliseconds))
    shapes = collector.shapes(())
    assert sum(shape.count for shape in shapes) == len(pairs)
    assert sum(shape.total for shape in shapes) == pytest.approx(sum(ms for _, ms in pairs))
    assert [shape.total for shape in shapes] == sorted((shape.total for shape in shapes), reverse=True)


def test_names_that_are_values_do_not_fill_the_memory() -> None:
    collector = ShapeCollector()
    for number in range(MOST_SHAPES + 7):
        collector.add(SlowQuery(str(number), "t", "find", "", 1))
    assert len(collector.shapes(())) == MOST_SHAPES
    assert "7 queries of further ones are left out" in collector.describe_beyond()[0]


def count(
    identity: str, calls: int, milliseconds: float, longest: float, text: str = "SELECT 5"
) -> Statement:
    return Statement(identity, text, calls, milliseconds, longest, calls, 10 * calls, calls, 0)


def test_what_was_slow_within_the_window_is_the_difference_of_two_counts() -> None:
    before = [count("slow", 100, 100, 900), count("once", 10, 10, 2), count("idle", 5, 5000, 5000)]
    after = [
        count("slow", 104, 900, 900),
        count("once", 20, 170, 151),
        count("idle", 5, 5000, 5000),
        count("fast", 1000, 1000, 4),
        count("ours", 9, 9000, 9000, "SELECT * FROM pg_stat_activity"),
    ]
    slow, once = compare_statements(before, after, 100)
    assert (slow.identity, slow.count, slow.mean, slow.longest_is_all_time) == ("slow", 4, 200, True)
    assert (slow.blocks_hit, slow.returned, slow.p95, slow.text) == (40, 4, None, "SELECT ?")
    assert (once.identity, once.count, once.mean, once.longest) == ("once", 10, 16, 151)
    assert not once.longest_is_all_time


def test_counting_that_began_anew_is_taken_as_it_is() -> None:
    (shape,) = compare_statements([count("a", 100, 1e6, 9e5)], [count("a", 2, 400, 300)], 100)
    assert (shape.count, shape.mean) == (2, 200)


def scan(condition: str, **more: Any) -> dict[str, Any]:
    return {"Node Type": "Seq Scan", "Relation Name": "e", "Alias": "x", "Filter": condition, **more}


@pytest.mark.parametrize(
    ("condition", "key", "said"),
    [
        ("((x.a = $1) AND (x.b > $2))", [], ["e (a, b)"]),
        ("(x.a = $1)", ["x.made_at DESC"], ["e (a, made_at descending)"]),
        ("((x.a)::text = 'q'::text)", [], ["e (a)"]),
        ("(x.a = ANY ('{1,2}'::integer[]))", ["lower(x.b)"], ["e (a)"]),
        ("(lower(x.a) = 'q'::text)", [], []),
        ("((x.a = 1) OR (x.b = 2))", [], []),
    ],
)
def test_a_large_table_that_is_read_whole_is_given_an_index(
    condition: str, key: list[str], said: list[str]
) -> None:
    explained = {"Plan": {"Node Type": "Sort", "Sort Key": key, "Plans": [scan(condition)]}}
    if not key:
        explained = {"Plan": scan(condition)}
    plan = read_plan(explained, {"e": LARGE_BYTES})
    assert [str(found) for table, need in plan.scans for found in recommend(table, (need,), ())] == said
    assert read_plan(explained, {"e": LARGE_BYTES - 1}).scans == ()


@pytest.mark.parametrize(
    ("level", "slow", "rate", "enough"),
    [(2, 900, 0.1, True), (1, 50, 1.0, True), (1, 50, 0.5, False), (1, 101, 1.0, False), (0, 1, 1.0, False)],
)
def test_a_profiler_that_writes_down_enough_is_left_alone(
    level: int, slow: int, rate: float, enough: bool
) -> None:
    settings = ProfilerSettings(level=level, slow_milliseconds=slow, sample_rate=rate, has_collection=True)
    assert records_enough(settings, 100) is enough


def make_report(*shapes: QueryShape) -> QueryReport:
    return QueryReport(
        service="ledger",
        kind="mongodb",
        seconds=600,
        slow_milliseconds=100,
        how="All that was written down",
        notes=("A note | of ours",),
        shapes=shapes,
        proof="The profiler is off again",
    )


def test_the_sentence_and_the_page_name_the_worst_and_what_would_help() -> None:
    report = make_report(*collect(FIND, MORE)[0].shapes(()))
    assert describe_report(report) == (
        "ledger: 2 queries of 1 shape over 100 ms in 10 min; the worst on orders (2 times, 100 ms on "
        "average): find {status: ?, total: {$gt: ?}} sort {placed: -1} limit; an index on orders (status, "
        "placed descending, total) would help. The profiler is off again."
    )
    page = render_queries(report)
    assert "| 1 | orders | find | 2 | 100.0 | 140.0 | 140.0 | 40 returned, 18,000 examined, 0 keys |" in page
    assert "\n    find {status: ?, total: {$gt: ?}} sort {placed: -1} limit\n" in page
    assert "- An index on orders (status, placed descending, total) would help." in page


def test_a_window_without_a_slow_query_is_said_so() -> None:
    said = describe_report(make_report())
    assert said == "ledger: no query over 100 ms in 10 min. The profiler is off again."
