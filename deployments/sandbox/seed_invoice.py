"""Made-up data of the Invoice Management System: the same every time, as large as wanted, and nasty.

Two things that a real MongoDB stores are not here, because this server decodes what it is given: a document
with duplicate keys comes back with one of them, and a string that is not UTF-8 is refused, like dates beyond
the year 9999. Nor has it text and hashed indexes.
"""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from bson import Decimal128, Int64, ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from deployments.sandbox import seed_invoice_oddities
from deployments.sandbox.errors import SandboxError

Document = dict[str, Any]

VERSION = 1
SEED = 20240115
UNTIL = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=730)
BATCH = 1000
MARKS = ("sandbox", "seeded")

# Documents at scale 1.
ORGANIZATIONS, USERS, CLIENTS, PRICING, INVOICES, AUDIT_LOGS, OTPS = 12, 200, 300, 60, 600, 1500, 80

ACTIONS = ("CREATE", "UPDATE", "DELETE", "LOGIN", "LOGIN", "LOGIN_FAILED", "UNAUTHORIZED_ACCESS", "EXPORT")
ENTITIES = ("invoice", "client", "user", "organization", "pricing")
STATUSES = ("draft", "sent", "paid", "overdue", "void")
CITIES = ("Zürich", "São Paulo", "東京", "Kraków", "Reykjavík", "Cairo القاهرة", "Perth")
WORDS = ("consulting", "maintenance", "licence", "support", "hosting", "training", "audit", "Gerät", "café")


def seed(url: str, database: str = "invoice", scale: float = 1) -> None:
    """Fill a database, unless this very data is in it.

    Args:
        url: of a user that may do everything.
        database: the database to fill; what an interrupted seeding left in it is dropped.
        scale: 1 is about three thousand documents; written in batches, with flat memory.

    Raises:
        SandboxError: the database was filled at another scale.
    """
    client: MongoClient[Document]
    with MongoClient(url) as client:
        marks: Collection[Document] = client[MARKS[0]][MARKS[1]]
        mark = marks.find_one({"_id": database})
        if mark is not None:
            if mark["scale"] != scale or mark["version"] != VERSION:
                raise SandboxError(
                    f"The MongoDB database {database} was seeded with scale {mark['scale']:g}, not {scale:g}:"
                    " use another state folder, or remove this one after `down`."
                )
            return
        client.drop_database(database)
        _fill(client[database], scale)
        marks.insert_one({"_id": database, "scale": scale, "version": VERSION})


def _fill(database: Database[Document], scale: float) -> None:
    organizations = [_identity("organization", number) for number in range(_count(ORGANIZATIONS, scale))]
    makers: dict[str, tuple[int, Callable[[random.Random, int, list[ObjectId]], Document]]] = {
        "organizations": (len(organizations), _organization),
        "users": (_count(USERS, scale), _user),
        "clients": (_count(CLIENTS, scale), _client),
        "pricing": (_count(PRICING, scale), _pricing),
        "invoices": (_count(INVOICES, scale), _invoice),
        "auditLogs": (_count(AUDIT_LOGS, scale), _audit_log),
        "otps": (_count(OTPS, scale), _otp),
    }
    for name, (count, make) in makers.items():
        # Each collection has a generator of its own: the size of one changes nothing in another.
        rng = random.Random(f"{SEED} {name}")
        documents = (make(rng, number, organizations) for number in range(count))
        for batch in _batches(documents):
            database[name].insert_many(batch, ordered=False)
    # Half of what the runbook recommends; the rest is what its index procedure finds missing.
    database["users"].create_index("email", unique=True)
    database["organizations"].create_index("organizationCode", unique=True)
    database["clients"].create_index("organizationId")
    database["auditLogs"].create_index([("organizationId", 1), ("timestamp", -1)])
    seed_invoice_oddities.add(database)


def _count(at_scale_1: int, scale: float) -> int:
    return max(1, round(at_scale_1 * scale))


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, BATCH)):
        yield batch


def _identity(kind: str, number: int) -> ObjectId:
    return ObjectId(random.Random(f"{SEED} {kind} {number}").randbytes(12))


