"""Save MongoDB collections as mongodump would, streamed into a backup set, and read them back."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import DamagedSetError, SourceError
from tasks.mongodb_dump_format import canonical, data_key, metadata_document, metadata_key
from tasks.mongodb_snapshot import CollectionShape, MongodbSnapshot, list_shapes
from tasks.records.backup import CollectionContent, CollectionFacts
from tasks.retrying import is_transient
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP, read_ahead

FOLDER = "mongodb"
_LENGTH_BYTES = 4
_LARGEST_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024
_MODULUS = 1 << 256
# Every document must decode, whatever strings and dates an old driver wrote.
LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class ContentHash:
    """Counts documents and hashes them, whatever order they come in."""

    def __init__(self) -> None:
        """Start with no document."""
        self.documents = 0
        self._sum = 0

    def add(self, documents: Sequence[bytes]) -> None:
        """Take a batch of raw documents in."""
        sha256, number = hashlib.sha256, int.from_bytes
        self._sum += sum(number(sha256(document).digest(), "little") for document in documents)
        self.documents += len(documents)

    @property
    def value(self) -> str:
        """The hash of all documents so far, 64 hex digits."""
        return f"{self._sum % _MODULUS:064x}"

    def pass_on(self, batches: Iterable[Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
        """Yield each batch on, counting and hashing its documents."""
        for batch in batches:
            self.add(batch)
            yield batch

    def watch(self, batches: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
        """Yield each batch as one chunk, counting and hashing its documents."""
        return map(b"".join, self.pass_on(batches))


def describe(database: str, shape: CollectionShape, content: ContentHash) -> CollectionFacts:
    """Return the facts of a collection whose documents went through ``content``."""
    return CollectionFacts(
        database=database,
        collection=shape.name,
        kind=shape.kind,
        documents=content.documents,
        content_hash=content.value,
        options=canonical(shape.options),
        indexes=tuple(sorted(canonical(index) for index in shape.indexes)),
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_collections(snapshot: MongodbSnapshot) -> tuple[CollectionShape, ...]:
    """Given an open snapshot, return the collections and views to save, by name."""
    return list_shapes(snapshot.client, snapshot.database)


@task(
    task_run_name="save {shape.name}",
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def save_collection(
    snapshot: MongodbSnapshot, shape: CollectionShape, location: SetLocation
) -> CollectionContent:
    """Given an open snapshot and one of its collections, save it into the set.

    Return what was saved; raise ``UnreachableError`` if the server or the store went away (retried),
    ``SourceError`` if the moment is gone.
    """
    folder = SetFolder(location)
    document = metadata_document(
        collection=shape.name,
        kind=shape.kind,
        uuid=shape.uuid,
        options=shape.options,
        indexes=shape.indexes,
    )
    key = f"{FOLDER}/{metadata_key(snapshot.database, shape.name)}"
    metadata = folder.save(key, [document], GZIP)
    content = ContentHash()
    data = None
    if shape.kind != "view":
        key = f"{FOLDER}/{data_key(snapshot.database, shape.name, shape.kind)}"
        # The server is the slow side: it must not wait while we hash, compress and upload.
        with read_ahead(snapshot.read(shape)) as batches:
            data = folder.save(key, content.watch(batches), GZIP)
    facts = describe(snapshot.database, shape, content)
    return CollectionContent(**facts.model_dump(), metadata=metadata, data=data)


@task(cache_policy=NO_CACHE, persist_result=False)
def confirm_collections(snapshot: MongodbSnapshot, saved: tuple[CollectionShape, ...]) -> None:
    """Given what was saved, raise ``SourceError`` if collections came, went or changed their shape meanwhile.

    The lists of collections and indexes are not part of a MongoDB snapshot, so they are compared.
    """
    before = {shape.name: (shape.uuid, shape.options, shape.indexes) for shape in saved}
    now = {
        shape.name: (shape.uuid, shape.options, shape.indexes)
        for shape in list_shapes(snapshot.client, snapshot.database)
    }
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise SourceError(
            f"{snapshot.database}: collections were made, dropped or altered during the backup "
            f"({', '.join(changed)}): run it again when the migration is over."
        )


def split_documents(chunks: Iterable[bytes], name: str) -> Iterator[list[bytes]]:
    """Given the bytes of a .bson file in chunks, yield its raw documents in batches."""
    rest = b""
    for chunk in chunks:
        rest, documents = _take_documents(rest + chunk, name)
        if documents:
            yield documents
    if rest:
        raise DamagedSetError(f"{name} ends in the middle of a document.")


def _take_documents(buffer: bytes, name: str) -> tuple[bytes, list[bytes]]:
    documents = []
    position, number = 0, int.from_bytes
    while position + _LENGTH_BYTES <= len(buffer):
        length = number(buffer[position : position + _LENGTH_BYTES], "little")
        if not _LENGTH_BYTES < length <= _LARGEST_DOCUMENT:
            raise DamagedSetError(f"{name} holds something that is no BSON document.")
        if position + length > len(buffer):
            break
        documents.append(buffer[position : position + length])
        position += length
    return buffer[position:], documents


def decode_documents(batches: Iterable[Sequence[bytes]], name: str) -> ContentHash:
    """Decode every document of the batches and return their count and hash.

    Raise ``DamagedSetError`` if one does not decode.
    """
    content = ContentHash()
    for batch in batches:
        content.add(batch)
        try:
            bson.decode_all(b"".join(batch), LENIENT)
        except BSONError as error:
            raise DamagedSetError(f"{name}: a document does not decode ({error}).") from None
    return content
