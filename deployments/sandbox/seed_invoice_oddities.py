"""What a backup of MongoDB trips over: every BSON type, odd names, and every kind of collection and index."""

import random
import uuid
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import OLD_UUID_SUBTYPE, UUID_SUBTYPE, Binary
from bson.code import Code
from bson.dbref import DBRef
from pymongo.database import Database

Document = dict[str, Any]

SEED = 5
LARGE_BYTES = 5_000_000
DEPTH = 90
ODD_NAMES = ("with space", "a/slash", "percent %2F %7E", "naïve 名前", "a.b.c", "star*?", "x" * 180)
FAR_FUTURE = datetime(2199, 12, 31, tzinfo=UTC)


def add(database: Database[Document]) -> None:
    """Add the odd collections, next to the ordinary ones."""
    database["bsonTypes"].insert_many(_types())
    rng = random.Random(SEED)
    large = {"_id": "large", "pdf": Binary(rng.randbytes(LARGE_BYTES // 2)), "text": _text(rng)}
    database["attachments"].insert_one(large)
    for name in ODD_NAMES:
        database[name].insert_many([{"_id": number, "of": name} for number in range(3)])
    _add_kinds(database)
    _add_indexes(database)


def _types() -> list[Document]:
    """Return documents that hold every BSON type that this server keeps as it is."""
    nested: Document = {"end": True}
    for _ in range(DEPTH):
        nested = {"in": nested}
    rng = random.Random(SEED)
    uuid_bytes = uuid.UUID(bytes=rng.randbytes(16)).bytes
    return [
        {
            "_id": 1,
            "timestamp": Timestamp(0, 0),
            "nested": {"timestamp": Timestamp(0, 0)},
            "t": Timestamp(9, 7),
        },
        {
            "_id": 2,
            "decimals": [Decimal128(text) for text in ("1E+6144", "-0.00", "NaN", "-Infinity", "0.10")],
        },
        {"_id": 3, "min": MinKey(), "max": MaxKey()},
        {"_id": 4, "code": Code("function () { return 1; }"), "scoped": Code("x + 1", {"x": Int64(1)})},
        {"_id": 5, "regex": Regex("^a/.*\\d$", "imsx"), "plain": Regex("")},
        {"_id": 6, "uuid": Binary(uuid_bytes, UUID_SUBTYPE), "legacy": Binary(uuid_bytes, OLD_UUID_SUBTYPE)},
        {"_id": 7, "old": Binary(b"\x00old", 2), "own": Binary(b"\xff" * 3, 128), "empty": Binary(b"")},
        {"_id": 8, "reference": DBRef("users", ObjectId("65a4f0000000000000000001"), "invoice", extra=1)},
        {"_id": 9, "integers": [Int64(2**63 - 1), Int64(-(2**63)), Int64(1), 1, -(2**31), 2**31 - 1]},
        {"_id": 10, "floats": [float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.0]},
        {"_id": 11, "": "empty key", "a.b": "dotted", "$dollar": 1, "n": {"a.b": 1, "$y": {"": None}}},
        {"_id": 12, "dates": [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]},
        {"_id": 13, "nothing": None, "array": [], "document": {}, "mixed": [[], [None, {"a": []}]]},
        {
            "_id": 14,
            "text": "nul \x00 inside, line\u2028separator, 🔑 and e\u0301, \ufeff",
            "ключ": "значение",
        },
        {"_id": 15, "deep": nested},
        {"_id": Int64(16), "b": 1, "a": 2, "order": "of keys matters"},
        {"_id": 17.5},
        {"_id": "string"},
        {"_id": {"compound": 1, "of": [1, 2]}},
        {"_id": ObjectId("65a4f0000000000000000002")},
        {"_id": None},
        {"_id": True},
        {"_id": datetime(2024, 1, 15, 2, tzinfo=UTC)},
        {"_id": Binary(uuid_bytes, UUID_SUBTYPE)},
    ]


def _add_kinds(database: Database[Document]) -> None:
    capped = database.create_collection("recentEvents", capped=True, size=65536, max=50)
    capped.insert_many([{"_id": number, "event": f"event {number}"} for number in range(40)])
    database.create_collection("emptyCollection")
    overdue: list[Document] = [
        {"$match": {"status": "overdue"}},
        {"$project": {"number": 1, "dueAt": 1}},
    ]
    database.create_collection("overdueInvoices", viewOn="invoices", pipeline=overdue)
    schema = {"bsonType": "object", "required": ["code"], "properties": {"code": {"bsonType": "string"}}}
    validated = database.create_collection(
        "coupons", validator={"$jsonSchema": schema}, validationLevel="moderate", validationAction="error"
    )
    validated.insert_one({"_id": 1, "code": "WELCOME"})
    german = {"locale": "de", "strength": 2}
    database.create_collection("sortedGerman", collation=german).insert_one({"_id": 1, "name": "Äpfel"})


def _add_indexes(database: Database[Document]) -> None:
    """Add one index of every kind that this server makes."""
    sessions = database["sessions"]
    # Far away: what the server deletes by itself while a test counts would not be deterministic.
    sessions.insert_many([{"_id": number, "expiresAt": FAR_FUTURE} for number in range(20)])
    sessions.create_index("expiresAt", expireAfterSeconds=0)
    kinds = database["indexKinds"]
    kinds.insert_many(
        [{"_id": n, "a": n, "b": -n, "name": f"Name {n}", "place": [n, n], "w": {"x": n}} for n in range(20)]
    )
    kinds.create_index("a", name="partial a", partialFilterExpression={"b": {"$gt": -10}})
    kinds.create_index([("a", 1), ("b", -1)], unique=True)
    kinds.create_index("sometimes", sparse=True)
    kinds.create_index("name", collation={"locale": "de", "strength": 2})
    kinds.create_index([("place", "2d")])
    kinds.create_index([("w.$**", 1)])
    kinds.create_index("hidden", hidden=True)


def _text(rng: random.Random) -> str:
    return rng.randbytes(LARGE_BYTES // 4).hex()
