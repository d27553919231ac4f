"""Which database a name stands for now: it becomes another one when a restore puts another in its place."""

import hashlib

from tasks.credentials import resolve
from tasks.mongodb import connect as connect_mongodb
from tasks.mongodb_snapshot import list_shapes
from tasks.postgresql import connect as connect_postgresql
from tasks.postgresql import parse_url
from tasks.records.section import Reference
from tasks.retrying import retried

MISSING = "missing"


@retried
def identify_mongodb(admin_url: Reference, database: str) -> str:
    """Given a MongoDB database, return a fingerprint of its collections' own identities."""
    with connect_mongodb(resolve(admin_url)) as client:
        shapes = list_shapes(client, database)
    if not shapes:
        return MISSING
    identities = "\n".join(f"{shape.name} {(shape.uuid or b'').hex()}" for shape in shapes)
    return hashlib.sha256(identities.encode()).hexdigest()[:12]


@retried
def identify_postgresql(admin_url: Reference, database: str) -> str:
    """Given a PostgreSQL database, return its object id."""
    with connect_postgresql(parse_url(resolve(admin_url))) as connection:
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [database]).fetchone()
    return MISSING if row is None else f"oid {row[0]}"
