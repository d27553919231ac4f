"""Slow queries as the Markdown that the Prefect UI shows. Pure but for the artifact's publication."""

from collections.abc import Iterator
from uuid import UUID

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.figures import say_count, say_duration
from tasks.records.slow_queries import QueryReport, QueryShape

_MOST_ROWS = 50
_MOST_TEXTS = 10
_NOT_MEASURED = "not measured"


def publish_queries(report: QueryReport) -> UUID:
    """Show which queries were slow."""
    return publish_markdown(render_queries(report), "profile-queries", "queries", report.service)


def render_queries(report: QueryReport) -> str:
    """Return the page: the worst shapes as a table, then what each of them is and how it is run."""
    slow = sum(shape.count for shape in report.shapes)
    said = (
        f"{say_count(slow, 'query', 'queries')} over {report.slow_milliseconds:,} ms in "
        f"{say_duration(report.seconds)}, {say_count(len(report.shapes), 'shape')}. {report.how}."
    )
    notes = [*report.notes, *([f"{report.proof}."] if report.proof else [])]
    pieces = [f"# Slow queries of {report.service}", escape(said, LONGEST_SENTENCE), render_list(notes)]
    if report.shapes:
        pieces.append(_render_table(report))
        pieces += [
            _render_shape(number, shape) for number, shape in enumerate(report.shapes[:_MOST_TEXTS], start=1)
        ]
    return "\n\n".join(piece for piece in pieces if piece)


def _render_table(report: QueryReport) -> str:
    headers = (
        ">",
        "Where",
        "What",
        ">Times",
        ">Mean ms",
        ">95 % within ms",
        ">Longest ms",
        ">Work",
        "Would help",
    )
    rows = (
        (
            number,
            shape.source,
            shape.kind,
            f"{shape.count:,}",
            f"{shape.mean:,.1f}",
            _NOT_MEASURED if shape.p95 is None else f"{shape.p95:,.1f}",
            f"{shape.longest:,.1f}{' ever' if shape.longest_is_all_time else ''}",
            _say_work(shape),
            "; ".join(map(str, shape.helpful)),
        )
        for number, shape in enumerate(report.shapes[:_MOST_ROWS], start=1)
    )
    table = render_table(headers, rows)
    more = len(report.shapes) - _MOST_ROWS
    return f"{table}\n\nAnd {say_count(more, 'shape')} more." if more > 0 else table


def _say_work(shape: QueryShape) -> str:
    """Return what was read for what was returned, as far as the server tells."""
    if shape.blocks_hit is not None:
        read, temporary = shape.blocks_read or 0, shape.blocks_temporary or 0
        spilled = f", {temporary:,} temporary" if temporary else ""
        return f"{shape.returned or 0:,} rows, {shape.blocks_hit + read:,} blocks ({read:,} read{spilled})"
    parts = (("returned", shape.returned), ("examined", shape.examined), ("keys", shape.keys_examined))
    return ", ".join(f"{count:,} {name}" for name, count in parts if count is not None) or _NOT_MEASURED


def _render_shape(number: int, shape: QueryShape) -> str:
    return "\n".join(_list_lines(number, shape))


def _list_lines(number: int, shape: QueryShape) -> Iterator[str]:
    where = f" on {escape(shape.source)}" if shape.source else ""
    yield f"## {number}. {escape(shape.kind)}{where} ({escape(shape.identity)})"
    yield ""
    # As code: whatever Markdown a name may hold, it is shown and does nothing.
    yield from (f"    {line}" for line in shape.text.splitlines() or ("",))
    if shape.plan:
        yield from ("", "Plan:", "")
        yield from (f"    {line}" for line in shape.plan.splitlines())
    if shape.helpful:
        yield from ("", render_list([f"An index on {index} would help." for index in shape.helpful]))
