"""Restore a set's collections into a scratch database and observe what came of it."""

from collections.abc import Mapping
from typing import Any

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.credentials import resolve
from tasks.errors import DamagedSetError
from tasks.mongodb import RAW, Client, connect, translated
from tasks.mongodb_dump import ContentHash, describe, split_documents
from tasks.mongodb_dump_format import read_metadata
from tasks.mongodb_snapshot import MongodbSnapshot, list_shapes
from tasks.records.backup import (
    CollectionContent,
    CollectionFacts,
    Consistency,
    MongodbContent,
    StoredObject,
)
from tasks.records.service import Reference
from tasks.retrying import is_transient
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
)
def list_databases(admin_url: Reference) -> tuple[str, ...]:
    """Given the reference of an administrator's URL, return the names of the server's databases."""
    with connect(resolve(admin_url)) as client:
        return tuple(client.list_database_names())


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
)
def drop_database(admin_url: Reference, scratch: str) -> None:
    """Given an administrator's reference and a scratch database, drop it; one that is gone is no error."""
    with connect(resolve(admin_url)) as client:
        client.drop_database(scratch)


@task(cache_policy=NO_CACHE, persist_result=False)
def restore_collections(
    admin_url: Reference, scratch: str, content: MongodbContent, location: SetLocation
) -> None:
    """Given a set's collections, write them into the scratch database: options, documents, indexes.

    Views come last, as they rest on collections. Raise ``DamagedSetError`` naming what cannot be restored.
    """
    folder = SetFolder(location)
    with connect(resolve(admin_url)) as client:
        for collection in sorted(content.collections, key=lambda found: found.kind == "view"):
            with translated(f"MongoDB, restoring {collection.collection} into {scratch}"):
                _restore_collection(client, scratch, collection, folder)


def _restore_collection(client: Client, scratch: str, content: CollectionContent, folder: SetFolder) -> None:
    metadata = _read_metadata(folder, content.metadata)
    name = metadata["collectionName"]
    database = client[scratch]
    database.command({"create": name, **_creation_options(metadata["options"])})
    if content.data is not None:
        target = f"system.buckets.{name}" if content.kind == "timeseries" else name
        # Documents older than a validator are data as well: a restore does not judge them.
        stored = database.get_collection(target, codec_options=RAW)
        for batch in split_documents(folder.load(content.data.key, GZIP), content.data.key):
            stored.insert_many(map(RawBSONDocument, batch), bypass_document_validation=True)
    indexes = [
        {key: value for key, value in index.items() if key != "ns"}
        for index in metadata["indexes"]
        if index["name"] != "_id_"
    ]
    if indexes:
        database.command({"createIndexes": name, "indexes": indexes})


def _creation_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the server reports but does not take: ``autoIndexId`` since 4.0."""
    return {key: value for key, value in options.items() if key != "autoIndexId"}


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
        version = str(client.server_info()["version"])
        consistency = Consistency(method="none", moment=None, explanation="Nobody else writes to it.")
        reader = MongodbSnapshot(client, scratch, version, consistency)
        facts = []
        for shape in list_shapes(client, scratch):
            content = ContentHash()
            if shape.kind != "view":
                for batch in reader.read(shape):
                    content.add(batch)
            facts.append(describe(scratch, shape, content))
        return tuple(facts)
