"""What observations of a database amount to: for each rule a figure to hold against its limits, and words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from flows.decisions.growth import Points, find_trend, forecast_full, gain_since
from tasks.records.database_health import (
    Blocked,
    CacheReads,
    Connections,
    DatabaseHealth,
    Disk,
    Replication,
    Session,
    Sessions,
    Troubles,
)
from tasks.records.figures import say_bytes, say_count, say_duration

# Of fewer reads nobody can say how well the cache serves.
_FEWEST_READS = 1000
_MOST_NAMED = 3
_FIRST_TIME = "counted for the first time: the next report compares"


@dataclass(frozen=True)
class Evidence:
    """A database now, and the figures of earlier reports by name, oldest first."""

    health: DatabaseHealth
    history: Mapping[str, Points]

    def last(self, name: str) -> float | None:
        """Return a figure as the report before had it."""
        points = self.history.get(name, ())
        return points[-1][1] if points else None


@dataclass(frozen=True)
class Reading:
    """A figure and what it says; without a figure it cannot be judged."""

    value: float | None
    words: str


def read_disk(disk: Disk, evidence: Evidence) -> Reading:
    """How much of the disk is used."""
    del evidence
    share = disk.used_bytes / disk.total_bytes if disk.total_bytes else 1.0
    words = f"{share:.0%} of {say_bytes(disk.total_bytes)} used, {say_bytes(disk.free_bytes)} free"
    return Reading(share, words)


def read_forecast(disk: Disk, evidence: Evidence) -> Reading:
    """In how many days the disk will be full."""
    now = evidence.health.at
    trend = find_trend((*evidence.history.get("disk_used_bytes", ()), (now, float(disk.used_bytes))), now)
    if trend is None:
        return Reading(None, "no forecast yet: it takes a week of reports")
    forecast = forecast_full(trend, disk.free_bytes, now)
    if forecast is None:
        return Reading(math.inf, "what is used does not clearly grow")
    speed = f"at {say_bytes(round(trend.per_day))} a day"
    if forecast.likely is None or forecast.earliest is None:
        return Reading(math.inf, f"not within five years, {speed}")
    latest = f"{forecast.latest:%Y-%m-%d}" if forecast.latest else "later than five years from now"
    words = f"full about {forecast.likely:%Y-%m-%d} ({forecast.earliest:%Y-%m-%d} to {latest}), {speed}"
    return Reading((forecast.likely - now) / timedelta(days=1), words)


def read_connections(connections: Connections, evidence: Evidence) -> Reading:
    """How many of the connections are taken."""
    del evidence
    if connections.limit is None:
        said = f"{say_count(connections.current, 'connection')}; the server does not say how many it may have"
        return Reading(None, said)
    share = connections.current / connections.limit if connections.limit > 0 else 1.0
    return Reading(share, f"{connections.current:,} of {connections.limit:,} taken")


def read_blocked(sessions: Sessions, evidence: Evidence) -> Reading:
    """How long somebody has been waiting for a lock."""
    del evidence
    waiting = sorted(sessions.blocked, key=lambda blocked: -blocked.session.seconds)
    if not waiting:
        return Reading(0, "nobody waits for a lock")
    return Reading(waiting[0].session.seconds, _say_some([_say_wait(blocked) for blocked in waiting]))


def read_idle(sessions: Sessions, evidence: Evidence) -> Reading:
    """How long a session has kept a transaction open and done nothing."""
    del evidence
    return _read_longest(sessions.idle_in_transaction, "no session is idle in a transaction")


def read_working(sessions: Sessions, evidence: Evidence) -> Reading:
    """How long the longest operation runs, or the oldest transaction is open."""
    nothing = "no operation runs" if evidence.health.kind == "mongodb" else "no transaction is open"
    return _read_longest(sessions.working, nothing)


def read_prepared(sessions: Sessions, evidence: Evidence) -> Reading:
    """How long a prepared transaction has been left."""
    del evidence
    return _read_longest(sessions.prepared, "there is none")


def read_snapshot(sessions: Sessions, evidence: Evidence) -> Reading:
    """How many transactions vacuum has to wait for."""
    del evidence
    holder = f", held by {sessions.oldest_snapshot_holder}" if sessions.oldest_snapshot_holder else ""
    return Reading(
        sessions.oldest_snapshot, f"{say_count(sessions.oldest_snapshot, 'transaction')} old{holder}"
    )


def read_replicas(replication: Replication, evidence: Evidence) -> Reading:
    """How far the slowest replica is behind; one that is not healthy is endlessly so."""
    del evidence
    if not replication.has_primary:
        return Reading(math.inf, "the replica set has no primary")
    if not replication.replicas:
        return Reading(0, "there is no replica")
    unhealthy = [
        f"{replica.name} is {replica.state}" for replica in replication.replicas if not replica.healthy
    ]
    if unhealthy:
        return Reading(math.inf, _say_some(unhealthy))
    known = [
        (found.lag_seconds, found.name) for found in replication.replicas if found.lag_seconds is not None
    ]
    if not known:
        return Reading(None, "no replica says how far it is behind")
    seconds, name = max(known)
    return Reading(seconds, f"{name} is {say_duration(seconds)} behind")


def read_slots(replication: Replication, evidence: Evidence) -> Reading:
    """How much log is kept for replicas that have not fetched it."""
    del evidence
    if not replication.slots:
        return Reading(0, "there is none")
    if lost := [f"{slot.name} has lost what its replica needs" for slot in replication.slots if slot.lost]:
        return Reading(math.inf, _say_some(lost))
    slot = max(replication.slots, key=lambda found: found.held_bytes)
    state = "active" if slot.active else "which nobody uses"
    return Reading(slot.held_bytes, f"{slot.name}, {state}, holds {say_bytes(slot.held_bytes)} of log")


def read_cache(reads: CacheReads, evidence: Evidence) -> Reading:
    """Which share of the reads since the report before was served without the disk."""
    before = evidence.last("cache_wanted"), evidence.last("cache_from_disk")
    if before[0] is None or before[1] is None:
        return Reading(None, _FIRST_TIME)
    wanted = gain_since(before[0], reads.wanted)
    share = _hit_ratio(wanted, gain_since(before[1], reads.from_disk))
    if share is None:
        return Reading(1.0, f"{say_count(round(wanted), 'read')} since the last report, too few to judge")
    return Reading(share, f"{share:.1%} of {say_count(round(wanted), 'read')} since the last report")


def hit_ratios(wanted: Points, from_disk: Points) -> tuple[tuple[datetime, float], ...]:
    """Given both counters' history, return the percentage of hits between each two reports."""
    missed = dict(from_disk)
    reports = sorted((at, value, missed[at]) for at, value in wanted if at in missed)
    ratios = (
        (after[0], _hit_ratio(gain_since(before[1], after[1]), gain_since(before[2], after[2])))
        for before, after in pairwise(reports)
    )
    return tuple((at, ratio * 100) for at, ratio in ratios if ratio is not None)


