"""Measure everything of a service at once; what cannot be measured says why, and holds nothing up."""

import time
from datetime import datetime
from typing import Any

from flows.decisions.log_signatures import recognize
from flows.triaging import LIMIT_SECONDS, await_part
from tasks.connected_clients import measure_clients
from tasks.observing import LOGS_OF, observe_part
from tasks.records.logs import LogExtract
from tasks.records.metrics import Metrics
from tasks.records.service import ServiceProfile

_PARTS = ("health", "process", "database", "host", "logs")


def measure(profile: ServiceProfile, now: datetime) -> Metrics:
    """Given a service, return all its figures of this moment; call it in a flow, whose threads do it."""
    # First, or it would count our own requests.
    clients = measure_clients(profile)
    deadline = time.monotonic() + LIMIT_SECONDS
    futures = {part: observe_part.submit(part, profile, now) for part in _PARTS}
    seen: dict[str, Any] = {part: await_part(future, deadline) for part, future in futures.items()}
    extract = seen.pop("logs")
    return Metrics(
        service=profile.name,
        at=now,
        logs=recognize(extract, profile) if isinstance(extract, LogExtract) else extract,
        logs_hours=_count_hours(extract, now),
        clients=clients,
        **seen,
    )


def _count_hours(extract: Any, now: datetime) -> float:
    """Where the oldest lines were too many, those that are left tell of less than an hour."""
    begin = now - LOGS_OF
    if isinstance(extract, LogExtract) and extract.left_out and extract.lines[0].at is not None:
        begin = max(begin, extract.lines[0].at)
    return max((now - begin).total_seconds(), 60.0) / 3600
