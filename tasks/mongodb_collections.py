"""Make a MongoDB collection as it was elsewhere: its options, its documents byte for byte, its indexes."""

from collections.abc import Iterator, Sequence

from bson.raw_bson import RawBSONDocument
from pymongo import WriteConcern

from tasks.mongodb import RAW, Client
from tasks.mongodb_snapshot import CollectionShape
from tasks.streams import quick_thread_switches, read_ahead

_MAJORITY = WriteConcern("majority")
# Reported by servers, and refused by those since 4.0.
_NO_OPTION = "autoIndexId"


def make_collection(client: Client, database: str, shape: CollectionShape) -> None:
    """Make the empty collection, or the view, with its options."""
    options = {key: value for key, value in shape.options.items() if key != _NO_OPTION}
    client[database].command({"create": shape.name, **options})


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
    """Build the indexes, but those that came with the collection."""
    indexes = [
        {key: value for key, value in index.items() if key != "ns"}
        for index in shape.indexes
        if index["name"] != "_id_" and not index.get("clustered")
    ]
    if indexes:
        client[database].command({"createIndexes": shape.name, "indexes": indexes})