def _hit_ratio(wanted: float, from_disk: float) -> float | None:
    return None if wanted < _FEWEST_READS else max(0.0, 1 - from_disk / wanted)


def read_deadlocks(troubles: Troubles, evidence: Evidence) -> Reading:
    """How many deadlocks there were since the report before."""
    before = evidence.last("deadlocks")
    if before is None:
        return Reading(None, _FIRST_TIME)
    gained = gain_since(before, troubles.deadlocks)
    return Reading(gained, f"{round(gained):,} since the last report")


def read_temporary(troubles: Troubles, evidence: Evidence) -> Reading:
    """How much was sorted or hashed on disk since the report before, because memory did not do."""
    before = evidence.last("temporary_bytes")
    if before is None:
        return Reading(None, _FIRST_TIME)
    gained = gain_since(before, troubles.temporary_bytes)
    return Reading(gained, f"{say_bytes(round(gained))} since the last report")


def _read_longest(sessions: tuple[Session, ...], nothing: str) -> Reading:
    if not sessions:
        return Reading(0, nothing)
    longest = sorted(sessions, key=lambda session: -session.seconds)
    return Reading(longest[0].seconds, _say_some([say_session(session) for session in longest]))


def say_session(session: Session) -> str:
    """Return who does what, and for how long."""
    return f"{session.identity} ({session.who}), {session.doing}, {say_duration(session.seconds)}"


def _say_wait(blocked: Blocked) -> str:
    by = f", held by {' and '.join(say_session(one) for one in blocked.by)}" if blocked.by else ""
    return f"{say_session(blocked.session)}, waits for {blocked.waits_for}{by}"


def _say_some(sentences: list[str]) -> str:
    more = len(sentences) - _MOST_NAMED
    return "; ".join([*sentences[:_MOST_NAMED], *([f"and {more:,} more"] if more > 0 else [])])
