"""Slow queries grouped by shape, the worst first; and the sentence that says what was found."""

import hashlib
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from flows.decisions.helpful_index import recommend
from flows.decisions.query_masking import mask_sql
from tasks.records.data_care import QueryCare
from tasks.records.figures import say_count, say_duration, shorten
from tasks.records.indexes import IndexFacts
from tasks.records.slow_queries import (
    ProfilerSettings,
    QueryReport,
    QueryShape,
    RunningStatement,
    SlowQuery,
    Statement,
)

RUNBOOK: Final = "profile-queries"
# Names that are values make a shape of each query; a thousand are no shapes any more.
MOST_SHAPES: Final = 1000
_IN_TWENTY = 0.95
# An index that leads to what is wanted examines little besides.
_WASTEFUL = 10
_HASH_DIGITS = 16
_EVERYTHING = 2
_LONGEST_TEXT = 120
_OF_ALL_DATABASES = ("pg_stat_", "pg_catalog")


@dataclass
class _Tally:
    """What is kept of a shape: eight bytes a query, so that a busy hour fits into memory."""

    first: SlowQuery
    milliseconds: "array[float]" = field(default_factory=lambda: array("d"))
    examined: int | None = None
    keys_examined: int | None = None
    returned: int | None = None
    plans: dict[str, None] = field(default_factory=dict)

    def add(self, query: SlowQuery) -> None:
        self.milliseconds.append(query.milliseconds)
        self.examined = _add(self.examined, query.examined)
        self.keys_examined = _add(self.keys_examined, query.keys_examined)
        self.returned = _add(self.returned, query.returned)
        if query.plan:
            self.plans[query.plan] = None


class ShapeCollector:
    """Groups slow queries as they come; ``beyond`` counts those of shapes that were one too many."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self.beyond = 0

    def add(self, query: SlowQuery) -> None:
        """Count a query in."""
        key = (query.source, query.identity)
        if key not in self._tallies:
            if len(self._tallies) >= MOST_SHAPES:
                self.beyond += 1
                return
            self._tallies[key] = _Tally(query)
        self._tallies[key].add(query)

    def describe_beyond(self) -> tuple[str, ...]:
        """Say what is missing because there were too many shapes, if anything is."""
        if not self.beyond:
            return ()
        said = (
            f"There were more than {MOST_SHAPES:,} shapes, probably because values are used as field names: "
            f"{say_count(self.beyond, 'query', 'queries')} of further ones are left out."
        )
        return (said,)

    def shapes(self, existing: Sequence[IndexFacts]) -> tuple[QueryShape, ...]:
        """Given the indexes that there are, return the shapes, the worst first."""
        return worst_first(_describe(tally, existing) for tally in self._tallies.values())


def _describe(tally: _Tally, existing: Sequence[IndexFacts]) -> QueryShape:
    query, times = tally.first, tally.milliseconds
    plan = "; ".join(tally.plans)
    return QueryShape(
        identity=query.identity,
        source=query.source,
        kind=query.kind,
        text=query.text,
        count=len(times),
        mean=sum(times) / len(times),
        p95=find_percentile(times, _IN_TWENTY),
        longest=max(times),
        examined=tally.examined,
        keys_examined=tally.keys_examined,
        returned=tally.returned,
        plan=plan,
        needs=query.needs,
        helpful=recommend(query.source, query.needs, existing) if _is_wasteful(tally, plan) else (),
    )


def _is_wasteful(tally: _Tally, plan: str) -> bool:
    """Tell whether an index could be what is missing; where the server tells nothing, it could."""
    if not plan and tally.examined is None:
        return True
    if "COLLSCAN" in plan or "sorted in memory" in plan:
        return True
    examined = max(tally.examined or 0, tally.keys_examined or 0)
    return examined > _WASTEFUL * max(tally.returned or 0, len(tally.milliseconds))


def _add(before: int | None, more: int | None) -> int | None:
    return before if more is None else more + (before or 0)


def records_enough(settings: ProfilerSettings, slow_milliseconds: int) -> bool:
    """Tell whether the profiler writes down all that is slow already, so that it can be left alone."""
    if settings.level == _EVERYTHING:
        return True
    return (
        settings.level == 1 and settings.sample_rate >= 1 and settings.slow_milliseconds <= slow_milliseconds
    )


def find_percentile(values: Sequence[float], part: float) -> float:
    """Given values in any order, return the smallest that so large a part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def worst_first(shapes: Iterable[QueryShape]) -> tuple[QueryShape, ...]:
    """Return shapes by the time that all their queries took together."""
    return tuple(sorted(shapes, key=lambda shape: (-shape.total, shape.identity)))


