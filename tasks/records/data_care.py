"""What a service profile says of the care of its data: cleanup, indexes, queries."""

from collections import Counter
from datetime import time, timedelta
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.records.section import Section


class CleanupRule(Section):
    """One collection or table of which what is old goes."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$",
        description="Short name of the rule; its archives lie under it",
        examples=["audit-log"],
    )
    source: str = Field(min_length=1, description="The collection or table", examples=["auditLogs"])
    time_field: str = Field(
        min_length=1, description="The field or column that says how old one is", examples=["timestamp"]
    )
    older_than: timedelta = Field(
        ge=timedelta(0),
        description="What is older goes, counted from the start of the run (ISO 8601 duration)",
        examples=["P365D"],
    )
    archive: bool = Field(
        default=True, description="Whether all that goes is put into an archive before", examples=[False]
    )
    may_empty: bool = Field(
        default=False,
        description="Whether nothing may be left; without it, that is taken for a wrong clock",
        examples=[True],
    )
    legal_hold: dict[str, Any] | str | None = Field(
        default=None,
        description="What matches is never deleted: a MongoDB query, or an SQL condition",
        examples=[{"organizationId": "ACME"}],
    )
    batch: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="How many are deleted between two looks at the application",
        examples=[200],
    )


class Cleanup(Section):
    """What of the database is deleted when it is old, and when that has to wait."""

    rules: tuple[CleanupRule, ...] = Field(default=(), description="What goes, in this order")
    pause_above_latency: timedelta = Field(
        default=timedelta(seconds=1),
        gt=timedelta(0),
        description="When health takes longer to answer, cleanup waits (ISO 8601 duration)",
        examples=["PT1S"],
    )
    pause_above_lag: timedelta = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        description="When a replica is further behind, cleanup waits (ISO 8601 duration)",
        examples=["PT10S"],
    )
    longest_pause: timedelta = Field(
        default=timedelta(minutes=15),
        description="When the application has not recovered by then, the run ends (ISO 8601 duration)",
        examples=["PT15M"],
    )
    stop_at: time | None = Field(
        default=None,
        description="At this time of day the run ends, and the next one goes on",
        examples=["05:00:00"],
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = Counter(rule.name for rule in self.rules)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"two rules have the name {twice[0]}: their archives would lie in one folder")
        return self


class RecommendedIndex(Section):
    """An index that the application needs."""

    source: str = Field(min_length=1, description="The collection or table", examples=["auditLogs"])
    key: dict[str, Literal[1, -1]] = Field(
        min_length=1,
        description="Its fields or columns, in their order: 1 ascending, -1 descending",
        examples=[{"organizationId": 1, "timestamp": -1}],
    )
    unique: bool = Field(
        default=False, description="Whether no two may have the same values", examples=[True]
    )

    def __eq__(self, other: object) -> bool:
        """Compare with the order of the keys: another order is another index."""
        return isinstance(other, RecommendedIndex) and self.model_dump_json() == other.model_dump_json()

    def __hash__(self) -> int:
        """Return what is the same for equals."""
        return hash(self.model_dump_json())


class QueryCare(Section):
    """What a slow query and an unused index are."""

    slow_after: timedelta = Field(
        default=timedelta(milliseconds=100),
        gt=timedelta(0),
        description="A query that takes longer is slow (ISO 8601 duration)",
        examples=["PT0.1S"],
    )
    unused_for: timedelta = Field(
        default=timedelta(days=30),
        description="An index that nobody used for so long is called unused (ISO 8601 duration)",
        examples=["P30D"],
    )
