"""Which figures are kept and drawn, and which are worth a word."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decisions.metrics import (
    FIGURES,
    conclude_metrics,
    downsample,
    make_metrics_report,
    read_samples,
    select_metrics,
)
from tasks.profiles import read_profile
from tasks.records.database_health import Connections
from tasks.records.evidence import DatabaseFacts, DiskFacts, HealthAnswer, HealthFacts, HostFacts
from tasks.records.logs import LogFacts
from tasks.records.metrics import Clients, Metrics
from tasks.records.observation import Unknown
from tasks.records.process import ProcessInstance, ProcessStatus

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STARTED = NOON - timedelta(days=2)
MIB = 2**20
QUARTER = timedelta(minutes=15)


def answer(seconds: float, problem: str | None = None) -> HealthAnswer:
    return HealthAnswer(url="http://x/health", seconds=seconds, problem=problem)


def instance(name: str, since: datetime, restarts: int, mebibytes: int, cpu: float) -> ProcessInstance:
    return ProcessInstance(
        name=name,
        state="online",
        since=since,
        restarts=restarts,
        memory_bytes=mebibytes * MIB,
        cpu_percent=cpu,
    )


def process(*instances: ProcessInstance) -> ProcessStatus:
    return ProcessStatus(running=True, stopped=False, detail="", instances=instances)


def database(current: int) -> DatabaseFacts:
    found = Connections(current=current, limit=100)
    return DatabaseFacts(kind="mongodb", where="x", state="answers", seconds=0.1, connections=found)


def host(free_disk: int = 30, free_memory: int = 500) -> HostFacts:
    disks = (
        DiskFacts(path="/", total_bytes=100, free_bytes=60),
        DiskFacts(path="/var", total_bytes=100, free_bytes=free_disk),
    )
    return HostFacts(
        at=NOON,
        disks=disks,
        memory_bytes=1000,
        memory_available_bytes=free_memory,
        cores=2,
        cpu_percent=12,
    )


def measured(**parts: Any) -> Metrics:
    whole: dict[str, Any] = {
        "health": HealthFacts(answers=(answer(0.01), answer(0.03), answer(0.02))),
        "process": process(instance("0", STARTED, 1, 80, 3), instance("1", NOON, 2, 90, 4)),
        "database": database(5),
        "host": host(),
        "logs": LogFacts(since=NOON, sources=("out.log",), errors=6, slow_requests=2),
        "clients": Clients(connections=4, addresses=3),
    }
    return Metrics(service="invoice", at=NOON, logs_hours=0.5, **{**whole, **parts})


NOTHING = {
    part: Unknown(why="it hangs") for part in ("health", "process", "database", "host", "logs", "clients")
}


def test_each_figure_is_taken_from_what_was_measured() -> None:
    assert select_metrics(measured()) == {
        "response_ms": 20,
        "response_worst_ms": 30,
        "memory_bytes": 90 * MIB,
        "memory_all_bytes": 170 * MIB,
        "cpu_percent": 7,
        "restarts": 3,
        "connections": 5,
        "errors_per_hour": 12,
        "slow_per_hour": 4,
        "clients": 4,
        "client_addresses": 3,
        "disk_percent": 70,
        "host_memory_percent": 50,
        "host_cpu_percent": 12,
        "started_at": NOON.timestamp(),
    }


def test_what_is_not_known_is_no_figure_and_says_why() -> None:
    blind = measured(**NOTHING)
    assert select_metrics(blind) == {}
    report = make_metrics_report(blind, {}, PROFILE)
    assert {line.seen for line in report.lines} == {"not known: it hangs"}
    down = measured(health=HealthFacts(answers=(answer(0.1), answer(0.1, "it answered 503"))))
    seen = {line.name: line.seen for line in make_metrics_report(down, {}, PROFILE).lines}
    assert seen["Response time of health, median"] == "not known: it answered 503"
    # No log at all is not that nobody made a mistake.
    mute = measured(logs=LogFacts(since=NOON, sources=()))
    assert "errors_per_hour" not in select_metrics(mute)


def test_a_quiet_service_has_nothing_to_watch() -> None:
    report = make_metrics_report(measured(), {}, PROFILE)
    assert report.watches == ()
    assert report.pictures == ()
    assert conclude_metrics(report) == f"invoice: {len(FIGURES)} figures measured, none to watch."


def test_what_is_near_its_limit_is_watched() -> None:
    report = make_metrics_report(
        measured(
            database=database(90),
            health=HealthFacts(answers=(answer(0.1), answer(3.0))),
            process=process(instance("0", NOON, 0, 600, 1)),
            host=host(free_disk=8, free_memory=60),
        ),
        {},
        PROFILE,
    )
    assert report.watches == (
        "Health took longer than 2,000 ms.",
        "A process has more than its 512 MiB.",
        "90 of 100 database connections are taken.",
        "A disk is nearly full.",
        "The host's memory is nearly used up.",
    )
    assert conclude_metrics(report).startswith("invoice: to watch: Health took longer")


def test_memory_that_grows_is_watched_with_when_the_limit_is_reached() -> None:
    times = [NOON - place * QUARTER for place in range(60, 0, -1)]
    history = {
        "memory_bytes": tuple((at, (90 + 2 * place) * MIB) for place, at in enumerate(times)),
        "started_at": tuple((at, STARTED.timestamp()) for at in times),
    }
    grown = process(instance("0", STARTED, 0, 210, 1))
    report = make_metrics_report(measured(process=grown), history, PROFILE)
    (watch,) = report.watches
    assert watch.startswith("Memory has grown steadily since 01 Mar")
    assert "it may leak, and has 512 MiB about" in watch
    assert {sample.started_at for sample in read_samples(history)} == {STARTED}
    memory = next(line for line in report.lines if line.name == "Memory of the largest process")
    assert memory.usual
    assert [picture.title for picture in report.pictures if "largest" in picture.title] == [
        "Memory of the largest process, last day",
        "Memory of the largest process, last month",
    ]


moments = st.integers(0, 60 * 24 * 40).map(lambda minutes: NOON - timedelta(minutes=minutes))
points = st.lists(st.tuples(moments, st.floats(0, 1e9)), max_size=200)


@settings(deadline=None)
@given(points, st.sampled_from([timedelta(days=1), timedelta(days=30)]))
def test_a_picture_has_few_points_of_its_period_and_none_that_was_not_measured(
    history: list[tuple[datetime, float]], period: timedelta
) -> None:
    drawn = downsample(history, NOON, period)
    within = [(at, value) for at, value in history if NOON - period < at <= NOON]
    assert len(drawn) <= 48
    assert bool(drawn) == bool(within)
    assert {at for at, _ in drawn} <= {at for at, _ in within}
    assert [at for at, _ in drawn] == sorted({at for at, _ in drawn})
    if within:
        values = [value for _, value in within]
        assert all(min(values) <= value <= max(values) for _, value in drawn)
    if len(within) == 1:
        assert drawn == tuple(within)
    if drawn and len(drawn) == 1:
        assert drawn[0][1] == median(value for _, value in within)
