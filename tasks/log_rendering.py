"""A report of the logs as the Markdown that the Prefect UI shows. Pure but for the artifact's publication."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.figures import say_count, say_time
from tasks.records.log_report import KnownLines, LogReport
from tasks.records.logs import LogLine

_LONGEST_LINE = 400


def publish_log_report(report: LogReport, zone: ZoneInfo) -> UUID:
    """Show what the logs say."""
    return publish_markdown(render_log_report(report, zone), "log-report", "lines", report.service)


def render_log_report(report: LogReport, zone: ZoneInfo) -> str:
    """Return the page: what it comes to, meanings, lines, and what was read."""
    return "\n\n".join(
        (
            f"# Logs of {report.service} since {say_time(report.extract.since, zone)}",
            f"**{say_count(report.errors, 'error line')}, {say_count(report.warnings, 'warning')}.**",
            *_render_unread(report),
            "## What it means",
            _render_known(report, zone),
            f"## The newest {escape(report.wanted)}",
            _render_lines(report, zone),
            "## What was read",
            render_list(report.extract.sources),
        )
    )


def _render_unread(report: LogReport) -> Iterator[str]:
    if report.extract.unreadable:
        complaints = [f"{found.name} {found.problem}." for found in report.extract.unreadable]
        yield f"Not all could be read:\n\n{render_list(complaints)}"
    if report.extract.left_out:
        yield f"The oldest {say_count(report.extract.left_out, 'line')} are left out: there are too many."


def _render_known(report: LogReport, zone: ZoneInfo) -> str:
    if not report.known:
        return "No line has a meaning that the runbooks know."
    headers = (">Lines", "Kind", "Meaning", "First", "Last", "Row")
    return render_table(headers, (_list_known(known, zone) for known in report.known))


def _list_known(known: KnownLines, zone: ZoneInfo) -> tuple[object, ...]:
    return (
        f"{known.count:,}",
        known.name,
        known.meaning,
        _say_moment(known.first, zone),
        _say_moment(known.last, zone),
        known.row,
    )


def _render_lines(report: LogReport, zone: ZoneInfo) -> str:
    if not report.lines:
        return "There are none."
    rows = (_list_line(line, zone) for line in report.lines)
    table = render_table(("When", "Where", "", "Line"), rows)
    return f"{table}\n\nand {report.more:,} older ones" if report.more else table


def _list_line(line: LogLine, zone: ZoneInfo) -> tuple[object, ...]:
    return _say_moment(line.at, zone), line.source, line.level, line.text[:_LONGEST_LINE]


def _say_moment(at: datetime | None, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%d %b %H:%M:%S}" if at is not None else "no time"
