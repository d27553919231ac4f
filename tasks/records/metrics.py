"""What is measured of a service every quarter of an hour, and what is said of it."""

from datetime import datetime
from typing import Literal

from tasks.records.evidence import DatabaseFacts, HealthFacts, HostFacts
from tasks.records.logs import LogFacts
from tasks.records.observation import Record, Unknown
from tasks.records.process import ProcessStatus

MetricUnit = Literal["milliseconds", "bytes", "percent", "number"]


class MemorySample(Record):
    """How much memory one process of the application took at most; ``started_at`` is the newest start."""

    at: datetime
    bytes: float
    started_at: datetime | None = None


class Clients(Record):
    """Who is connected to the application's port at this moment."""

    connections: int
    addresses: int
    """So many different ones; all users behind one proxy are one."""


class Metrics(Record):
    """All that one run measured; what could not be measured says why."""

    service: str
    at: datetime
    health: HealthFacts | Unknown
    process: ProcessStatus | Unknown
    database: DatabaseFacts | Unknown
    host: HostFacts | Unknown
    logs: LogFacts | Unknown
    logs_hours: float
    """How long the time is that the logs speak of."""
    clients: Clients | Unknown


class MetricLine(Record):
    """One figure: now, and as it was; what is not known says why in ``seen``."""

    name: str
    seen: str
    usual: str
    """Its median over the last day; empty before there is one."""
    watch: str = ""
    """Why it is worth watching, a sentence; empty where it is not."""


class MetricPicture(Record):
    """A figure over time."""

    title: str
    unit: MetricUnit
    points: tuple[tuple[datetime, float], ...]


class MetricsReport(Record):
    """What a person is shown."""

    service: str
    at: datetime
    lines: tuple[MetricLine, ...]
    pictures: tuple[MetricPicture, ...]

    @property
    def watches(self) -> tuple[str, ...]:
        """All that is worth watching."""
        return tuple(line.watch for line in self.lines if line.watch)
