"""Whether a database is well: each rule's finding, the figures to compare with, and the one sentence."""

from collections.abc import Mapping

from flows.decisions.growth import Points, find_trend, list_changes
from flows.decisions.health_readings import Evidence, hit_ratios
from flows.decisions.health_rules import RULES, Rule
from tasks.records.database_health import (
    DatabaseHealth,
    DatabaseReport,
    Finding,
    Level,
    Picture,
    RelationGrowth,
    RelationSize,
    Unit,
)
from tasks.records.figures import say_bytes, say_count, say_gain, shorten
from tasks.records.observation import Unknown

_ORDER: tuple[Level, ...] = ("act", "watch", "unknown", "ok")
_LONGEST_TOLD = 250
# A measurement keeps the figures of so many collections or tables.
_MOST_KEPT = 100
_MOST_DRAWN = 5


def make_report(service: str, health: DatabaseHealth, history: Mapping[str, Points]) -> DatabaseReport:
    """Given a database and earlier figures, return all that is said of it."""
    return DatabaseReport(
        service=service,
        health=health,
        findings=judge_health(health, history),
        size=_say_growth(health, history),
        growth=list_growth(health, history),
        pictures=list_pictures(health, history),
    )


def judge_health(health: DatabaseHealth, history: Mapping[str, Points]) -> tuple[Finding, ...]:
    """Given a database and earlier figures, return a finding for every rule, the worst first."""
    evidence = Evidence(health, history)
    found = [_judge(rule, evidence) for rule in RULES if health.kind in rule.kinds]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.level)))


def _judge(rule: Rule, evidence: Evidence) -> Finding:
    observed = getattr(evidence.health, rule.of)
    level: Level
    if isinstance(observed, Unknown):
        level, seen = "unknown", observed.why
    else:
        reading = rule.read(observed, evidence)
        level, seen = _grade(rule, reading.value), reading.words
    return Finding(name=rule.name, level=level, seen=seen, limit=rule.limit, advice=rule.advice)


def _grade(rule: Rule, value: float | None) -> Level:
    if value is None:
        return "unknown"
    for level, limit in (("act", rule.act), ("watch", rule.watch)):
        if limit is not None and (value <= limit if rule.from_below else value >= limit):
            return "act" if level == "act" else "watch"
    return "ok"


def select_figures(health: DatabaseHealth) -> dict[str, float]:
    """Given a database, return the figures that later reports compare with, by name."""
    figures: dict[str, float] = {}
    if not isinstance(health.total_bytes, Unknown):
        figures["total_bytes"] = health.total_bytes
    if not isinstance(health.disk, Unknown):
        figures["disk_used_bytes"] = health.disk.used_bytes
    if not isinstance(health.connections, Unknown):
        figures["connections"] = health.connections.current
    if not isinstance(health.cache, Unknown):
        figures |= {"cache_wanted": health.cache.wanted, "cache_from_disk": health.cache.from_disk}
    if health.troubles is not None and not isinstance(health.troubles, Unknown):
        figures["deadlocks"] = health.troubles.deadlocks
        figures["temporary_bytes"] = health.troubles.temporary_bytes
    if not isinstance(health.relations, Unknown):
        for relation in health.relations[:_MOST_KEPT]:
            figures[f"bytes of {relation.name}"] = relation.total_bytes
            if relation.entries is not None:
                figures[f"entries of {relation.name}"] = relation.entries
    return figures


def list_growth(health: DatabaseHealth, history: Mapping[str, Points]) -> tuple[RelationGrowth, ...]:
    """Given a database and earlier figures, return what each collection or table gained, largest first."""
    if isinstance(health.relations, Unknown):
        return ()
    return tuple(_grow(size, health, history) for size in health.relations)


def _grow(size: RelationSize, health: DatabaseHealth, history: Mapping[str, Points]) -> RelationGrowth:
    return RelationGrowth(
        size=size,
        bytes_since=list_changes(history.get(f"bytes of {size.name}", ()), size.total_bytes, health.at),
        entries_since=list_changes(history.get(f"entries of {size.name}", ()), size.entries or 0, health.at),
    )


def list_pictures(health: DatabaseHealth, history: Mapping[str, Points]) -> tuple[Picture, ...]:
    """Given a database and earlier figures, return the history of each that is worth a picture."""
    now = select_figures(health)
    series = {name: (*history.get(name, ()), (health.at, value)) for name, value in now.items()}
    largest = [] if isinstance(health.relations, Unknown) else health.relations[:_MOST_DRAWN]
    wanted: list[tuple[str, str, Unit]] = [
        ("Size of the database", "total_bytes", "bytes"),
        ("Used on the disk", "disk_used_bytes", "bytes"),
        ("Connections", "connections", "number"),
        *((f"Size of {relation.name}", f"bytes of {relation.name}", "bytes") for relation in largest),
    ]
    pictures = [
        Picture(title=title, points=series[name], unit=unit) for title, name, unit in wanted if name in series
    ]
    if "cache_wanted" in series:
        points = hit_ratios(series["cache_wanted"], series["cache_from_disk"])
        pictures.insert(3, Picture(title="Cache hits between two reports", points=points, unit="percent"))
    return tuple(pictures)


def find_blindness(health: DatabaseHealth) -> str | None:
    """Return why nothing at all could be observed, or None if something was."""
    reasons = [found.why for found in health.observations if isinstance(found, Unknown)]
    return reasons[0] if len(reasons) == len(health.observations) else None


def conclude(report: DatabaseReport) -> str:
    """Return one sentence: what to act on and how, what to watch, what is not known."""
    by_level = {level: [found for found in report.findings if found.level == level] for level in _ORDER}
    parts = [_tell(found) for found in by_level["act"]]
    if by_level["watch"]:
        parts.append(
            "to watch: " + ", ".join(f"{found.name} ({_quote(found)})" for found in by_level["watch"])
        )
    if not parts:
        well = "what could be observed is well" if by_level["unknown"] else "the database is well"
        parts.append(f"{well}{_say_size(report.health)}")
    if by_level["unknown"]:
        parts.append("not known: " + ", ".join(found.name for found in by_level["unknown"]))
    return f"{report.service}: {'; '.join(parts)}."


def _tell(found: Finding) -> str:
    return f"{found.name}: {_quote(found)}: {found.advice}"


def _quote(found: Finding) -> str:
    return shorten(found.seen, _LONGEST_TOLD)


def _say_growth(health: DatabaseHealth, history: Mapping[str, Points]) -> str:
    total = health.total_bytes
    if isinstance(total, Unknown):
        return f"The size is not known: {total.why}"
    points = history.get("total_bytes", ())
    gained = [
        f"{say_gain(change)} since {period}"
        for period, change in list_changes(points, total, health.at).items()
        if change is not None
    ]
    trend = find_trend((*points, (health.at, float(total))), health.at)
    if trend is not None and trend.grows:
        gained.append(f"about {say_gain(trend.per_day)} a day")
    return f"{say_bytes(total)} in all{': ' if gained else ''}{', '.join(gained)}."


def _say_size(health: DatabaseHealth) -> str:
    if isinstance(health.total_bytes, Unknown):
        return ""
    number = "" if isinstance(health.relations, Unknown) else f" in {_count(health, len(health.relations))}"
    return f", {say_bytes(health.total_bytes)}{number}"


def _count(health: DatabaseHealth, number: int) -> str:
    return say_count(number, "collection" if health.kind == "mongodb" else "table")
