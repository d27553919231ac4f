"""Read all collections of a MongoDB database as of one moment, as far as the server can.

Three ways, best first (the manifest says which was used):

``snapshot``     ``readConcern: {level: snapshot, atClusterTime}``: replica sets from 5.0 on; any number of
                 connections, each read can be repeated, for minSnapshotHistoryWindowInSeconds (300 s).
``transaction``  one read transaction: replica sets from 4.0 on; one connection, and a lost one ends it; for
                 transactionLifetimeLimitSeconds (60 s).
``none``         a standalone server: every collection as of its own moment.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.command_cursor import CommandCursor
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from tasks.errors import SourceError
from tasks.mongodb import RAW, Client, connect, database_of, translated
from tasks.mongodb_dump_format import is_dumped
from tasks.records.backup import Consistency
from tasks.turns import Turns

_BATCH_BYTES = 1 << 20
_FIRST_BATCH_DOCUMENTS = 100
_CAPPED_SNAPSHOTS_SINCE = 8
_LONG_AGO = Timestamp(1, 1)
_SNAPSHOT_TOO_OLD = 239
# What a restore that is under way could not move: no part of the data, until the restore is undone.
LEFT_IN_PLACE: Final = "runbooks.unreadable."


@dataclass(frozen=True)
class CollectionShape:
    """A collection before it is read: what the server says it is."""

    name: str
    kind: str
    uuid: bytes | None
    options: Mapping[str, Any]
    indexes: tuple[Mapping[str, Any], ...]


@dataclass
class MongodbSnapshot:
    """An open moment of a database; ``read`` may be called from several threads."""

    client: Client
    database: str
    server_version: str
    consistency: Consistency
    read_concern: Mapping[str, Any] | None = None
    session: ClientSession | None = None
    turn: AbstractContextManager[Any] = field(default_factory=nullcontext)

    def read(self, shape: CollectionShape) -> Iterator[list[bytes]]:
        """Yield the documents' raw BSON in batches of about 1 MiB; the driver's errors leave as ours.

        Raise ``SourceError`` for a time series whose buckets this server does not hand out.
        """
        is_series, found = shape.kind == "timeseries", False
        with translated(f"MongoDB, reading {self.database}.{shape.name}"):
            for documents in self._read(f"system.buckets.{shape.name}" if is_series else shape.name, shape):
                found = True
                yield documents
            # Servers since 8.3 keep them otherwise, and have nothing under that name.
            if is_series and not found and any(self._read(shape.name, shape)):
                raise SourceError(
                    f"MongoDB {self.server_version} does not hand out the buckets of the time series "
                    f"{self.database}.{shape.name} as servers before 8.3 do: it would be saved as empty. "
                    "Keep it in a database of its own, and save that by mongodump."
                )

    def _read(self, name: str, shape: CollectionShape) -> Iterator[list[bytes]]:
        query: dict[str, Any] = {"find": name, "batchSize": _FIRST_BATCH_DOCUMENTS}
        if self.read_concern is not None and not (shape.options.get("capped") and self.skips_capped):
            query["readConcern"] = self.read_concern
        database = self.client[self.database].with_options(RAW)
        # A session is one conversation: threads that share it take turns.
        with self.turn:
            cursor = database.cursor_command(query, codec_options=RAW, session=self.session)
            cursor.batch_size(_FIRST_BATCH_DOCUMENTS)
            documents = _take_batch(cursor, _FIRST_BATCH_DOCUMENTS)
        with cursor:
            while documents:
                yield documents
                if not cursor.alive:
                    return
                wanted = max(1, _BATCH_BYTES * len(documents) // sum(map(len, documents)))
                cursor.batch_size(wanted)
                with self.turn:
                    documents = _take_batch(cursor, wanted)

    @property
    def skips_capped(self) -> bool:
        """Capped collections have no snapshot reads on this server."""
        return int(self.server_version.partition(".")[0]) < _CAPPED_SNAPSHOTS_SINCE


def _take_batch(cursor: CommandCursor[Any], most: int) -> list[bytes]:
    """Return so many documents, but fewer if they are large: any one may have 16 MiB."""
    documents, size = [], 0
    for document in cursor:
        raw = bytes(document.raw)
        documents.append(raw)
        size += len(raw)
        if size >= _BATCH_BYTES or len(documents) >= most:
            break
    return documents


def list_shapes(client: Client, database: str) -> tuple[CollectionShape, ...]:
    """Return every collection and view that a dump saves, by name."""
    shapes = []
    for info in client[database].list_collections():
        if not is_dumped(info["name"]) or info["name"].startswith(LEFT_IN_PLACE):
            continue
        kind = info.get("type", "collection")
        indexes = () if kind == "view" else tuple(client[database][info["name"]].list_indexes())
        shapes.append(
            CollectionShape(
                name=info["name"],
                kind=kind,
                uuid=bytes(info["info"]["uuid"]) if "uuid" in info.get("info", {}) else None,
                options=info.get("options", {}),
                indexes=indexes,
            )
        )
    return tuple(sorted(shapes, key=lambda shape: shape.name))


def open_reader(client: Client, database: str) -> MongodbSnapshot:
    """Given a database that nobody else writes to, return what reads it as it is now."""
    version = str(client.server_info()["version"])
    consistency = Consistency(method="none", moment=None, explanation="Nobody else writes to it.")
    return MongodbSnapshot(client, database, version, consistency)


@contextmanager
def open_snapshot(url: str) -> Generator[MongodbSnapshot]:
    """Given the application's URL, hold one moment of its database open for reading."""
    with connect(url) as client:
        database = database_of(url)
        version = str(client.server_info()["version"])
        if (moment := _find_moment(client, database)) is not None:
            yield _at_cluster_time(client, database, version, moment)
        elif has_transactions(client):
            with client.start_session() as session:
                session.start_transaction(read_concern=ReadConcern("snapshot"))
                # The moment is fixed by the first read, not by the start: take it now.
                client[database].command(_probe(), session=session)
                yield MongodbSnapshot(
                    client,
                    database,
                    version,
                    Consistency(
                        method="transaction",
                        moment=datetime.now(UTC).isoformat(timespec="seconds"),
                        explanation="Every collection was read in one snapshot read transaction.",
                    ),
                    session=session,
                    turn=Turns(),
                )
                session.abort_transaction()
        else:
            explanation = "A standalone server has no snapshots: each collection is as of its own moment."
            yield MongodbSnapshot(
                client,
                database,
                version,
                Consistency(method="none", moment=None, explanation=explanation),
            )


