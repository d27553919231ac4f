"""The page of a database's report, as a Markdown reader sees it, whatever a collection is called."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from markdown_it import MarkdownIt

from tasks.health_rendering import render_database
from tasks.records.database_health import (
    Blocked,
    ConnectionGroup,
    Connections,
    DatabaseHealth,
    DatabaseReport,
    Finding,
    Picture,
    RelationGrowth,
    RelationSize,
    Session,
    Sessions,
)
from tasks.records.observation import Unknown

NOW = datetime(2026, 11, 22, 6, 15, tzinfo=UTC)
NASTY = "a|b\n<b>x</b> ](http://x) `c`"
SINCE = {"yesterday": 1500.0, "last week": -20.0, "last month": None}
WAIT = Session(identity="session 7", who=f"app, {NASTY}", doing="UPDATE", seconds=75)
KEPT = Session(identity="session 8", who="forgetful", doing="idle in transaction after UPDATE", seconds=900)


def report(**changed: object) -> DatabaseReport:
    size = RelationSize(name=NASTY, data_bytes=4000, index_bytes=500, entries=12)
    health = DatabaseHealth(
        kind="postgresql",
        database="books",
        at=NOW,
        total_bytes=5000,
        relations=(size,),
        disk=Unknown(why="SQL does not know."),
        connections=Connections(
            current=9,
            limit=47,
            groups=(ConnectionGroup(user="app", application=NASTY, state="idle", number=9),),
        ),
        sessions=Sessions(
            blocked=(Blocked(session=WAIT, waits_for=f"a lock on {NASTY}", by=(KEPT,)),), working=(KEPT,)
        ),
        replication=Unknown(why="refused"),
        cache=Unknown(why="refused"),
    ).model_copy(update=changed)
    return DatabaseReport(
        service="books",
        health=health,
        findings=(
            Finding(
                name="connections", level="act", seen="46 of 47 taken", limit="from 90 %", advice="lower it"
            ),
            Finding(name="disk space", level="unknown", seen=NASTY, limit="from 90 %", advice="free some"),
        ),
        size="5.0 kB in all.",
        growth=(RelationGrowth(size=size, bytes_since=SINCE, entries_since=dict.fromkeys(SINCE, 3.0)),),
        pictures=(
            Picture(title=f"Size of {NASTY}", points=((NOW - timedelta(days=1), 1), (NOW, 2)), unit="bytes"),
            Picture(title="Connections", points=((NOW, 2),), unit="number"),
        ),
    )


def cells(markdown: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level > 3:
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


def test_every_name_is_shown_as_it_is_and_tears_no_table() -> None:
    rows = cells(render_database(report(), ZoneInfo("Europe/Berlin")))
    shown = " ".join(NASTY.split())
    assert ["ACT", "connections", "46 of 47 taken", "from 90 %", "lower it"] in rows
    assert ["not known", "disk space", shown, "from 90 %", ""] in rows
    assert [shown, "4.0 kB", "500 bytes", "12", "+1.5 kB, +3 entries", "-20 bytes, +3 entries", ""] in rows
    assert ["app", shown, "idle", "9"] in rows


def test_who_waits_for_whom_is_told_in_one_line() -> None:
    page = render_database(report(), ZoneInfo("Europe/Berlin")).replace("\\", "")
    assert "# Database of books, 2026-11-22 07:15 CET" in page
    assert ", UPDATE, has waited 1 min 15 s for a lock on a|b" in page
    assert ", held by session 8 (forgetful), idle in transaction after UPDATE" in page


def test_a_figure_is_drawn_from_its_second_measurement_on() -> None:
    page = render_database(report(), ZoneInfo("Europe/Berlin"))
    pictures = re.findall(
        r"^!\[([^\]]*)\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\)$", page, re.MULTILINE
    )
    assert pictures == ["Size of a·b··b·x·/b· ··http·//x· ·c·"]


def test_what_is_not_known_says_why_in_its_place() -> None:
    why = Unknown(why="PostgreSQL does not show it: grant pg_monitor.")
    blind = report(relations=why, connections=why, sessions=why)
    page = render_database(blind, ZoneInfo("UTC")).replace("\\", "")
    assert page.lower().count("not known: postgresql does not show it: grant pg_monitor.") == 3
    assert "Nobody waits" not in page
