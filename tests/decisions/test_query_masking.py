"""No literal of a query is ever said: not of any filter, nor of any statement."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.profile_documents import read_profile_document, read_running_operation
from flows.decisions.query_masking import UNREADABLE, mask_document, mask_filter, mask_sql
from flows.decisions.query_plans import read_plan
from flows.decisions.query_shapes import ShapeCollector, describe_report
from tasks.query_rendering import render_queries
from tasks.records.slow_queries import QueryReport

CANARY = "canary7491"
NAMES = st.sampled_from(
    ["a", "user.email", "tags", "_id", "0", "$and", "$or", "$expr", "$in", "$gt", "$match"]
)
ODD_NAMES = st.sampled_from([f"{CANARY}@example.com", f"rights.{CANARY}x.y", f"{CANARY}-1", f"${CANARY}"])
VALUES = st.sampled_from(
    [
        CANARY,
        f"${CANARY}",
        f"$ {CANARY}",
        CANARY.encode(),
        74_917_491,
        7491.25,
        f"'{CANARY}",
        {CANARY},
        None,
        True,
    ]
)


def nested(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    inside = st.recursive(
        VALUES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=12,
    )
    return st.dictionaries(names, inside, max_size=4)


@given(nested(NAMES | ODD_NAMES))
def test_a_filter_is_said_without_its_literals(query: dict[str, Any]) -> None:
    assert "7491" not in mask_filter(query)


@given(nested(NAMES | ODD_NAMES), st.sampled_from(["filter", "q", "query"]), st.booleans())
def test_an_operation_is_told_without_its_literals_to_the_last_word_of_page_and_sentence(
    query: dict[str, Any], holder: str, is_pipeline: bool
) -> None:
    command = (
        {"aggregate": "t", "pipeline": [{"$match": query}]} if is_pipeline else {"find": "t", holder: query}
    )
    document = {
        "ns": "db.t",
        "op": "query",
        "command": command,
        "millis": 120,
        "planSummary": "COLLSCAN",
        "errMsg": CANARY,
        "user": f"{CANARY}@db",
    }
    found = read_profile_document(document)
    assert found is not None
    collector = ShapeCollector()
    collector.add(found)
    report = QueryReport(
        service="ledger",
        kind="mongodb",
        seconds=60,
        slow_milliseconds=100,
        how="All",
        notes=(),
        shapes=collector.shapes(()),
        proof="",
    )
    assert "7491" not in f"{found}{report}{render_queries(report)}{describe_report(report)}"


@given(nested(NAMES.filter(lambda name: name != "$expr")))
def test_what_the_literals_are_makes_no_other_shape(query: dict[str, Any]) -> None:
    assert mask_filter(query) == mask_filter(replace(query))


def replace(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: replace(inner) for name, inner in value.items()}
    return [replace(inner) for inner in value] if isinstance(value, list) else "another"


def test_a_pipeline_keeps_what_it_groups_by_and_no_value() -> None:
    pipeline = [
        {"$match": {"status": "$canary", "at": {"$gte": 7}}},
        {"$group": {"_id": "$organizationId", "n": {"$sum": 1}, "l": {"$literal": "$canary"}}},
        {"$sort": {"n": -1}},
    ]
    assert mask_document(pipeline) == (
        "[{$match: {status: ?, at: {$gte: ?}}}, "
        "{$group: {_id: $organizationId, n: {$sum: ?}, l: {$literal: ?}}}, {$sort: {n: -1}}]"
    )


STATEMENTS = [
    ("SELECT * FROM a WHERE x = -1.5e3 AND y LIKE E'it\\'s%'", "SELECT * FROM a WHERE x = -? AND y LIKE ?"),
    ("SELECT $1, b FROM t WHERE (c, d) IN (($2,$3),($4,$5))", "SELECT ?, b FROM t WHERE (c, d) IN ((?), …)"),
    (
        "UPDATE t SET a=$$x$$, b=$q$it's$q$, c=U&'x', d=B'101', e=x'1F'",
        "UPDATE t SET a=?, b=?, c=?, d=?, e=?",
    ),
    ("INSERT INTO t VALUES (1, 'a'),\n (2, 'b'), (3, 'c')", "INSERT INTO t VALUES (?), …"),
    ("SELECT a -- a 'remark\nFROM t /* one /* in */ another */ WHERE b=5_000", "SELECT a FROM t WHERE b=?"),
    ("CREATE ROLE ada PASSWORD 'secret'", "CREATE ROLE ada PASSWORD ?"),
    (
        r"SELECT 'a\' , b , 'c' FROM t WHERE d=$a$1e$a$ AND e=$$1f$$",
        "SELECT ? , b , ? FROM t WHERE d=? AND e=?",
    ),
    ("SELECT a FROM t WHERE b = 'it was cut o", UNREADABLE),
    ("SELECT $$ it was cut", UNREADABLE),
]


@pytest.mark.parametrize(("statement", "said"), STATEMENTS)
def test_a_statement_is_said_without_literals_and_remarks(statement: str, said: str) -> None:
    assert mask_sql(statement) == said


QUOTED = st.sampled_from(
    ["'{}'", "E'{}\\''", "$${}$$", "$t${}$t$", "N'{}'", "/* {} */ 1", "'a''{}'", "-- {}\n2"]
)


@given(st.lists(QUOTED, min_size=1, max_size=5), st.sampled_from([", ", "||", " "]), st.integers(0, 60))
def test_no_statement_gives_a_literal_away_even_when_it_is_cut_anywhere(
    quoted: list[str], between: str, kept: int
) -> None:
    whole = f"SELECT {between.join(quoted).format(*[CANARY] * len(quoted))} FROM t WHERE a = $1"
    assert CANARY not in mask_sql(whole)
    assert CANARY not in mask_sql(whole[:kept])


def test_a_plan_is_said_without_its_literals() -> None:
    explained = {
        "Plan": {
            "Node Type": "Sort",
            "Sort Key": [f"(body || '{CANARY}'::text)"],
            "Plan Rows": 5,
            "Plans": [
                {
                    "Node Type": "Seq Scan",
                    "Relation Name": "entries",
                    "Alias": "entries",
                    "Plan Rows": 5,
                    "Filter": f"((body ~~ '{CANARY}%'::text) AND (account = 7491))",
                }
            ],
        }
    }
    plan = read_plan(explained, {"entries": 1 << 30})
    assert plan.lines == (
        "Sort (about 5 rows) by (body || ?::text)",
        "  Seq Scan on entries (about 5 rows) Filter: ((body ~~ ?::text) AND (account = ?))",
    )
    ((table, need),) = plan.scans
    assert (table, need.equal, need.sort, need.range) == ("entries", ("account",), (), ())


def test_an_operation_of_ours_or_of_the_servers_own_is_none() -> None:
    assert read_profile_document({"ns": "db.t", "appName": "runbooks", "command": {"find": "t"}}) is None
    assert read_profile_document({"ns": "db.system.profile", "command": {"find": "t"}}) is None
    assert read_running_operation({"ns": "db", "command": {"ping": 1}}) is None
