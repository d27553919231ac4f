"""The directory that mongodump writes and mongorestore reads: names and metadata. Pure.

Source: mongo-tools 100.18, ``mongodump/metadata_dump.go`` and ``common/util/namespaces.go``.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from bson.codec_options import DatetimeConversion
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, DatetimeRepresentation, JSONOptions, dumps, loads

_LONGEST_NAME = 238
_KEPT_OF_A_LONG_NAME = 208
_BUCKETS = "system.buckets."
# Dates beyond year 9999 are valid BSON and must survive.
_JSON: JSONOptions = CANONICAL_JSON_OPTIONS.with_options(
    datetime_representation=DatetimeRepresentation.NUMBERLONG,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    document_class=dict,
    tz_aware=False,
)


def escape_name(collection: str) -> str:
    """Given a collection's name, return the file name that mongodump gives it; a database keeps its."""
    escaped = quote_plus(collection, safe="")
    if len(escaped) <= _LONGEST_NAME:
        return escaped
    digest = base64.urlsafe_b64encode(hashlib.sha1(collection.encode(), usedforsecurity=False).digest())
    return escaped[:_KEPT_OF_A_LONG_NAME] + "%24" + digest.decode().rstrip("=")


def data_key(database: str, collection: str, kind: str) -> str:
    """Return where a collection's documents lie, relative to the dump's folder."""
    stored = _BUCKETS + collection if kind == "timeseries" else collection
    return f"{database}/{escape_name(stored)}.bson.gz"


def metadata_key(database: str, collection: str) -> str:
    """Return where a collection's metadata lies, relative to the dump's folder."""
    return f"{database}/{escape_name(collection)}.metadata.json.gz"


def is_dumped(collection: str) -> bool:
    """Does mongodump save a collection of this name? System collections but ``system.js`` are rebuilt."""
    return (not collection.startswith("system.") or collection == "system.js") and "$" not in collection


def canonical(value: object) -> str:
    """Return canonical Extended JSON (v2), key order kept."""
    return dumps(value, json_options=_JSON)


def parse_canonical(text: str) -> Any:
    """Return what canonical Extended JSON says."""
    return loads(text, json_options=_JSON)


def metadata_document(
    *,
    collection: str,
    kind: str,
    uuid: bytes | None,
    options: Mapping[str, Any],
    indexes: Sequence[Mapping[str, Any]],
) -> bytes:
    """Return the content of a ``.metadata.json``: options are left out when there are none."""
    document: dict[str, object] = {}
    if options:
        document["options"] = options
    document["indexes"] = list(indexes)
    if uuid is not None:
        document["uuid"] = uuid.hex()
    document["collectionName"] = collection
    document["type"] = kind
    return canonical(document).encode()


def read_metadata(content: bytes) -> dict[str, Any]:
    """Return a ``.metadata.json`` as options, indexes, collectionName and type; ValueError if it is none."""
    document = json.loads(content)
    if not isinstance(document, dict) or "collectionName" not in document:
        raise ValueError("no collectionName")
    try:
        parsed = parse_canonical(content.decode())
    except (BSONError, TypeError, KeyError) as error:
        raise ValueError(f"no Extended JSON: {error}") from None
    return {"options": {}, "indexes": [], "type": "collection", **parsed}
