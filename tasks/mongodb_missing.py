"""Documents of an archive against a collection: which are not there, which are there otherwise."""

from collections.abc import Iterator, Sequence
from typing import Final

from bson import json_util
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from tasks.errors import SourceError
from tasks.mongodb import RAW

_AT_ONCE: Final = 1000
_DUPLICATE: Final = 11000

Raw = Collection[RawBSONDocument]


def compare_documents(collection: Raw, entries: Sequence[bytes]) -> tuple[int, tuple[str, ...]]:
    """Return how many of the documents are not there, and the ``_id`` of each that is there otherwise."""
    missing, otherwise = 0, []
    for documents in _batches(entries):
        there = _find(collection, documents)
        for document in documents:
            identity = _name(document)
            missing += identity not in there
            if there.get(identity, document.raw) != document.raw:
                otherwise.append(identity)
    return missing, tuple(otherwise)


def insert_documents(collection: Raw, entries: Sequence[bytes]) -> tuple[int, tuple[str, ...]]:
    """Insert what is not there; return how many, and the ``_id`` of each that is there otherwise.

    Raise ``SourceError`` if the server refuses a document for another reason.
    """
    inserted, otherwise = 0, []
    for documents in _batches(entries):
        refused = _insert(collection, documents)
        inserted += len(documents) - len(refused)
        there = _find(collection, refused)
        # One that has another's unique value is not there, and cannot be.
        otherwise += [
            _name(document) for document in refused if there.get(_name(document)) != bytes(document.raw)
        ]
    return inserted, tuple(otherwise)


def _insert(collection: Raw, documents: Sequence[RawBSONDocument]) -> list[RawBSONDocument]:
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        failures = (error.details or {}).get("writeErrors", [])
        for failure in failures:
            if failure.get("code") != _DUPLICATE:
                identity = _name(documents[failure["index"]])
                raise SourceError(
                    f"{collection.full_name} does not take the document {identity} "
                    f"(code {failure.get('code')}): see its validator."
                ) from None
        return [documents[failure["index"]] for failure in failures]
    return []


def _find(collection: Raw, documents: Sequence[RawBSONDocument]) -> dict[str, bytes]:
    if not documents:
        return {}
    wanted = [document["_id"] for document in documents]
    return {_name(found): bytes(found.raw) for found in collection.find({"_id": {"$in": wanted}})}


def _batches(entries: Sequence[bytes]) -> Iterator[list[RawBSONDocument]]:
    for start in range(0, len(entries), _AT_ONCE):
        yield [RawBSONDocument(entry, RAW) for entry in entries[start : start + _AT_ONCE]]


def _name(document: RawBSONDocument) -> str:
    return json_util.dumps(document["_id"], json_options=json_util.CANONICAL_JSON_OPTIONS)
