"""What is known of slow queries, as it comes from the servers and as it is shown: without a literal."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Document = dict[str, Any]


class ProfilerSettings(BaseModel):
    """How a MongoDB database is profiled; threshold and sampling rate are its whole server's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: int
    slow_milliseconds: int
    sample_rate: float
    has_filter: bool = False
    """Somebody's own filter replaces the threshold."""
    has_collection: bool
    """Whether ``system.profile`` is there."""
    member: str = ""
    """Whose they are, in a replica set: each member has its own, and no other hears of a change."""


@dataclass(frozen=True)
class ProfileExcerpt:
    """What ``system.profile`` had of a stretch of time. The documents hold literals: they are not shown."""

    documents: tuple[Document, ...]
    until: datetime
    oldest: datetime | None


@dataclass(frozen=True, repr=False)
class Statement:
    """What PostgreSQL counted of a statement since it began to count. The text may hold literals."""

    identity: str
    text: str
    calls: int
    milliseconds: float
    longest: float
    rows: int
    blocks_hit: int
    blocks_read: int
    blocks_temporary: int


@dataclass(frozen=True, repr=False)
class RunningStatement:
    """A statement that was seen at work. The text holds literals: it is not shown."""

    identity: str
    text: str
    milliseconds: float


class Need(BaseModel):
    """What a query asks of an index: fields compared for equality, then sorted by, then by range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    equal: tuple[str, ...] = ()
    sort: tuple[tuple[str, str], ...] = ()
    range: tuple[str, ...] = ()


class HelpfulIndex(BaseModel):
    """An index that is not there and would help."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    key: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """Name it as the servers' manuals would."""
        fields = ", ".join(field if kind == "1" else f"{field} descending" for field, kind in self.key)
        return f"{self.source} ({fields})"


@dataclass(frozen=True)
class SlowQuery:
    """One slow query, without its literals."""

    identity: str
    source: str
    kind: str
    text: str
    milliseconds: float
    examined: int | None = None
    keys_examined: int | None = None
    returned: int | None = None
    plan: str = ""
    needs: tuple[Need, ...] = ()


class QueryShape(BaseModel):
    """Slow queries that differ in their literals only. What was not measured is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    source: str
    kind: str
    text: str
    count: int
    mean: float
    p95: float | None
    longest: float
    longest_is_all_time: bool = False
    """Whether the longest may have been before the window."""
    examined: int | None = None
    keys_examined: int | None = None
    returned: int | None = None
    blocks_hit: int | None = None
    blocks_read: int | None = None
    blocks_temporary: int | None = None
    plan: str = ""
    needs: tuple[Need, ...] = ()
    helpful: tuple[HelpfulIndex, ...] = ()

    @property
    def total(self) -> float:
        """Milliseconds of all together: the measure of what is worst."""
        return self.count * self.mean


class Plan(BaseModel):
    """How PostgreSQL means to run a statement, without its literals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: tuple[str, ...]
    scans: tuple[tuple[str, Need], ...]
    """Tables that are read whole, each with what would be asked of an index on it."""


class QueryReport(BaseModel):
    """What a run found; ``how`` says what was measured, ``notes`` what was not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str
    kind: Literal["mongodb", "postgresql"]
    seconds: float
    slow_milliseconds: int
    how: str
    notes: tuple[str, ...]
    shapes: tuple[QueryShape, ...]
    """The worst first."""
    proof: str
