"""One moment of a service's database, ready to be saved: what MongoDB and PostgreSQL have in common."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.environment_file import read_variable
from tasks.mongodb_dump import confirm_collections, observe_collections, save_collection
from tasks.mongodb_snapshot import CollectionShape, MongodbSnapshot, open_snapshot
from tasks.postgresql import parse_url
from tasks.postgresql_dump import save_database
from tasks.postgresql_snapshot import PostgresqlSnapshot, hold_snapshot, observe_tables
from tasks.records.backup import (
    CollectionContent,
    Consistency,
    Manifest,
    MongodbContent,
    PostgresqlContent,
)
from tasks.records.plans import PlannedPart
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetLocation

Runner = ThreadPoolTaskRunner[Any]
Saved = Sequence[CollectionContent | PostgresqlContent]
Contents = tuple[MongodbContent | None, PostgresqlContent | None]


class DatabaseSource(Protocol):
    """A database held at one moment."""

    consistency: Consistency
    parts: tuple[PlannedPart, ...]

    def submit(self, runner: Runner, location: SetLocation) -> list[PrefectFuture[Any]]:
        """Begin to save every part, each as a task that is retried by itself."""
        ...

    def conclude(self, saved: Saved) -> Contents:
        """Given what the tasks saved, return the manifest's part; raise if it is not the whole database."""
        ...


class MongodbSource:
    """A MongoDB database: one task a collection."""

    def __init__(self, snapshot: MongodbSnapshot, previous: MongodbContent | None) -> None:
        """Look at what there is to save; how much it is, the previous set tells without asking the server."""
        self._snapshot = snapshot
        self._started = time.monotonic()
        self._shapes = observe_collections(snapshot)
        self.consistency = snapshot.consistency
        known = {content.collection: content for content in previous.collections} if previous else {}
        self.parts = tuple(_plan_part(shape, known.get(shape.name)) for shape in self._shapes)

    def submit(self, runner: Runner, location: SetLocation) -> list[PrefectFuture[Any]]:
        """Begin to save every collection, the largest first, so that the slowest is not the last."""
        return [
            runner.submit(
                save_collection,
                {"snapshot": self._snapshot, "shape": shape, "location": location},
            )
            for shape, _ in sorted(
                zip(self._shapes, self.parts, strict=True), key=lambda pair: -(pair[1].bytes_estimate or 0)
            )
        ]

    def conclude(self, saved: Saved) -> Contents:
        """Return the manifest's part; raise if collections changed their shape during the backup."""
        confirm_collections(self._snapshot, self._shapes)
        collections = [content for content in saved if isinstance(content, CollectionContent)]
        return (
            MongodbContent(
                server_version=self._snapshot.server_version,
                collections=tuple(sorted(collections, key=lambda content: content.collection)),
                seconds=time.monotonic() - self._started,
            ),
            None,
        )


def _plan_part(shape: CollectionShape, before: CollectionContent | None) -> PlannedPart:
    if before is None:
        return PlannedPart(shape.name, shape.kind, None, None)
    size = before.data.raw_bytes if before.data is not None else 0
    return PlannedPart(shape.name, shape.kind, before.documents, size)


class PostgresqlSource:
    """A PostgreSQL database: one task for all, as pg_dump is one program."""

    def __init__(self, snapshot: PostgresqlSnapshot, client_directory: Path | None) -> None:
        """Look at what there is to save."""
        self._snapshot = snapshot
        self._client_directory = client_directory
        self.consistency = snapshot.consistency
        self.parts = tuple(
            PlannedPart(table.name, "table", table.rows_estimate, table.bytes_estimate)
            for table in observe_tables(snapshot)
        )

    def submit(self, runner: Runner, location: SetLocation) -> list[PrefectFuture[Any]]:
        """Begin to dump the database."""
        parameters = {
            "snapshot": self._snapshot,
            "client_directory": self._client_directory,
            "location": location,
        }
        return [runner.submit(save_database, parameters)]

    def conclude(self, saved: Saved) -> Contents:
        """Return the manifest's part; the dump was compared with the server's counts when it was made."""
        (content,) = (content for content in saved if isinstance(content, PostgresqlContent))
        return None, content


@contextmanager
def open_source(profile: ServiceProfile, previous: Manifest | None) -> Generator[DatabaseSource]:
    """Given a service and its previous set, hold one moment of its database.

    The database's URL is read here and goes nowhere else.
    """
    url = read_variable(profile, profile.database.url_variable)
    if profile.database.kind == "mongodb":
        with open_snapshot(url) as mongodb:
            yield MongodbSource(mongodb, previous.mongodb if previous is not None else None)
    else:
        with hold_snapshot(parse_url(url)) as postgresql:
            yield PostgresqlSource(postgresql, profile.database.client_directory)
