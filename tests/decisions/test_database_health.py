"""Whether a database is well: each rule at its limits, and what is not known is never called well."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.database_health import conclude, find_blindness, make_report, select_figures
from flows.decisions.growth import Points
from flows.decisions.health_rules import RULES
from tasks.records.database_health import (
    Blocked,
    CacheReads,
    Connections,
    DatabaseHealth,
    Disk,
    Finding,
    RelationSize,
    Replica,
    Replication,
    ReplicationSlot,
    Session,
    Sessions,
    Troubles,
)
from tasks.records.observation import Unknown

NOW = datetime(2026, 11, 22, 6, 15, tzinfo=UTC)
DAY = timedelta(days=1)
GB = 10**9
WELL: dict[str, Any] = {
    "database": "books",
    "at": NOW,
    "total_bytes": 5 * GB,
    "relations": (RelationSize(name="entries", data_bytes=4 * GB, index_bytes=GB, entries=1000),),
    "disk": Disk(total_bytes=100 * GB, free_bytes=70 * GB),
    "connections": Connections(current=10, limit=100),
    "sessions": Sessions(),
    "replication": Replication(),
    "cache": CacheReads(wanted=100_000, from_disk=1000),
}
TROUBLES = Troubles(deadlocks=5, temporary_bytes=GB)
BEFORE = {
    "cache_wanted": 50_000.0,
    "cache_from_disk": 900.0,
    "deadlocks": 5.0,
    "temporary_bytes": float(GB),
}


def health(kind: Literal["mongodb", "postgresql"] = "postgresql", **changed: Any) -> DatabaseHealth:
    troubles = TROUBLES if kind == "postgresql" else None
    return DatabaseHealth(kind=kind, **(WELL | {"troubles": troubles} | changed))


def history(figures: Mapping[str, float] = BEFORE, days: int = 20) -> dict[str, Points]:
    """Every figure the same each morning of the last days."""
    moments = [NOW - DAY * day for day in range(days, 0, -1)]
    disk = {"disk_used_bytes": 30.0 * GB}
    return {name: [(at, value) for at in moments] for name, value in (disk | dict(figures)).items()}


def growing(per_day: float) -> dict[str, Points]:
    moments = [(NOW - DAY * day, 30.0 * GB - per_day * day) for day in range(20, 0, -1)]
    return {**history(), "disk_used_bytes": moments}


def find(name: str, observed: DatabaseHealth, earlier: Mapping[str, Points] | None = None) -> Finding:
    findings = make_report("books", observed, history() if earlier is None else earlier).findings
    (finding,) = [found for found in findings if found.name == name]
    return finding


def session(seconds: float, number: int = 7) -> Session:
    return Session(identity=f"session {number}", who="app, api", doing="UPDATE", seconds=seconds)


def blocked(seconds: float) -> Sessions:
    wait = Blocked(session=session(seconds), waits_for="a lock on entries", by=(session(900, 8),))
    return Sessions(blocked=(wait,))


def replicas(lag: float | None, **changed: Any) -> Replication:
    replica = {"name": "b:27017", "state": "SECONDARY", "healthy": True, "lag_seconds": lag} | changed
    return Replication(replicas=(Replica(**replica),))


def slot(held: int, *, lost: bool = False) -> Replication:
    return Replication(slots=(ReplicationSlot(name="b", active=False, held_bytes=held, lost=lost),))


@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
def test_of_a_database_that_is_well_every_finding_is_ok_and_the_sentence_has_its_size(
    kind: Literal["mongodb", "postgresql"],
) -> None:
    report = make_report("books", health(kind), history())
    assert {finding.level for finding in report.findings} == {"ok"}
    noun = "collection" if kind == "mongodb" else "table"
    assert conclude(report) == f"books: the database is well, 5.0 GB in 1 {noun}."


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("disk space", {"disk": Disk(total_bytes=1000, free_bytes=201)}, "ok"),
    ("disk space", {"disk": Disk(total_bytes=1000, free_bytes=200)}, "watch"),
    ("disk space", {"disk": Disk(total_bytes=1000, free_bytes=100)}, "act"),
    ("disk space", {"disk": Disk(total_bytes=0, free_bytes=0)}, "act"),
    ("connections", {"connections": Connections(current=74, limit=100)}, "ok"),
    ("connections", {"connections": Connections(current=75, limit=100)}, "watch"),
    ("connections", {"connections": Connections(current=90, limit=100)}, "act"),
    ("connections", {"connections": Connections(current=1, limit=0)}, "act"),
    ("connections", {"connections": Connections(current=5, limit=None)}, "unknown"),
    ("blocked sessions", {"sessions": blocked(9.9)}, "ok"),
    ("blocked sessions", {"sessions": blocked(10)}, "watch"),
    ("blocked sessions", {"sessions": blocked(300)}, "act"),
    ("idle in transaction", {"sessions": Sessions(idle_in_transaction=(session(299),))}, "ok"),
    ("idle in transaction", {"sessions": Sessions(idle_in_transaction=(session(2), session(300)))}, "watch"),
    ("idle in transaction", {"sessions": Sessions(idle_in_transaction=(session(3600),))}, "act"),
    ("long operations", {"kind": "mongodb", "sessions": Sessions(working=(session(59),))}, "ok"),
    ("long operations", {"kind": "mongodb", "sessions": Sessions(working=(session(60),))}, "watch"),
    ("long operations", {"kind": "mongodb", "sessions": Sessions(working=(session(3600),))}, "act"),
    ("open transactions", {"sessions": Sessions(working=(session(3599),))}, "ok"),
    ("open transactions", {"sessions": Sessions(working=(session(3600),))}, "watch"),
    ("open transactions", {"sessions": Sessions(working=(session(86_400),))}, "act"),
    ("prepared transactions", {"sessions": Sessions(prepared=(session(301),))}, "watch"),
    ("prepared transactions", {"sessions": Sessions(prepared=(session(3601),))}, "act"),
    ("oldest snapshot", {"sessions": Sessions(oldest_snapshot=9_999_999)}, "ok"),
    ("oldest snapshot", {"sessions": Sessions(oldest_snapshot=10_000_000)}, "watch"),
    ("oldest snapshot", {"sessions": Sessions(oldest_snapshot=200_000_000)}, "act"),
    ("replication lag", {"replication": replicas(29)}, "ok"),
    ("replication lag", {"replication": replicas(30)}, "watch"),
    ("replication lag", {"replication": replicas(300)}, "act"),
    ("replication lag", {"replication": replicas(None)}, "unknown"),
    ("replication lag", {"replication": replicas(0, healthy=False, state="RECOVERING")}, "act"),
    ("replication lag", {"replication": Replication(has_primary=False)}, "act"),
    ("replication slots", {"replication": slot(GB - 1)}, "ok"),
    ("replication slots", {"replication": slot(GB)}, "watch"),
    ("replication slots", {"replication": slot(10 * GB)}, "act"),
    ("replication slots", {"replication": slot(0, lost=True)}, "act"),
    ("cache hits", {"cache": CacheReads(wanted=60_000, from_disk=1899)}, "ok"),
    ("cache hits", {"cache": CacheReads(wanted=60_000, from_disk=1900)}, "watch"),
    ("cache hits", {"cache": CacheReads(wanted=50_999, from_disk=1899)}, "ok"),
    ("cache hits", {"cache": CacheReads(wanted=2000, from_disk=400)}, "watch"),
    ("deadlocks", {"troubles": TROUBLES.model_copy(update={"deadlocks": 6})}, "watch"),
    ("deadlocks", {"troubles": TROUBLES.model_copy(update={"deadlocks": 1})}, "watch"),
    ("temporary files", {"troubles": TROUBLES.model_copy(update={"temporary_bytes": 2 * GB - 1})}, "ok"),
    ("temporary files", {"troubles": TROUBLES.model_copy(update={"temporary_bytes": 2 * GB})}, "watch"),
]


@pytest.mark.parametrize(
    ("name", "changed", "level"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_rule_holds_its_limits(name: str, changed: dict[str, Any], level: str) -> None:
    assert find(name, health(**changed)).level == level


def test_every_rule_but_the_forecast_is_specified_above() -> None:
    assert {name for name, *_ in CASES} == {rule.name for rule in RULES} - {"disk full"}


@pytest.mark.parametrize(
    ("earlier", "level", "words"),
    [
        (history(), "ok", "does not clearly grow"),
        (growing(-1e9), "ok", "does not clearly grow"),
        (growing(1e9), "ok", "full about 2027-01-31 (2027-01-31 to 2027-01-31), at 1.0 GB a day"),
        (growing(2e9), "watch", "full about 2026-12-27"),
        (growing(10e9), "act", "full about 2026-11-29"),
        (growing(1e6), "ok", "not within five years, at 1.0 MB a day"),
        (history(days=3), "unknown", "no forecast yet: it takes a week of reports"),
        ({}, "unknown", "no forecast yet: it takes a week of reports"),
    ],
)
def test_a_disk_that_will_be_full_is_told_in_time(earlier: dict[str, Points], level: str, words: str) -> None:
    found = find("disk full", health(), earlier)
    assert (found.level, words in found.seen) == (level, True), found.seen


@pytest.mark.parametrize("name", ["cache hits", "deadlocks", "temporary files"])
def test_what_is_counted_for_the_first_time_is_not_known_yet(name: str) -> None:
    found = find(name, health(), {})
    assert found.level == "unknown"
    assert "for the first time" in found.seen


def test_who_blocks_whom_is_in_the_sentence_with_what_to_do() -> None:
    said = conclude(make_report("books", health(sessions=blocked(400)), history()))
    assert said == (
        "books: blocked sessions: session 7 (app, api), UPDATE, 6 min 40 s, waits for a lock on entries, "
        "held by session 8 (app, api), UPDATE, 15 min: let the session that holds the lock end its "
        "transaction, or end that session."
    )


def test_the_worst_comes_first_and_nothing_is_left_out_of_the_sentence() -> None:
    observed = health(
        disk=Disk(total_bytes=100, free_bytes=1),
        connections=Connections(current=80, limit=100),
        replication=Unknown(why="PostgreSQL does not show it: grant pg_monitor."),
    )
    report = make_report("books", observed, history())
    assert [finding.level for finding in report.findings[:4]] == ["act", "watch", "unknown", "unknown"]
    said = conclude(report)
    assert said.startswith(
        "books: disk space: 99% of 100 bytes used, 1 byte free: free some by audit-log-cleanup"
    )
    assert "; to watch: connections (80 of 100 taken); not known: replication lag, replication slots." in said


OBSERVATIONS = (
    "total_bytes",
    "relations",
    "disk",
    "connections",
    "sessions",
    "replication",
    "cache",
    "troubles",
)


@given(missing=st.sets(st.sampled_from(OBSERVATIONS)), kind=st.sampled_from(["mongodb", "postgresql"]))
def test_what_could_not_be_observed_is_never_called_well(
    missing: set[str], kind: Literal["mongodb", "postgresql"]
) -> None:
    wanted = missing - {"troubles"} if kind == "mongodb" else missing
    observed = health(kind, **{name: Unknown(why=f"{name} was refused.") for name in wanted})
    report = make_report("books", observed, history())
    of = {rule.name: rule.of for rule in RULES}
    for finding in report.findings:
        assert (finding.level == "unknown") == (of[finding.name] in wanted)
        if finding.level == "unknown":
            assert finding.seen == f"{of[finding.name]} was refused."
    if any(of[finding.name] in wanted for finding in report.findings):
        assert "the database is well" not in conclude(report)
    everything = set(OBSERVATIONS) - ({"troubles"} if kind == "mongodb" else set())
    assert (find_blindness(observed) is not None) == (wanted == everything)


@given(limits=st.lists(st.floats(0, 1e6), min_size=2, max_size=2))
def test_what_is_worse_is_never_judged_milder(limits: list[float]) -> None:
    order = ["ok", "watch", "act"]
    small, large = sorted(limits)
    makers: dict[str, Callable[[float], dict[str, Any]]] = {
        "blocked sessions": lambda value: {"sessions": blocked(value)},
        "open transactions": lambda value: {"sessions": Sessions(working=(session(value),))},
        "replication lag": lambda value: {"replication": replicas(value)},
        "disk space": lambda value: {"disk": Disk(total_bytes=10**6, free_bytes=round(10**6 - value))},
    }
    for name, make in makers.items():
        levels = [find(name, health(**make(value))).level for value in (small, large)]
        assert order.index(levels[0]) <= order.index(levels[1])


def test_figures_are_kept_for_the_hundred_largest_and_the_next_report_tells_what_they_gained() -> None:
    names = [f"t{number:03}" for number in range(150)]
    sizes = tuple(RelationSize(name=name, data_bytes=1000, index_bytes=0, entries=5) for name in names)
    yesterday = select_figures(health(relations=sizes))
    assert {"bytes of t099", "entries of t099", "disk_used_bytes", "connections"} <= set(yesterday)
    assert "bytes of t100" not in yesterday

    earlier = {name: [(NOW - DAY, value)] for name, value in yesterday.items()}
    grown = (sizes[0].model_copy(update={"data_bytes": 1800, "entries": 7}), *sizes[1:])
    report = make_report("books", health(relations=grown, total_bytes=6 * GB), earlier)
    assert report.growth[0].bytes_since == {"yesterday": 800, "last week": None, "last month": None}
    assert report.growth[0].entries_since["yesterday"] == 2
    assert report.size == "6.0 GB in all: +1.0 GB since yesterday."
    assert report.growth[120].bytes_since["yesterday"] is None


def test_pictures_are_of_the_size_the_disk_the_connections_the_cache_and_the_five_largest() -> None:
    sizes = tuple(
        RelationSize(name=f"t{number}", data_bytes=1000 - number, index_bytes=0, entries=5)
        for number in range(9)
    )
    pictures = make_report(
        "books", health(relations=sizes), history(BEFORE | {"total_bytes": 5.0 * GB})
    ).pictures
    assert [picture.title for picture in pictures] == [
        "Size of the database",
        "Used on the disk",
        "Connections",
        "Cache hits between two reports",
        *(f"Size of t{number}" for number in range(5)),
    ]
    ((measured_at, ratio),) = pictures[3].points
    assert measured_at == NOW
    assert ratio == pytest.approx(99.8)
    assert len(pictures[0].points) == 21
