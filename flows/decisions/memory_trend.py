"""Does the application leak? Pure: how much memory it took from time to time in, its steady growth out.

The trend is the median of the slopes between all pairs of samples (Theil and Sen), so that no single peak
makes one. Only the time since the last restart counts, without its first half hour: a process that starts
fills its caches. Growth that levels off is no leak either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from statistics import median

from tasks.records.metrics import MemorySample

_WARM_UP = timedelta(minutes=30)
_LOOK_BACK = timedelta(days=7)
# Within a morning it grows with the load.
_LEAST_SPAN = timedelta(hours=6)
_FEWEST = 12
_MOST = 96
_HOUR = timedelta(hours=1)
# Garbage collection alone moves memory by as much.
_LEAST_GAIN, _LEAST_GAIN_BYTES, _LEAST_GAIN_BY_NOISE = 0.2, 20 * 2**20, 4
# Of the whole trend's, in the second half: less is levelling off.
_LEAST_STEADINESS = 0.5
_ONE_IN_A_THOUSAND = 3.09
# A restart shows as a process that began later; clocks and roundings move that by a moment.
_SAME_START = timedelta(seconds=5)


@dataclass(frozen=True)
class Leak:
    """Memory that grows steadily: since when, from and to how many bytes, and by how many an hour."""

    since: datetime
    until: datetime
    from_bytes: float
    to_bytes: float
    per_hour: float

    def reaches(self, limit_bytes: float) -> datetime | None:
        """Given a limit, return when it is reached if this goes on; None if that is years away."""
        hours = max(0.0, limit_bytes - self.to_bytes) / self.per_hour
        return self.until + timedelta(hours=hours) if hours < 24 * 365 else None


def find_leak(samples: Sequence[MemorySample]) -> Leak | None:
    """Given samples in any order, return the growth since the last restart if it is a steady one."""
    points = _thin(_since_restart(sorted(samples, key=lambda sample: sample.at)))
    if len(points) < _FEWEST or points[-1].at - points[0].at < _LEAST_SPAN:
        return None
    slope, least = _fit(points)
    later, _ = _fit(points[len(points) // 2 :])
    span = (points[-1].at - points[0].at) / _HOUR
    start = median(point.bytes for point in points) - slope * span / 2
    gain = slope * span
    if least <= 0 or later < _LEAST_STEADINESS * slope:
        return None
    if gain < max(
        _LEAST_GAIN_BYTES, _LEAST_GAIN * start, _LEAST_GAIN_BY_NOISE * _measure_noise(points, slope)
    ):
        return None
    return Leak(points[0].at, points[-1].at, max(0.0, start), start + gain, slope)


def _measure_noise(points: Sequence[MemorySample], slope: float) -> float:
    """Return how far from the trend a sample usually is (the median)."""
    above = [point.bytes - slope * ((point.at - points[0].at) / _HOUR) for point in points]
    middle = median(above)
    return median(abs(value - middle) for value in above)


def _since_restart(samples: Sequence[MemorySample]) -> list[MemorySample]:
    if not samples:
        return []
    newest = samples[-1]
    begins = newest.at - _LOOK_BACK
    for before, after in pairwise(samples):
        if _is_restarted(before, after):
            begins = max(begins, after.at)
    if newest.started_at is not None:
        begins = max(begins, newest.started_at + _WARM_UP)
    return [sample for sample in samples if sample.at >= begins]


def _is_restarted(before: MemorySample, after: MemorySample) -> bool:
    if before.started_at is None or after.started_at is None:
        return False
    return abs(after.started_at - before.started_at) > _SAME_START


def _thin(samples: Sequence[MemorySample]) -> Sequence[MemorySample]:
    """Leave at most so many, evenly: the number of pairs grows with the square."""
    step = -(-len(samples) // _MOST) or 1
    return samples[(len(samples) - 1) % step :: step] if samples else ()


def _fit(points: Sequence[MemorySample]) -> tuple[float, float]:
    """Return the trend in bytes an hour, and what it is at least, but for one case in a thousand (Sen)."""
    slopes = sorted(
        (later.bytes - earlier.bytes) / ((later.at - earlier.at) / _HOUR)
        for earlier, later in combinations(points, 2)
        if later.at > earlier.at
    )
    if not slopes:
        return 0.0, 0.0
    number = len(points)
    spread = _ONE_IN_A_THOUSAND * math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    return median(slopes), slopes[max(0, math.floor((len(slopes) - spread) / 2))]
