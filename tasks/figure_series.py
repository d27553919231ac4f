"""Figures from run to run, as series, by the name of what was measured."""

from collections.abc import Mapping
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.history import Measurement, read_history, record_measurement
from tasks.records.service import ServiceProfile

Series = dict[str, tuple[tuple[datetime, float], ...]]


@task(cache_policy=NO_CACHE, persist_result=False)
def read_figures(profile: ServiceProfile, name: str, now: datetime) -> Series:
    """Given a service, return every figure's history up to now, oldest first."""
    series: dict[str, list[tuple[datetime, float]]] = {}
    for measurement in read_history(profile, name):
        # What a wrong clock dated ahead would stand in the way of every comparison.
        if measurement.at < now:
            for figure, value in measurement.values.items():
                series.setdefault(figure, []).append((measurement.at, value))
    return {figure: tuple(sorted(points)) for figure, points in series.items()}


@task(cache_policy=NO_CACHE, persist_result=False)
def keep_figures(profile: ServiceProfile, name: str, now: datetime, figures: Mapping[str, float]) -> None:
    """Given what was measured, keep it; raise ``StoreFullError`` if there is no room."""
    record_measurement(profile, name, Measurement(at=now, values=dict(figures)))
