"""What crosses the receiver: an alert as it came, what is to be done about it, and a delivery of several."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import JsonValue

# "over" is one that had resolved before anything else was heard of it: it starts nothing.
State = Literal["received", "started", "unmapped", "refused", "over"]
# Not a source of the configuration: people who follow a link.
LINK_SOURCE = "acknowledgement-link"


@dataclass(frozen=True)
class Alert:
    """One alert of one delivery, whoever sent it."""

    fingerprint: str
    starts_at: datetime
    is_firing: bool
    labels: Mapping[str, str]
    summary: str
    # Senders that give no beginning that lasts: for so long a repeat is the same alert.
    over_after: timedelta | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.labels.get("alertname") or self.summary or self.fingerprint

    @property
    def key(self) -> str:
        """Prefect starts one run for one key, so it is a function of nothing but the alert."""
        said = f"{self.fingerprint}\n{self.starts_at.isoformat()}"
        return f"alert-{hashlib.sha256(said.encode()).hexdigest()}"


@dataclass(frozen=True)
class Decision:
    """What an alert starts: a runbook of a service, or nothing, and why."""

    state: State
    reason: str = ""
    service: str = ""
    runbook: str = ""
    parameters: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True)
class Delivery:
    """One authenticated post: all of it is kept, or nothing."""

    source: str
    alerts: tuple[tuple[Alert, Decision], ...]
    # Remembered together with the alerts, so that a post that could not be kept may be sent again.
    signature: str | None = None
    signature_expires: float = 0


@dataclass(frozen=True)
class Kept:
    """What became of one alert of a delivery."""

    key: str
    name: str
    state: State
    is_repeat: bool
    reason: str = ""