def _moment(rng: random.Random) -> datetime:
    return UNTIL - timedelta(milliseconds=rng.randrange(int(SPAN.total_seconds() * 1000)))


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def _organization(rng: random.Random, number: int, organizations: list[ObjectId]) -> Document:
    return {
        "_id": organizations[number],
        "organizationCode": f"ORG-{number:05d}",
        "name": f"{_sentence(rng, 2).title()} {rng.choice(('GmbH', 'Ltd', 'S.A.', '株式会社'))}",
        "address": {"city": rng.choice(CITIES), "lines": [f"{rng.randrange(1, 400)} Main St", None]},
        "settings": {"currency": rng.choice(("USD", "EUR", "JPY")), "tax": {"rate": Decimal128("7.70")}},
        "createdAt": _moment(rng),
    }


def _user(rng: random.Random, number: int, organizations: list[ObjectId]) -> Document:
    return {
        "_id": _identity("user", number),
        "email": f"user{number}@example.com",
        "name": f"User {number} {rng.choice(CITIES)}",
        "organizationId": rng.choice(organizations),
        "role": "admin" if number % 20 == 0 else "employee",
        "isActive": rng.random() > 0.05,  # noqa: PLR2004  a share of made-up people
        "fcmTokens": [rng.randbytes(16).hex() for _ in range(rng.randrange(3))],
        "lastLogin": _moment(rng) if rng.random() > 0.2 else None,  # noqa: PLR2004
    }


def _client(rng: random.Random, number: int, organizations: list[ObjectId]) -> Document:
    return {
        "_id": _identity("client", number),
        "organizationId": rng.choice(organizations),
        "clientEmail": f"client{number}@example.org",
        "name": _sentence(rng, 2),
        "contacts": [{"name": rng.choice(CITIES), "phones": [str(rng.randrange(10**9))]} for _ in range(2)],
        "balance": Decimal128(f"{rng.randrange(-(10**7), 10**7) / 100:.2f}"),
    }


def _pricing(rng: random.Random, number: int, organizations: list[ObjectId]) -> Document:
    return {
        "organizationId": rng.choice(organizations),
        "_id": f"price-{number}",
        "item": _sentence(rng, 3),
        "tiers": [{"from": step * 10, "price": rng.randrange(100, 99999) / 100} for step in range(3)],
    }


def _invoice(rng: random.Random, number: int, organizations: list[ObjectId]) -> Document:
    issued = _moment(rng)
    return {
        "_id": _identity("invoice", number),
        "number": Int64(10_000_000_000 + number),
        "organizationId": rng.choice(organizations),
        "status": rng.choice(STATUSES),
        "issuedAt": issued,
        "dueAt": issued + timedelta(days=30),
        "lines": [
            {"text": _sentence(rng, 6), "quantity": rng.randrange(1, 20), "price": rng.randrange(10**6) / 100}
            for _ in range(rng.randrange(1, 6))
        ],
        "notes": _sentence(rng, rng.randrange(30)) or None,
    }


def _audit_log(rng: random.Random, number: int, organizations: list[ObjectId]) -> Document:
    return {
        "_id": _identity("auditLog", number),
        "organizationId": rng.choice(organizations),
        "timestamp": _moment(rng),
        "action": rng.choice(ACTIONS),
        "entityType": rng.choice(ENTITIES),
        "entityId": rng.randbytes(12).hex(),
        "userEmail": f"user{rng.randrange(USERS)}@example.com",
        "ipAddress": f"192.0.2.{rng.randrange(256)}",
        "details": {"before": None, "after": {"text": _sentence(rng, 8)}},
    }


def _otp(rng: random.Random, number: int, _organizations: list[ObjectId]) -> Document:
    created = _moment(rng)
    return {
        "_id": _identity("otp", number),
        "email": f"user{rng.randrange(USERS)}@example.com",
        "codeHash": rng.randbytes(32).hex(),
        "expiresAt": created + timedelta(minutes=10),
        "createdAt": created,
    }
