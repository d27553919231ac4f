"""How a database is, as facts: sizes, connections, sessions, replicas, counters.

What could not be observed is ``Unknown`` and says why; what this kind of database does not have is None.
"""

from datetime import datetime
from typing import Literal

from tasks.records.observation import Record, Unknown

Level = Literal["act", "watch", "unknown", "ok"]
Unit = Literal["bytes", "number", "percent"]


class RelationSize(Record):
    """A collection or table, by what it takes on the server's disk."""

    name: str
    data_bytes: int
    index_bytes: int
    entries: int | None
    """The server's own count: exact in MongoDB, an estimate in PostgreSQL; None if it has none yet."""

    @property
    def total_bytes(self) -> int:
        """Data and indexes."""
        return self.data_bytes + self.index_bytes


class Disk(Record):
    """The file system that holds the data, with all else that is on it."""

    total_bytes: int
    free_bytes: int

    @property
    def used_bytes(self) -> int:
        """What is not free, whoever uses it."""
        return self.total_bytes - self.free_bytes


class ConnectionGroup(Record):
    """Connections that are alike."""

    user: str
    application: str
    state: str
    number: int


class Connections(Record):
    """How many clients are connected, and how many may be."""

    current: int
    limit: int | None
    """What the application may use, without what is kept for administrators; None if the server is silent."""
    groups: tuple[ConnectionGroup, ...] = ()


class Session(Record):
    """Who works in the database, with the name of the command and never its values."""

    identity: str
    who: str
    doing: str
    seconds: float


class Blocked(Record):
    """A session that waits for others."""

    session: Session
    waits_for: str
    by: tuple[Session, ...] = ()
    """MongoDB does not say who blocks."""
    lasts: bool = False
    """Whether it is known to be no passing wait, however short: it was given up, or ends by a person only."""


class Sessions(Record):
    """What goes on at this moment."""

    blocked: tuple[Blocked, ...] = ()
    idle_in_transaction: tuple[Session, ...] = ()
    working: tuple[Session, ...] = ()
    """Operations that run (MongoDB), or transactions that are open (PostgreSQL), the longest first."""
    prepared: tuple[Session, ...] = ()
    oldest_snapshot: int = 0
    """PostgreSQL: so many transactions ago began what vacuum has to wait for."""
    oldest_snapshot_holder: str = ""


class Replica(Record):
    """A copy of the database and how far it is behind."""

    name: str
    state: str
    healthy: bool
    lag_seconds: float | None


class ReplicationSlot(Record):
    """A place that the server keeps for a replica, with the log that the replica has not fetched."""

    name: str
    active: bool
    held_bytes: int
    lost: bool
    """Whether what the replica needs is gone."""


class Replication(Record):
    """Who follows this server."""

    replicas: tuple[Replica, ...] = ()
    slots: tuple[ReplicationSlot, ...] = ()
    has_primary: bool = True


class CacheReads(Record):
    """Counted since the server started or its statistics were reset."""

    wanted: int
    from_disk: int


class Troubles(Record):
    """Counted likewise, of this database."""

    deadlocks: int
    temporary_bytes: int


class DatabaseHealth(Record):
    """A database at one moment."""

    kind: Literal["mongodb", "postgresql"]
    database: str
    at: datetime
    total_bytes: int | Unknown
    relations: tuple[RelationSize, ...] | Unknown
    disk: Disk | Unknown
    connections: Connections | Unknown
    sessions: Sessions | Unknown
    replication: Replication | Unknown
    cache: CacheReads | Unknown
    troubles: Troubles | Unknown | None = None

    @property
    def observations(self) -> tuple[object, ...]:
        """What was observed or is unknown."""
        return (
            self.total_bytes,
            self.relations,
            self.disk,
            self.connections,
            self.sessions,
            self.replication,
            self.cache,
            *((self.troubles,) if self.troubles is not None else ()),
        )


class Finding(Record):
    """How one thing is, what its limit is, and what to do when it is beyond."""

    name: str
    level: Level
    seen: str
    limit: str
    advice: str


class RelationGrowth(Record):
    """A collection or table and what it gained, by since when; None where nothing was measured then."""

    size: RelationSize
    bytes_since: dict[str, float | None]
    entries_since: dict[str, float | None]


class Picture(Record):
    """A figure's history, worth being drawn."""

    title: str
    points: tuple[tuple[datetime, float], ...]
    unit: Unit


class DatabaseReport(Record):
    """All that is said of a database at one moment."""

    service: str
    health: DatabaseHealth
    findings: tuple[Finding, ...]
    size: str
    growth: tuple[RelationGrowth, ...]
    pictures: tuple[Picture, ...]

    @property
    def level(self) -> Level:
        """That of the worst finding, which stands first."""
        return self.findings[0].level
