"""Make a MongoDB collection as it was elsewhere: its options, its documents byte for byte, its indexes.

A server deletes what has expired within a minute, in whatever database it lies, and what comes out of a
backup often has. So nothing made here expires before ``wake_expiry``: until then documents can be compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import WriteConcern

from tasks.mongodb import RAW, Client
from tasks.mongodb_snapshot import CollectionShape
from tasks.streams import quick_thread_switches, read_ahead

_MAJORITY = WriteConcern("majority")
# Reported by servers, and refused by those since 4.0.
_NO_OPTION = "autoIndexId"
_EXPIRY = "expireAfterSeconds"


def make_collection(client: Client, database: str, shape: CollectionShape) -> None:
    """Make the empty collection, or the view, with its options; what it holds does not expire yet."""
    options = {key: value for key, value in shape.options.items() if key != _NO_OPTION}
    client[database].command({"create": shape.name, **options})
    if _EXPIRY in options:
        client[database].command({"collMod": shape.name, _EXPIRY: "off"})


def fill_collection(
    client: Client, database: str, shape: CollectionShape, batches: Iterator[Sequence[bytes]]
) -> None:
    """Insert raw documents, in their order.

    They are read ahead, as the server must not wait while we fetch, decompress and split. Those older than a
    validator are data as well: nobody judges them.
    """
    stored = f"system.buckets.{shape.name}" if shape.kind == "timeseries" else shape.name
    collection = client[database].get_collection(stored, codec_options=RAW, write_concern=_MAJORITY)
    with quick_thread_switches(), read_ahead(batches) as ahead:
        for batch in ahead:
            collection.insert_many(map(RawBSONDocument, batch), bypass_document_validation=True)


def make_indexes(client: Client, database: str, shape: CollectionShape) -> None:
    """Build the indexes, but those that came with the collection and those by which documents expire."""
    _build(client, database, shape, [index for index in shape.indexes if _EXPIRY not in index])


def wake_expiry(client: Client, database: str, shape: CollectionShape) -> None:
    """Let documents expire from now on as the shape says; done twice it does no harm."""
    _build(client, database, shape, [index for index in shape.indexes if _EXPIRY in index])
    if _EXPIRY in shape.options:
        client[database].command({"collMod": shape.name, _EXPIRY: shape.options[_EXPIRY]})


def _build(
    client: Client, database: str, shape: CollectionShape, indexes: Sequence[Mapping[str, Any]]
) -> None:
    wanted = [
        {key: value for key, value in index.items() if key != "ns"}
        for index in indexes
        if index["name"] != "_id_" and not index.get("clustered")
    ]
    if wanted:
        # As mongorestore does: old servers kept whatever old drivers sent along, and newer ones refuse it.
        client[database].command(
            {"createIndexes": shape.name, "indexes": wanted, "ignoreUnknownIndexOptions": True}
        )
