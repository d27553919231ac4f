"""An index as its server knows it."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class IndexFacts(BaseModel):
    """One index of a collection or table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    name: str
    key: tuple[tuple[str, str], ...]
    """Fields, columns or expressions in order, each with ``1``, ``-1`` or its kind (``2d``, ``gin``)."""
    unique: bool = False
    is_constraint: bool = False
    """Whether it is a primary key, a constraint's or a partitioned table's: it is not ours to drop."""
    is_valid: bool = True
    """False for what a failed concurrent build left, or a build is not through with: it serves nobody."""
    is_building: bool = False
    """Whether somebody is at work on it."""
    special: str = ""
    """What else makes it another than its keys say, as the server has it: partial, sparse, TTL, collation."""
    bytes: int = 0
    uses: int | None = None
    """How often it was used since ``uses_since``; None where the server does not count."""
    uses_since: datetime | None = None
    definition: str = ""
    """What makes it again: a statement or a command of its server."""


class ObservedIndexes(BaseModel):
    """All indexes of a database, and the collections or tables that may have some."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[str, ...]
    indexes: tuple[IndexFacts, ...]


class DuplicateValue(BaseModel):
    """A value that several have, told by who has it: the value itself may be a person's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    entries: tuple[str, ...]
    """The first of them, by their identities."""


class BuildFacts(BaseModel):
    """What stands between a collection or table and an index on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] | None = None
    """A table's columns; None for a collection, whose documents may have any."""
    obstacle: str = ""
    """Why the server does not build it without blocking, as a clause."""
    duplicates: tuple[DuplicateValue, ...] = ()
    """Where it shall be unique: values that several have, the most frequent first; eleven mean more."""
    bytes: int = 0
    """About what it will take, with what the server needs while it sorts."""
    free_bytes: int | None = None
    """What is free on the server's disk; None where the server does not tell."""


class IndexProof(BaseModel):
    """What a new connection finds of an index that the run built."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: IndexFacts | None
    used: str | None
    """The index that a query by its keys uses, "" for none; None where the server does not explain."""
