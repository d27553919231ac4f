"""Look for damage in a MongoDB database: what the server says of itself, and what reading all of it finds."""

from collections.abc import Iterator, Mapping
from typing import Any

import bson
from bson.errors import BSONError
from prefect import task
from prefect.cache_policies import NO_CACHE
from pymongo.errors import OperationFailure

from tasks.credentials import resolve
from tasks.errors import SourceError
from tasks.mongodb import Client, connect, translated
from tasks.mongodb_dump import LENIENT
from tasks.mongodb_snapshot import CollectionShape, MongodbSnapshot, list_shapes, open_reader
from tasks.records.section import Reference
from tasks.retrying import is_transient

_UNAUTHORIZED = 13
# What validate counts or lists of a collection that is damaged; documents that break a validator are not.
_COUNTED = {
    "nInvalidDocuments": "invalid documents",
    "corruptRecords": "corrupt records",
    "missingIndexEntries": "missing index entries",
    "extraIndexEntries": "index entries too many",
}


@task(
    task_run_name="examine {database}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
)
def examine_collections(admin_url: Reference, database: str) -> tuple[str, ...]:
    """Given a database, validate every collection and decode every document; return what is damaged.

    Views hold nothing, so nothing of them is. Raise ``UnreachableError`` if the server goes away, and
    ``AccessDeniedError`` if it does not let this user look.
    """
    with connect(resolve(admin_url), patient=True) as client:
        reader = open_reader(client, database)
        findings: list[str] = []
        for shape in list_shapes(client, database):
            if shape.kind != "view":
                where = f"Collection {shape.name}"
                findings += (f"{where}: {found}." for found in _validate(client, database, shape))
                findings += (f"{where}: {found}." for found in _read(reader, shape))
        return tuple(findings)


def _validate(client: Client, database: str, shape: CollectionShape) -> Iterator[str]:
    with translated(f"MongoDB, validating {database}.{shape.name}"):
        try:
            verdict = client[database].command({"validate": shape.name, "full": True})
        except OperationFailure as error:
            if error.code == _UNAUTHORIZED:
                raise
            yield f"the server cannot validate it ({(error.details or {}).get('errmsg', error.code)})"
        else:
            yield from judge_validation(verdict)


def judge_validation(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Given what ``validate`` answers, yield what it says is damaged; sharded clusters answer by shard."""
    if "raw" in verdict:
        for shard in verdict["raw"].values():
            yield from judge_validation(shard)
        return
    said = [f"validate says: {text}" for text in verdict.get("errors", ())]
    for field, noun in _COUNTED.items():
        number = verdict.get(field, 0)
        if number := number if isinstance(number, int) else len(number):
            said.append(f"validate counts {number:,} {noun}")
    said += [
        f"validate says that index {name} is not valid"
        for name, details in verdict.get("indexDetails", {}).items()
        if not details.get("valid", True)
    ]
    if not verdict["valid"] and not said:
        said.append("validate says that it is not valid, and not why")
    yield from said


def _read(reader: MongodbSnapshot, shape: CollectionShape) -> Iterator[str]:
    read, broken = 0, 0
    try:
        for batch in reader.read(shape):
            read += len(batch)
            broken += _count_broken(batch)
    except (SourceError, BSONError) as error:
        yield f"it cannot be read beyond {read:,} documents ({str(error).removesuffix('.')})"
    if broken:
        yield f"{broken:,} of {read:,} documents do not decode"


def _count_broken(batch: list[bytes]) -> int:
    """All at once, and one by one only if that fails: damage is rare."""
    return 0 if _decodes(b"".join(batch)) else sum(not _decodes(document) for document in batch)


def _decodes(documents: bytes) -> bool:
    try:
        bson.decode_all(documents, LENIENT)
    except BSONError:
        return False
    return True
