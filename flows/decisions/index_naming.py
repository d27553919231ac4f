"""What a new index is called, and how one is dropped by its name."""

import hashlib
import json
from typing import Literal

from tasks.records.data_care import RecommendedIndex
from tasks.records.indexes import ObservedIndexes

Kind = Literal["mongodb", "postgresql"]

# PostgreSQL cuts a longer name, so that two may become one.
_LONGEST_NAME_BYTES = 63
_DIGEST_DIGITS = 8


def name_index(wanted: RecommendedIndex, kind: Kind, observed: ObservedIndexes) -> str:
    """Return the name that the server's own tools would give the index, made another where it is taken."""
    if kind == "mongodb":
        name = "_".join(f"{field}_{direction}" for field, direction in wanted.key.items())
        # A collection's indexes have their names for themselves, a schema's share them with its tables.
        taken = {index.name for index in observed.indexes if index.source == wanted.source}
    else:
        name = "_".join((_split(wanted.source)[1], *wanted.key, "key" if wanted.unique else "idx"))
        taken = {index.name for index in observed.indexes} | {_split(one)[1] for one in observed.sources}
    if name not in taken and (kind == "mongodb" or len(name.encode()) <= _LONGEST_NAME_BYTES):
        return name
    identity = f"{wanted.source} {wanted.key} {wanted.unique}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_DIGITS]
    room = _LONGEST_NAME_BYTES - _DIGEST_DIGITS - 1
    return f"{name.encode()[:room].decode(errors='ignore')}_{digest}"


def say_drop(source: str, name: str, kind: Kind) -> str:
    """Return the statement that drops an index without blocking, for a person's shell."""
    if kind == "mongodb":
        return f"db.getCollection({json.dumps(source)}).dropIndex({json.dumps(name)})"
    schema, _ = _split(source)
    return f"DROP INDEX CONCURRENTLY {'.'.join(_quote(part) for part in (schema, name) if part)}"


def _split(source: str) -> tuple[str, str]:
    """Return the schema of a table, if it is named, and the table."""
    schema, _, table = source.rpartition(".")
    return schema, table


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
