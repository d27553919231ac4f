"""Records of backup sets: what a set holds, how it was judged, who may not touch it.

The manifest's JSON form is the documented backup format (``docs/reference/backup-format.md``).
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1

# A safety set is what a runbook saved before it replaced it: nobody goes back to it without naming it.
SetKind = Literal["nightly", "emergency", "safety"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredObject(_Record):
    """One object of a set, as it lies in the store.

    ``key`` is relative to the set's folder, ``bytes`` and ``sha256`` (hex) are of what is stored,
    ``raw_bytes`` is the size before compression.
    """

    key: str
    bytes: int
    sha256: str
    raw_bytes: int


class CollectionFacts(_Record):
    """What can be observed of a MongoDB collection or view, in the source and after a restore alike.

    ``content_hash``: sum modulo 2**256 of the SHA-256 of every document's raw BSON, as 64 hex digits; it
    does not depend on the order of the documents. ``options`` and ``indexes`` (sorted) are canonical
    Extended JSON.
    """

    database: str
    collection: str
    kind: Literal["collection", "view", "timeseries"]
    documents: int
    content_hash: str
    options: str
    indexes: tuple[str, ...]


class CollectionContent(CollectionFacts):
    """One collection or view in a set. A view has no ``data``."""

    metadata: StoredObject
    data: StoredObject | None


class MongodbContent(_Record):
    """What a set holds of MongoDB. ``seconds`` is the time from the first read to the last write."""

    server_version: str
    collections: tuple[CollectionContent, ...]
    seconds: float


class TableFacts(_Record):
    """One table, in a dump and after a restore alike.

    ``table`` and ``columns`` as in pg_dump's COPY statement; ``content_hash`` is the SHA-256 (hex) of the
    rows in COPY's text form (UTC, ISO dates), in the order in which they lie in the table.
    """

    table: str
    columns: str
    rows: int
    content_hash: str


class PostgresqlFacts(_Record):
    """What can be observed of a PostgreSQL database, in the source and after a restore alike.

    ``definitions`` maps a kind (index, constraint, sequence, view, type, trigger, routine) to the sorted
    definitions of that kind.
    """

    tables: tuple[TableFacts, ...]
    definitions: dict[str, tuple[str, ...]]


class PostgresqlContent(PostgresqlFacts):
    """What a set holds of PostgreSQL; the facts were read in the snapshot of the data."""

    database: str
    server_version: str
    client_version: str
    dump: StoredObject
    seconds: float


class ApplicationFacts(_Record):
    """The application's files; ``content_hash`` is over every member's name, kind, mode and bytes."""

    files: int
    content_hash: str


class ApplicationContent(ApplicationFacts):
    """The application's files in a set."""

    archive: StoredObject
    seconds: float


class Consistency(_Record):
    """How far the parts of the database are of one moment, and why."""

    method: Literal["snapshot", "transaction", "none", "exported-snapshot"]
    moment: str | None
    explanation: str


class Manifest(_Record):
    """What a backup set holds: written last, and only if no manifest is there. No manifest, no backup."""

    format_version: Literal[1] = 1
    set_id: str
    service: str
    kind: SetKind
    reason: str
    started_at: datetime
    finished_at: datetime
    consistency: Consistency
    mongodb: MongodbContent | None
    postgresql: PostgresqlContent | None
    application: ApplicationContent
    software: dict[str, str]

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """Every object of the set but the manifest, in the order of their keys."""
        found = [self.application.archive]
        if self.mongodb is not None:
            for content in self.mongodb.collections:
                found.append(content.metadata)
                if content.data is not None:
                    found.append(content.data)
        if self.postgresql is not None:
            found.append(self.postgresql.dump)
        return tuple(sorted(found, key=lambda stored: stored.key))

    @property
    def stored_bytes(self) -> int:
        """Bytes that the set takes in the store, without the manifest."""
        return sum(stored.bytes for stored in self.objects)

    @property
    def raw_bytes(self) -> int:
        """Bytes before compression."""
        return sum(stored.raw_bytes for stored in self.objects)

    @property
    def parts(self) -> int:
        """How many collections or tables the set holds."""
        if self.mongodb is not None:
            return len(self.mongodb.collections)
        return len(self.postgresql.tables) if self.postgresql else 0

    @property
    def entries(self) -> int:
        """How many documents or rows the set holds."""
        if self.mongodb is not None:
            return sum(content.documents for content in self.mongodb.collections)
        return sum(content.rows for content in self.postgresql.tables) if self.postgresql else 0

    @property
    def seconds(self) -> float:
        """From the start to the manifest."""
        return (self.finished_at - self.started_at).total_seconds()


class Verification(_Record):
    """What a full re-read (``reread``) or a restore into a scratch database (``drill``) found.

    ``manifest_sha256`` (hex) is of the manifest as the run wrote it that re-read it; older verdicts are
    without.
    """

    set_id: str
    kind: Literal["reread", "drill"]
    verified_at: datetime
    passed: bool
    findings: tuple[str, ...]
    seconds: float
    manifest_sha256: str | None = None


class SetSummary(_Record):
    """One set as retention, lists and charts see it.

    Times are aware; ``drilled_at`` is when the newest drill ended; ``leased_by`` names a living holder.
    """

    set_id: str
    kind: SetKind
    created_at: datetime
    seconds: float
    stored_bytes: int
    raw_bytes: int
    parts: int
    entries: int
    reread_passed: bool | None
    drill_passed: bool | None
    drilled_at: datetime | None = None
    pinned: str | None
    leased_by: str | None


class UnfinishedSet(_Record):
    """A folder without a manifest, or one that a deletion began: its newest object's time and what it is."""

    set_id: str
    last_written_at: datetime
    tombstoned: bool


class UnreadableSet(_Record):
    """A set whose manifest is not what was written: no backup to rely on, and nothing to throw away."""

    set_id: str
    reason: str


class RepositoryState(_Record):
    """All that the repository holds of one service at one moment."""

    service: str
    observed_at: datetime
    sets: tuple[SetSummary, ...]
    unfinished: tuple[UnfinishedSet, ...]
    unreadable: tuple[UnreadableSet, ...] = ()
