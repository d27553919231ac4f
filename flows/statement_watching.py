"""Watch PostgreSQL's slow statements: by its counts where it counts, else by looking at what is at work."""

from collections.abc import Mapping, Sequence
from typing import Final

from flows.decisions.helpful_index import recommend
from flows.decisions.query_plans import read_plan
from flows.decisions.query_shapes import compare_statements, read_running_statement
from flows.query_window import Watched, Window
from tasks.postgresql_queries import Activity, PostgresqlQueries, open_queries
from tasks.records.figures import say_count
from tasks.records.indexes import IndexFacts
from tasks.records.service import ServiceProfile
from tasks.records.slow_queries import QueryShape, RunningStatement

EXPLAINED: Final = 5
_LOOK_SECONDS: Final = 0.5


def watch_postgresql(
    profile: ServiceProfile, window: Window, existing: Sequence[IndexFacts]
) -> tuple[Watched, tuple[QueryShape, ...]]:
    """Watch a window, and explain the worst of what was slow in it."""
    queries = open_queries(profile)
    reason = queries.find_why_not_counted()
    if reason:
        watched, shapes, texts = _watch_activity(queries, window, reason, existing)
    else:
        watched, shapes, texts = _watch_counts(queries, window)
    explained = [_explain(queries, shape, texts, existing) for shape in shapes[:EXPLAINED]]
    return watched, (*explained, *shapes[EXPLAINED:])


def _watch_counts(
    queries: PostgresqlQueries, window: Window
) -> tuple[Watched, tuple[QueryShape, ...], Mapping[str, str]]:
    before = queries.count()
    window.pass_by(lambda: None, _LOOK_SECONDS)
    after = queries.count()
    watched = Watched("What pg_stat_statements counted in the window, of statements that ended in it")
    watched.notes.append("It does not count how many exceed a time: the 95th percentile is not measured.")
    if before.evicted != after.evicted:
        watched.notes.append(
            "pg_stat_statements was full and forgot its least used statements meanwhile: raise "
            "pg_stat_statements.max."
        )
    _note_hidden(watched, after.hidden, "statement")
    shapes = compare_statements(before.statements, after.statements, window.slow_milliseconds)
    return watched, shapes, {statement.identity: statement.text for statement in after.statements}


def _watch_activity(
    queries: PostgresqlQueries, window: Window, reason: str, existing: Sequence[IndexFacts]
) -> tuple[Watched, tuple[QueryShape, ...], Mapping[str, str]]:
    seen: dict[str, RunningStatement] = {}
    most_hidden = 0

    def look(activity: Activity) -> None:
        nonlocal most_hidden
        found, hidden = activity.list_running(window.slow_milliseconds)
        seen.update({statement.identity: statement for statement in found})
        most_hidden = max(most_hidden, hidden)

    with queries.follow() as activity:
        look(activity)
        window.pass_by(lambda: look(activity), _LOOK_SECONDS)
    watched = Watched(f"What was seen at work in a look each half second, as {reason}")
    watched.notes.append(
        "What ran for less than half a second was seen by chance, and durations are lower bounds."
    )
    _note_hidden(watched, most_hidden, "session")
    texts: dict[str, str] = {}
    for statement in seen.values():
        query = read_running_statement(statement)
        texts.setdefault(query.identity, statement.text)
        watched.collector.add(query)
    return watched, watched.collector.shapes(existing), texts


def _note_hidden(watched: Watched, hidden: int, what: str) -> None:
    if hidden:
        watched.notes.append(
            f"The server does not show this user {say_count(hidden, what)} of others: grant it the "
            "role pg_read_all_stats."
        )


def _explain(
    queries: PostgresqlQueries, shape: QueryShape, texts: Mapping[str, str], existing: Sequence[IndexFacts]
) -> QueryShape:
    explained = queries.explain(texts[shape.identity])
    if explained.plan is None:
        return shape.model_copy(update={"plan": f"no plan: {explained.reason}"})
    plan = read_plan(explained.plan, explained.table_bytes)
    helpful = [index for table, need in plan.scans for index in recommend(table, (need,), existing)]
    return shape.model_copy(update={"plan": "\n".join(plan.lines), "helpful": tuple(dict.fromkeys(helpful))})
