"""What was observed, put together: a part that did not come in time is unknown, and proves nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flows.decisions.log_signatures import recognize
from tasks.records.evidence import Evidence, HealthAnswer, HealthFacts
from tasks.records.logs import LogExtract
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

_NOT_LOOKED_AT = Unknown(why="it was not looked at")


def assemble(
    profile: ServiceProfile, now: datetime, parts: Mapping[str, Any], limit_seconds: float
) -> Evidence:
    """Given what was observed by the names of the evidence's parts, return the evidence."""
    optional = ("public_health", "firebase", "certificate")
    names = (
        "process",
        "port",
        "environment",
        "application",
        "database",
        "host",
        "authentication",
        "upstreams",
        "clocks",
    )
    logs, last_healthy = parts.get("logs", _NOT_LOOKED_AT), parts.get("last_healthy")
    return Evidence(
        service=profile.name,
        at=now,
        last_healthy=last_healthy if isinstance(last_healthy, datetime) else None,
        health=_tell_health(profile, parts.get("health", _NOT_LOOKED_AT), limit_seconds),
        logs=recognize(logs, profile) if isinstance(logs, LogExtract) else logs,
        **{name: parts.get(name, _NOT_LOOKED_AT) for name in (*optional, *names)},
    )


def _tell_health(profile: ServiceProfile, health: HealthFacts | Unknown, limit_seconds: float) -> HealthFacts:
    """Return the health; a question that came to no end is an answer as well: nobody got one."""
    if isinstance(health, HealthFacts):
        return health
    nobody = HealthAnswer(
        url=profile.application.health_url,
        seconds=limit_seconds,
        problem=f"nobody could tell, {health.why}",
    )
    return HealthFacts(answers=(nobody,))
