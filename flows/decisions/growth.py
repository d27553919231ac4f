"""How a figure grows, and when a disk will be full. Pure: points and the time in, a range of dates out.

The trend is the median of the slopes between all pairs of days (Theil and Sen), so that a single night that
is quite different does not move it; a step that stays does, for the month that is looked back. Its range is
Sen's: of the slopes in their order, those so far from the median as chance would bring them in one case of
ten.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median

Points = Sequence[tuple[datetime, float]]

_LOOK_BACK = timedelta(days=30)
_LEAST_SPAN = timedelta(days=7)
_FEWEST_DAYS = 4
_NINE_IN_TEN = 1.645
_DAY = timedelta(days=1)
# Beyond it a date says nothing.
_FURTHEST = timedelta(days=5 * 365)
# How far from a period's beginning a measurement may be to stand for it.
_TOLERANCE = 0.25
_PERIODS = {"yesterday": _DAY, "last week": timedelta(days=7), "last month": timedelta(days=30)}


@dataclass(frozen=True)
class Trend:
    """What a figure gains in a day: most likely, at least and at most."""

    per_day: float
    least: float
    most: float

    @property
    def grows(self) -> bool:
        """Whether it is more than chance."""
        return self.least > 0


@dataclass(frozen=True)
class Forecast:
    """When what is free will be used up: most likely, and the range. None is beyond five years."""

    likely: datetime | None
    earliest: datetime | None
    latest: datetime | None


def find_trend(points: Points, now: datetime) -> Trend | None:
    """Given a figure's history, return its trend; None before a week of it is there."""
    days = _last_of_each_day([point for point in points if now - _LOOK_BACK <= point[0] <= now])
    if len(days) < _FEWEST_DAYS or days[-1][0] - days[0][0] < _LEAST_SPAN:
        return None
    slopes = sorted(
        (later[1] - earlier[1]) / ((later[0] - earlier[0]) / _DAY) for earlier, later in combinations(days, 2)
    )
    number = len(days)
    spread = _NINE_IN_TEN * math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    cut = max(0, math.floor((len(slopes) - spread) / 2))
    return Trend(per_day=median(slopes), least=slopes[cut], most=slopes[-1 - cut])


def forecast_full(trend: Trend | None, free: float, now: datetime) -> Forecast | None:
    """Given a trend and what is free now, return when that is used up; None where nothing clearly grows."""
    if trend is None or not trend.grows:
        return None
    return Forecast(
        likely=_reach(free, trend.per_day, now),
        earliest=_reach(free, trend.most, now),
        latest=_reach(free, trend.least, now),
    )


def list_changes(points: Points, value: float, now: datetime) -> dict[str, float | None]:
    """Given a figure's history and its value now, return what it gained since yesterday, a week, a month."""
    return {name: _change(points, value, now, period) for name, period in _PERIODS.items()}


def gain_since(before: float, after: float) -> float:
    """Given two readings of a counter, return what came to it; one that is lower began anew in between."""
    return after - before if after >= before else after


def _change(points: Points, value: float, now: datetime, period: timedelta) -> float | None:
    distances = [(abs((now - at) - period), before) for at, before in points]
    distance, before = min(distances, default=(_FURTHEST, 0.0))
    return value - before if distance <= period * _TOLERANCE else None


def _last_of_each_day(points: Points) -> list[tuple[datetime, float]]:
    """A day on which the report was made ten times counts as one."""
    return list({at.date(): (at, value) for at, value in sorted(points)}.values())


def _reach(free: float, per_day: float, now: datetime) -> datetime | None:
    days = max(free, 0.0) / per_day
    return now + _DAY * days if days <= _FURTHEST / _DAY else None
