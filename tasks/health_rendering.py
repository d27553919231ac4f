"""A database's report as the Markdown that the Prefect UI shows. Pure but for the artifact's publication."""

import re
from collections.abc import Sequence
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.charts import SIZES, chart_series
from tasks.records.database_health import (
    DatabaseHealth,
    DatabaseReport,
    Finding,
    Picture,
    RelationGrowth,
    Sessions,
    Unit,
)
from tasks.records.figures import say_bytes, say_count, say_duration, say_gain, say_time, shorten
from tasks.records.observation import Unknown

# A picture's title is its text in Markdown as well, and a collection may be called anything.
_ODD = re.compile(r"[^\w .,%/-]")
_MOST_ROWS = 50
_FEWEST_POINTS = 2
_LONGEST_NAME = 32
_UNITS: dict[Unit, tuple[tuple[str, float], ...]] = {
    "bytes": (*SIZES, ("bytes", 1.0)),
    "number": (("", 1.0),),
    "percent": (("%", 1.0),),
}
_LEVELS = {"act": "ACT", "watch": "watch", "unknown": "not known", "ok": "ok"}


def publish_database(report: DatabaseReport, zone: ZoneInfo) -> UUID:
    """Show how a database is."""
    return publish_markdown(render_database(report, zone), "database-report", "figures", report.service)


def render_database(report: DatabaseReport, zone: ZoneInfo) -> str:
    """Return the page: findings, then what they rest on, then pictures."""
    health = report.health
    return "\n\n".join(
        (
            f"# Database of {report.service}, {say_time(health.at, zone)}",
            _render_findings(report.findings),
            "## Size and growth",
            _render_sizes(report),
            "## Connections",
            _render_connections(health),
            "## What goes on",
            _render_sessions(health.sessions),
            "## Over time",
            _render_pictures(report.pictures, zone),
        )
    )


def _render_findings(findings: Sequence[Finding]) -> str:
    return render_table(
        ("", "What", "Seen", "Limit", "What to do"),
        (
            (
                _LEVELS[found.level],
                found.name,
                found.seen,
                found.limit,
                found.advice if found.level in {"act", "watch"} else "",
            )
            for found in findings
        ),
    )


def _render_sizes(report: DatabaseReport) -> str:
    health, growth = report.health, report.growth
    lines = [escape(report.size, LONGEST_SENTENCE)]
    if isinstance(health.relations, Unknown):
        lines.append(f"By {_noun(health)}: not known: {escape(health.relations.why, LONGEST_SENTENCE)}")
    elif growth:
        periods = tuple(growth[0].bytes_since)
        headers = (
            _noun(health).capitalize(),
            ">Data",
            ">Indexes",
            ">Entries",
            *(f">Since {p}" for p in periods),
        )
        lines.append(render_table(headers, (_list_growth(row) for row in growth[:_MOST_ROWS])))
        if len(growth) > _MOST_ROWS:
            lines.append(f"and {len(growth) - _MOST_ROWS:,} smaller ones")
    return "\n\n".join(lines)


def _list_growth(row: RelationGrowth) -> tuple[object, ...]:
    size = row.size
    gains = (_say_gain(row.bytes_since[period], row.entries_since[period]) for period in row.bytes_since)
    entries = "not counted" if size.entries is None else f"{size.entries:,}"
    return (
        shorten(size.name, _LONGEST_NAME),
        say_bytes(size.data_bytes),
        say_bytes(size.index_bytes),
        entries,
        *gains,
    )


def _say_gain(size: float | None, entries: float | None) -> str:
    if size is None:
        return ""
    return say_gain(size) + (f", {round(entries):+,} entries" if entries else "")


def _render_connections(health: DatabaseHealth) -> str:
    found = health.connections
    if isinstance(found, Unknown):
        return f"Not known: {escape(found.why, LONGEST_SENTENCE)}"
    limit = "an unknown number" if found.limit is None else f"{found.limit:,}"
    said = f"{say_count(found.current, 'connection')} of {limit}."
    if not found.groups:
        return said
    rows = ((group.user, group.application, group.state, f"{group.number:,}") for group in found.groups)
    return f"{said}\n\n{render_table(('User', 'Application', 'State', '>Connections'), rows)}"


def _render_sessions(sessions: Sessions | Unknown) -> str:
    if isinstance(sessions, Unknown):
        return f"Not known: {escape(sessions.why, LONGEST_SENTENCE)}"
    waits = [
        f"{wait.session.identity} ({wait.session.who}), {wait.session.doing}, has waited "
        f"{say_duration(wait.session.seconds)} for {wait.waits_for}"
        + "".join(f", held by {one.identity} ({one.who}), {one.doing}" for one in wait.by)
        for wait in sessions.blocked
    ]
    kept = [
        f"{one.identity} ({one.who}), {one.doing}, {say_duration(one.seconds)}"
        for one in (*sessions.working, *sessions.prepared)
    ]
    return render_list((*waits, *kept)) or "Nobody waits, and nothing is kept open."


def _render_pictures(pictures: Sequence[Picture], zone: ZoneInfo) -> str:
    drawn = [
        chart_series(_ODD.sub("·", picture.title), picture.points, _UNITS[picture.unit], zone)
        for picture in pictures
        if len(picture.points) >= _FEWEST_POINTS
    ]
    return "\n\n".join(drawn) or "Measured for the first time: pictures begin with the second report."


def _noun(health: DatabaseHealth) -> str:
    return "collection" if health.kind == "mongodb" else "table"