def compare_statements(
    before: Sequence[Statement], after: Sequence[Statement], slow_milliseconds: float
) -> tuple[QueryShape, ...]:
    """Given what was counted before and after the window, return what was slow within it, worst first.

    Slow is what took so long on the average, or once, where it is certain that this was in the window.
    """
    known = {statement.identity: statement for statement in before}
    found = (_subtract(known.get(statement.identity), statement, slow_milliseconds) for statement in after)
    return worst_first(shape for shape in found if shape is not None)


def _subtract(before: Statement | None, after: Statement, slow_milliseconds: float) -> QueryShape | None:
    if before is not None and after.calls < before.calls:
        # Counting began anew within the window.
        before = None
    calls = after.calls - (before.calls if before else 0)
    if calls <= 0 or any(name in after.text for name in _OF_ALL_DATABASES):
        return None
    mean = (after.milliseconds - (before.milliseconds if before else 0)) / calls
    is_new_longest = before is None or after.longest > before.longest
    if mean < slow_milliseconds and not (is_new_longest and after.longest >= slow_milliseconds):
        return None
    text = mask_sql(after.text)
    return QueryShape(
        identity=after.identity,
        source="",
        kind=_name_statement(text),
        text=text,
        count=calls,
        mean=mean,
        p95=None,
        longest=after.longest,
        longest_is_all_time=not is_new_longest,
        returned=after.rows - (before.rows if before else 0),
        blocks_hit=after.blocks_hit - (before.blocks_hit if before else 0),
        blocks_read=after.blocks_read - (before.blocks_read if before else 0),
        blocks_temporary=after.blocks_temporary - (before.blocks_temporary if before else 0),
    )


def read_running_statement(statement: RunningStatement) -> SlowQuery:
    """Given a statement that was seen at work, return it without its literals."""
    text = mask_sql(statement.text)
    kind = _name_statement(text)
    identity = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    return SlowQuery(identity, source="", kind=kind, text=text, milliseconds=statement.milliseconds)


def _name_statement(text: str) -> str:
    word = text.partition(" ")[0].lower()
    return word if word.isalpha() else "statement"


def describe_report(report: QueryReport) -> str:
    """Say in one sentence how slow it was, what was worst and what would help."""
    slow, window = sum(shape.count for shape in report.shapes), say_duration(report.seconds)
    threshold = f"{report.slow_milliseconds:,} ms"
    proof = f"{report.proof}." if report.proof else ""
    if not report.shapes:
        return f"{report.service}: no query over {threshold} in {window}. {proof}".strip()
    worst = report.shapes[0]
    where = f" on {worst.source}" if worst.source else ""
    text = shorten(worst.text, _LONGEST_TEXT)
    helpful = (
        f"an index on {worst.helpful[0]} would help"
        if worst.helpful
        else "no index is known that would help it"
    )
    return (
        f"{report.service}: {say_count(slow, 'query', 'queries')} of "
        f"{say_count(len(report.shapes), 'shape')} over {threshold} in {window}; the worst{where} "
        f"({worst.count:,} times, {worst.mean:,.0f} ms on average): {text}; {helpful}. {proof}"
    ).strip()


def choose_threshold(care: QueryCare, milliseconds: int | None) -> int:
    """Given the profile and the run's own wish, return from how many milliseconds on a query is slow."""
    return milliseconds or max(1, round(care.slow_after.total_seconds() * 1000))


def describe_rehearsal(service: str, kind: str, minutes: float, slow_milliseconds: int) -> str:
    """Say what a run would do."""
    how = "by the profiler, which is put back afterwards" if kind == "mongodb" else "by the server's counts"
    return (
        f"{service}: dry run, nothing was done. Queries over {slow_milliseconds:,} ms would be watched for "
        f"{say_duration(minutes * 60)}, {how}."
    )
