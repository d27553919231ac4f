"""A database's figures from report to report, as series."""

from collections.abc import Mapping
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.history import Measurement, read_history, record_measurement
from tasks.records.service import ServiceProfile

_NAME = "database"

Series = dict[str, tuple[tuple[datetime, float], ...]]


@task(cache_policy=NO_CACHE, persist_result=False)
def read_figures(profile: ServiceProfile, now: datetime) -> Series:
    """Given a service, return every figure's history up to now, oldest first."""
    series: dict[str, list[tuple[datetime, float]]] = {}
    for measurement in read_history(profile, _NAME):
        # What a wrong clock dated ahead would stand in the way of every comparison.
        if measurement.at < now:
            for name, value in measurement.values.items():
                series.setdefault(name, []).append((measurement.at, value))
    return {name: tuple(sorted(points)) for name, points in series.items()}


@task(cache_policy=NO_CACHE, persist_result=False)
def keep_figures(profile: ServiceProfile, now: datetime, figures: Mapping[str, float]) -> None:
    """Given what was measured, keep it; raise ``StoreFullError`` if there is no room."""
    record_measurement(profile, _NAME, Measurement(at=now, values=dict(figures)))
