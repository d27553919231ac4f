"""Metrics from run to run, and who is connected to the application at this moment."""

from collections.abc import Mapping
from datetime import datetime

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variable
from tasks.errors import RunbookError
from tasks.history import Measurement, read_history, record_measurement
from tasks.records.metrics import Clients
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

_NAME = "metrics"

Series = dict[str, tuple[tuple[datetime, float], ...]]


@task(cache_policy=NO_CACHE, persist_result=False)
def read_metrics(profile: ServiceProfile, now: datetime) -> Series:
    """Given a service, return every figure's history up to now, oldest first."""
    series: dict[str, list[tuple[datetime, float]]] = {}
    for measurement in read_history(profile, _NAME):
        if measurement.at < now:
            for name, value in measurement.values.items():
                series.setdefault(name, []).append((measurement.at, value))
    return {name: tuple(sorted(points)) for name, points in series.items()}


@task(cache_policy=NO_CACHE, persist_result=False)
def keep_metrics(profile: ServiceProfile, now: datetime, figures: Mapping[str, float]) -> None:
    """Given what was measured, keep it; raise ``StoreFullError`` if there is no room."""
    record_measurement(profile, _NAME, Measurement(at=now, values=dict(figures)))


@task(cache_policy=NO_CACHE, persist_result=False)
def measure_clients(profile: ServiceProfile) -> Clients | Unknown:
    """Given a service, return how many connections its port has, or why nobody can tell."""
    try:
        said = read_variable(profile, profile.application.port_variable)
        found = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return Unknown(why="the worker's user may not see this host's connections")
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
    addresses = [
        one.raddr.ip
        for one in found
        if one.status == psutil.CONN_ESTABLISHED and one.laddr and str(one.laddr.port) == said and one.raddr
    ]
    return Clients(connections=len(addresses), addresses=len(set(addresses)))
