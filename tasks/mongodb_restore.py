"""Restore a set's collections into a scratch database and observe what came of it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.credentials import resolve
from tasks.errors import DamagedSetError, SourceError
from tasks.mongodb import Client, connect, translated
from tasks.mongodb_collections import fill_collection, make_collection, make_indexes, wake_expiry
from tasks.mongodb_dump import ContentHash, describe, split_documents
from tasks.mongodb_dump_format import read_metadata
from tasks.mongodb_snapshot import CollectionShape, list_shapes, open_reader
from tasks.records.backup import CollectionContent, CollectionFacts, MongodbContent, StoredObject
from tasks.records.section import Reference
from tasks.retrying import retried
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP


@retried
def list_databases(admin_url: Reference) -> tuple[str, ...]:
    """Given the reference of an administrator's URL, return the names of the server's databases."""
    with connect(resolve(admin_url)) as client:
        return tuple(client.list_database_names())


@retried
def drop_database(admin_url: Reference, scratch: str) -> None:
    """Given an administrator's reference and a scratch database, drop it; one that is gone is no error."""
    with connect(resolve(admin_url), patient=True) as client:
        client.drop_database(scratch)


@task(cache_policy=NO_CACHE, persist_result=False)
def restore_collections(
    admin_url: Reference, scratch: str, content: MongodbContent, location: SetLocation
) -> None:
    """Given a set's collections, write them into the scratch database: options, documents, indexes.

    Views come last, as they rest on collections. No document expires until ``wake_collections``. Raise
    ``DamagedSetError`` naming what cannot be restored.
    """
    folder = SetFolder(location)
    with connect(resolve(admin_url), patient=True) as client:
        for collection in sorted(content.collections, key=lambda found: found.kind == "view"):
            with _restoring(collection.collection, scratch):
                _restore_collection(client, scratch, collection, folder)


@contextmanager
def _restoring(collection: str, database: str) -> Generator[None]:
    """Raise what a server refuses as the set's damage, unless it does not answer, let us in or have room."""
    try:
        with translated(f"MongoDB, restoring into {database},"):
            yield
    except SourceError as error:
        raise DamagedSetError(f"Collection {collection} does not restore: {error}") from None


def _restore_collection(client: Client, scratch: str, content: CollectionContent, folder: SetFolder) -> None:
    shape = _read_shape(folder, content)
    make_collection(client, scratch, shape)
    if content.data is not None:
        key = content.data.key
        fill_collection(client, scratch, shape, split_documents(folder.load(key, GZIP), key))
    make_indexes(client, scratch, shape)


def _read_shape(folder: SetFolder, content: CollectionContent) -> CollectionShape:
    metadata = _read_metadata(folder, content.metadata)
    return CollectionShape(
        name=metadata["collectionName"],
        kind=content.kind,
        uuid=None,
        options=metadata["options"],
        indexes=tuple(metadata["indexes"]),
    )


def _read_metadata(folder: SetFolder, stored: StoredObject) -> dict[str, Any]:
    content = b"".join(folder.load(stored.key, GZIP))
    try:
        return read_metadata(content)
    except (ValueError, BSONError) as error:
        raise DamagedSetError(f"{stored.key} is no collection metadata ({error}).") from None


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_restored_collections(admin_url: Reference, scratch: str) -> tuple[CollectionFacts, ...]:
    """Given a scratch database, read it in full and return the facts of every collection in it."""
    with connect(resolve(admin_url)) as client:
        reader = open_reader(client, scratch)
        facts = []
        for shape in list_shapes(client, scratch):
            content = ContentHash()
            if shape.kind != "view":
                for batch in reader.read(shape):
                    content.add(batch)
            facts.append(describe(scratch, shape, content))
        return tuple(facts)


@task(cache_policy=NO_CACHE, persist_result=False)
def wake_collections(
    admin_url: Reference,
    database: str,
    content: MongodbContent,
    location: SetLocation,
    found: tuple[CollectionFacts, ...],
) -> tuple[CollectionFacts, ...]:
    """Given what was found in a restored database, let its documents expire as the set says.

    Return what was found, with the options and indexes that are there now; raise ``DamagedSetError`` naming
    what cannot be as the set says.
    """
    folder = SetFolder(location)
    with connect(resolve(admin_url), patient=True) as client:
        for collection in content.collections:
            with _restoring(collection.collection, database):
                wake_expiry(client, database, _read_shape(folder, collection))
        shapes = list_shapes(client, database)
    now = {
        shape.name: describe(database, shape, ContentHash()).model_dump(include={"options", "indexes"})
        for shape in shapes
    }
    return tuple(facts.model_copy(update=now[facts.collection]) for facts in found if facts.collection in now)


def observe_and_wake(
    admin_url: Reference, database: str, content: MongodbContent, location: SetLocation
) -> tuple[CollectionFacts, ...]:
    """Given a database that the content was restored into, return its facts, read before anything expires."""
    found = observe_restored_collections(admin_url, database)
    return wake_collections(admin_url, database, content, location, found)
