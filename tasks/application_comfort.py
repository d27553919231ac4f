"""Does the application suffer from what is done to its database? Whoever does it waits until it is well."""

import time
from datetime import UTC, datetime
from typing import Final

from prefect.logging import get_run_logger

from tasks.cleanup_source import CleanupSource
from tasks.errors import SufferingError
from tasks.http_probe import probe_health
from tasks.records.figures import say_duration, say_period
from tasks.records.service import ServiceProfile

_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 30.0
_GROWTH: Final = 2


def find_suffering(profile: ServiceProfile, source: CleanupSource) -> str | None:
    """Given a service, return a sentence that says how it suffers, or None if it is well."""
    limits = profile.cleanup
    health = probe_health.fn(profile.application.health_url)
    if health.problem is not None:
        return f"{health.url}: {health.problem}"
    if health.seconds > limits.pause_above_latency.total_seconds():
        return (
            f"{health.url} took {say_duration(health.seconds)} to answer, and "
            f"{say_period(limits.pause_above_latency)} is the limit"
        )
    lag = source.read_lag()
    if lag > limits.pause_above_lag.total_seconds():
        return (
            f"a replica is {say_duration(lag)} behind, and {say_period(limits.pause_above_lag)} is the limit"
        )
    return None


def await_comfort(profile: ServiceProfile, source: CleanupSource, deadline: datetime | None) -> bool:
    """Given a service, return True as soon as it is well, or False if the deadline passes before.

    Raise ``SufferingError`` if it is not well within ``cleanup.longest_pause``.
    """
    began, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
    while not has_passed(deadline):
        suffering = find_suffering(profile, source)
        if suffering is None:
            return True
        left = began + profile.cleanup.longest_pause.total_seconds() - time.monotonic()
        if left <= 0:
            raise SufferingError(
                f"{profile.name}: cleanup waited {say_period(profile.cleanup.longest_pause)} for the "
                f"application to recover: {suffering}. Find out why; the next run goes on."
            )
        get_run_logger().warning("Cleanup waits: %s.", suffering)
        time.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_SECONDS)
    return False


def has_passed(deadline: datetime | None) -> bool:
    """Has the time come at which the run has to end?"""
    return deadline is not None and datetime.now(UTC) >= deadline
