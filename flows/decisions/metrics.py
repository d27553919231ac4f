"""What of the measurements is kept, drawn and worth a word. Pure: limits here only ask to watch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from flows.decisions.memory_trend import Leak, find_leak
from tasks.records.figures import say_bytes, say_count, say_duration
from tasks.records.metrics import (
    MemorySample,
    MetricLine,
    MetricPicture,
    Metrics,
    MetricsReport,
    MetricUnit,
)
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

Points = Sequence[tuple[datetime, float]]
Series = Mapping[str, Points]

_DAY, _MONTH = timedelta(days=1), timedelta(days=30)
_MOST_POINTS = 48
_FEWEST_FOR_USUAL = 4
_MANY_CONNECTIONS = 0.75
_MIB = 2**20
_LONG_MS = 10_000
MEMORY, STARTED = "memory_bytes", "started_at"


@dataclass(frozen=True)
class _Figure:
    """A figure that is kept: how it is called, said and taken from the measurements."""

    title: str
    unit: MetricUnit
    part: str
    take: Callable[[Metrics], float | None]


def _take_health(choose: Callable[[Sequence[float]], float]) -> Callable[[Metrics], float | None]:
    def take(metrics: Metrics) -> float | None:
        if isinstance(metrics.health, Unknown) or metrics.health.problem is not None:
            return None
        return choose([answer.seconds for answer in metrics.health.answers]) * 1000

    return take


def _take_instances(
    field: str, combine: Callable[[Sequence[float]], float]
) -> Callable[[Metrics], float | None]:
    def take(metrics: Metrics) -> float | None:
        if isinstance(metrics.process, Unknown):
            return None
        found = [getattr(instance, field) for instance in metrics.process.instances]
        known = [float(value) for value in found if value is not None]
        return combine(known) if known else None

    return take


def _take_connections(metrics: Metrics) -> float | None:
    if isinstance(metrics.database, Unknown) or isinstance(metrics.database.connections, Unknown):
        return None
    return metrics.database.connections.current


def _take_logged(name: str) -> Callable[[Metrics], float | None]:
    def take(metrics: Metrics) -> float | None:
        if isinstance(metrics.logs, Unknown) or not metrics.logs.sources:
            return None
        return float(getattr(metrics.logs, name)) / metrics.logs_hours

    return take


def _take_clients(field: str) -> Callable[[Metrics], float | None]:
    def take(metrics: Metrics) -> float | None:
        return None if isinstance(metrics.clients, Unknown) else float(getattr(metrics.clients, field))

    return take


def _take_host(share: Callable[[Metrics], float]) -> Callable[[Metrics], float | None]:
    def take(metrics: Metrics) -> float | None:
        return None if isinstance(metrics.host, Unknown) else share(metrics)

    return take


def _disk_used(metrics: Metrics) -> float:
    disks = metrics.host.disks if not isinstance(metrics.host, Unknown) else ()
    return max(
        (100 * (1 - disk.free_bytes / disk.total_bytes) for disk in disks if disk.total_bytes), default=0
    )


def _memory_used(metrics: Metrics) -> float:
    if isinstance(metrics.host, Unknown):
        return 0.0
    return 100 * (1 - metrics.host.memory_available_bytes / metrics.host.memory_bytes)


def _cpu_used(metrics: Metrics) -> float:
    return 0.0 if isinstance(metrics.host, Unknown) else metrics.host.cpu_percent


FIGURES: Mapping[str, _Figure] = {
    "response_ms": _Figure("Response time of health, median", "milliseconds", "health", _take_health(median)),
    "response_worst_ms": _Figure(
        "Response time of health, worst", "milliseconds", "health", _take_health(max)
    ),
    MEMORY: _Figure(
        "Memory of the largest process", "bytes", "process", _take_instances("memory_bytes", max)
    ),
    "memory_all_bytes": _Figure(
        "Memory of all processes", "bytes", "process", _take_instances("memory_bytes", sum)
    ),
    "cpu_percent": _Figure(
        "CPU of all processes, of one core", "percent", "process", _take_instances("cpu_percent", sum)
    ),
    "restarts": _Figure("Restarts so far", "number", "process", _take_instances("restarts", sum)),
    "connections": _Figure("Database connections", "number", "database", _take_connections),
    "errors_per_hour": _Figure("Error lines an hour", "number", "logs", _take_logged("errors")),
    "slow_per_hour": _Figure("Slow requests an hour", "number", "logs", _take_logged("slow_requests")),
    "clients": _Figure("Open connections of clients", "number", "clients", _take_clients("connections")),
    "client_addresses": _Figure(
        "Different clients, by address", "number", "clients", _take_clients("addresses")
    ),
    "disk_percent": _Figure("The fullest disk, used", "percent", "host", _take_host(_disk_used)),
    "host_memory_percent": _Figure("The host's memory, used", "percent", "host", _take_host(_memory_used)),
    "host_cpu_percent": _Figure("The host's CPU", "percent", "host", _take_host(_cpu_used)),
}


def select_metrics(metrics: Metrics) -> dict[str, float]:
    """Given what was measured, return the figures to keep; what is not known is left out."""
    taken = {name: figure.take(metrics) for name, figure in FIGURES.items()}
    figures = {name: value for name, value in taken.items() if value is not None}
    if not isinstance(metrics.process, Unknown):
        starts = [instance.since for instance in metrics.process.instances if instance.since is not None]
        # Of several processes the youngest says when the last restart was.
        figures |= {STARTED: max(starts).timestamp()} if starts else {}
    return figures


def read_samples(history: Series) -> tuple[MemorySample, ...]:
    """Given the kept figures, return how much memory there was and which process had it."""
    starts = dict(history.get(STARTED, ()))
    return tuple(
        MemorySample(
            at=at,
            bytes=value,
            started_at=datetime.fromtimestamp(starts[at], at.tzinfo) if at in starts else None,
        )
        for at, value in history.get(MEMORY, ())
    )


def make_metrics_report(metrics: Metrics, history: Series, profile: ServiceProfile) -> MetricsReport:
    """Given what was measured now and before, return what is shown: figures, watch lines, pictures."""
    now = select_metrics(metrics)
    whole = {
        name: (*history.get(name, ()), *(((metrics.at, now[name]),) if name in now else ()))
        for name in {*history, *now}
    }
    leak = find_leak(read_samples(whole))
    watches = _watch(metrics, now, leak, profile)
    return MetricsReport(
        service=metrics.service,
        at=metrics.at,
        lines=tuple(
            MetricLine(
                name=figure.title,
                seen=say_figure(now[name], figure.unit) if name in now else _say_unknown(metrics, figure),
                usual=_say_usual(history.get(name, ()), metrics.at, figure.unit),
                watch=watches.get(name, ""),
            )
            for name, figure in FIGURES.items()
        ),
        pictures=tuple(
            MetricPicture(title=f"{figure.title}, last {called}", unit=figure.unit, points=points)
            for name, figure in FIGURES.items()
            for called, period in (("day", _DAY), ("month", _MONTH))
            if len(points := downsample(whole.get(name, ()), metrics.at, period)) > 1
        ),
    )


def downsample(points: Points, now: datetime, period: timedelta) -> tuple[tuple[datetime, float], ...]:
    """Given a figure's history, return the period's, at most 48 points, each the median of its time."""
    width = period / _MOST_POINTS
    groups: dict[int, list[tuple[datetime, float]]] = {}
    for at, value in sorted(points):
        if now - period < at <= now:
            groups.setdefault(min(_MOST_POINTS - 1, (now - at) // width), []).append((at, value))
    return tuple((same[-1][0], median(value for _, value in same)) for same in groups.values())


def say_figure(value: float, unit: MetricUnit) -> str:
    """Given a figure, return it as people read it."""
    match unit:
        case "milliseconds":
            return say_duration(value / 1000) if value >= _LONG_MS else f"{value:,.0f} ms"
        case "bytes":
            return say_bytes(round(value))
        case "percent":
            return f"{value:.0f} %"
        case "number":
            return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def conclude_metrics(report: MetricsReport) -> str:
    """Given a report, return its one sentence."""
    if report.watches:
        return f"{report.service}: to watch: {' '.join(report.watches)}"
    known = [line for line in report.lines if not line.seen.startswith("not known")]
    return f"{report.service}: {say_count(len(known), 'figure')} measured, none to watch."


def _say_unknown(metrics: Metrics, figure: _Figure) -> str:
    part = getattr(metrics, figure.part)
    if isinstance(part, Unknown):
        return f"not known: {part.why}"
    if figure.part == "health":
        return f"not known: {part.problem}"
    if figure.part == "database" and isinstance(part.connections, Unknown):
        return f"not known: {part.problem or part.connections.why}"
    return "not known: nobody says it"


def _say_usual(points: Points, now: datetime, unit: MetricUnit) -> str:
    recent = [value for at, value in points if now - _DAY <= at < now]
    return say_figure(median(recent), unit) if len(recent) >= _FEWEST_FOR_USUAL else ""


def _watch(
    metrics: Metrics, now: Mapping[str, float], leak: Leak | None, profile: ServiceProfile
) -> dict[str, str]:
    outage = profile.outage
    slow = outage.slow_after.total_seconds() * 1000
    watches = {}
    if now.get("response_worst_ms", 0) > slow:
        watches["response_worst_ms"] = f"Health took longer than {say_figure(slow, 'milliseconds')}."
    if leak is not None:
        watches[MEMORY] = _say_leak(leak, outage.memory_limit_mib, profile)
    elif outage.memory_limit_mib is not None and now.get(MEMORY, 0) > outage.memory_limit_mib * _MIB:
        watches[MEMORY] = f"A process has more than its {outage.memory_limit_mib} MiB."
    if not isinstance(metrics.database, Unknown) and not isinstance(metrics.database.connections, Unknown):
        found = metrics.database.connections
        if found.limit is not None and found.current > _MANY_CONNECTIONS * found.limit:
            watches["connections"] = f"{found.current} of {found.limit} database connections are taken."
    if now.get("disk_percent", 0) > 100 * (1 - 2 * outage.least_free_disk):
        watches["disk_percent"] = "A disk is nearly full."
    if now.get("host_memory_percent", 0) > 100 * (1 - 2 * outage.least_free_memory):
        watches["host_memory_percent"] = "The host's memory is nearly used up."
    return watches


def _say_leak(leak: Leak, limit_mib: int | None, profile: ServiceProfile) -> str:
    said = (
        f"Memory has grown steadily since {leak.since.astimezone(profile.zone):%d %b %H:%M}, from "
        f"{say_bytes(round(leak.from_bytes))} to {say_bytes(round(leak.to_bytes))}: it may leak"
    )
    full = leak.reaches(limit_mib * _MIB) if limit_mib is not None else None
    return (
        f"{said}, and has {limit_mib} MiB about {full.astimezone(profile.zone):%d %b %H:%M}."
        if full
        else f"{said}."
    )