def _probe(read_concern: Mapping[str, Any] | None = None) -> dict[str, Any]:
    query: dict[str, Any] = {"find": "runbooks.probe", "batchSize": 1}
    return query if read_concern is None else {**query, "readConcern": read_concern}


def _find_moment(client: Client, database: str) -> Timestamp | None:
    """Return a cluster time at which every read can be repeated, or None where the server cannot.

    Some servers answer with an ``atClusterTime`` and then do not hold it. A server that does hold it must
    refuse a moment long gone, so that is asked first: it writes nothing.
    """
    try:
        client[database].command(_probe({"level": "snapshot", "atClusterTime": _LONG_AGO}))
    except OperationFailure as error:
        if error.code != _SNAPSHOT_TOO_OLD:
            return None
    else:
        return None
    reply = client[database].command(_probe({"level": "snapshot"}))
    moment = reply["cursor"].get("atClusterTime")
    return moment if isinstance(moment, Timestamp) else None


def has_transactions(client: MongoClient[Any]) -> bool:
    """Is it a replica set or a sharded cluster? A standalone server has no transactions."""
    hello = client.admin.command("hello")
    return "setName" in hello or hello.get("msg") == "isdbgrid"


def _at_cluster_time(client: Client, database: str, version: str, moment: Timestamp) -> MongodbSnapshot:
    snapshot = MongodbSnapshot(
        client,
        database,
        version,
        Consistency(
            method="snapshot",
            moment=f"{moment.as_datetime().isoformat()} ({moment.time}, {moment.inc})",
            explanation="Every collection was read at this cluster time.",
        ),
        read_concern={"level": "snapshot", "atClusterTime": moment},
    )
    if snapshot.skips_capped:
        explanation = "Every collection was read at this cluster time, but capped ones (need server 8.0)."
        snapshot.consistency = snapshot.consistency.model_copy(update={"explanation": explanation})
    return snapshot
