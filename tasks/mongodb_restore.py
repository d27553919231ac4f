"""Restore a set's collections into a scratch database and observe what came of it."""

from typing import Any

from bson.errors import BSONError
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.credentials import resolve
from tasks.errors import DamagedSetError
from tasks.mongodb import Client, connect, translated
from tasks.mongodb_collections import fill_collection, make_collection, make_indexes
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

    Views come last, as they rest on collections. Raise ``DamagedSetError`` naming what cannot be restored.
    """
    folder = SetFolder(location)
    with connect(resolve(admin_url), patient=True) as client:
        for collection in sorted(content.collections, key=lambda found: found.kind == "view"):
            with translated(f"MongoDB, restoring {collection.collection} into {scratch}"):
                _restore_collection(client, scratch, collection, folder)


def _restore_collection(client: Client, scratch: str, content: CollectionContent, folder: SetFolder) -> None:
    metadata = _read_metadata(folder, content.metadata)
    shape = CollectionShape(
        name=metadata["collectionName"],
        kind=content.kind,
        uuid=None,
        options=metadata["options"],
        indexes=tuple(metadata["indexes"]),
    )
    make_collection(client, scratch, shape)
    if content.data is not None:
        key = content.data.key
        fill_collection(client, scratch, shape, split_documents(folder.load(key, GZIP), key))
    make_indexes(client, scratch, shape)


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
