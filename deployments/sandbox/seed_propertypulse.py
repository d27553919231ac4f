"""Made-up data of PropertyPulse: the tables as Prisma makes them, the same rows every time, and nasty ones.

The rows are computed by PostgreSQL itself from hashes of their numbers: no randomness, no memory, and fast.
"""

import hashlib
from pathlib import Path

import psycopg
from psycopg import sql

from deployments.sandbox import migrate
from deployments.sandbox.errors import SandboxError

VERSION = 1
MIGRATIONS = Path(__file__).parent / "apps" / "propertypulse-api" / migrate.MIGRATIONS
ROWS = Path(__file__).with_name("seed_propertypulse.sql")
ODDITIES = Path(__file__).with_name("seed_propertypulse_oddities.sql")

# Rows at scale 1.
COUNTS = {
    "users": 300,
    "properties": 200,
    "leases": 400,
    "payments": 2400,
    "uploads": 150,
    "requests": 300,
    "audits": 500,
}

RECORD_MIGRATION = """
INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
VALUES (md5(%(name)s)::uuid::text, %(checksum)s, %(name)s, '2024-03-01 02:00Z', '2024-03-01 02:00:01Z', 1)
"""


def seed(url: str, scale: float = 1) -> None:
    """Fill the database that the URL names, in one transaction, unless this very data is in it.

    Args:
        url: of a role that owns the database and is to own the tables.
        scale: 1 is about four thousand rows, 1000 about a gigabyte of them.

    Raises:
        SandboxError: the database was filled at another scale.
    """
    mark = f"sandbox seed {VERSION} scale {scale:g}"
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        if found and found[0] == mark:
            return
        if found and found[0]:
            raise SandboxError(
                f"The PostgreSQL database {connection.info.dbname} holds {found[0]!r}, not {mark!r}:"
                " use another state folder, or remove this one after `down`."
            )
        _migrate(connection)
        _fill(connection, scale)
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(mark)))


def _migrate(connection: psycopg.Connection) -> None:
    """Apply every migration and record it, as `prisma migrate deploy` does."""
    connection.execute(migrate.TABLE)
    for script in sorted(MIGRATIONS.glob("*/migration.sql")):
        text = script.read_bytes()
        connection.execute(text)
        checksum = hashlib.sha256(text).hexdigest()
        connection.execute(RECORD_MIGRATION, {"name": script.parent.name, "checksum": checksum})


def _fill(connection: psycopg.Connection, scale: float) -> None:
    connection.execute("SET LOCAL timezone = 'UTC'")
    for name, count in COUNTS.items():
        # SET takes no parameters; set_config does.
        connection.execute(
            "SELECT set_config(%s, %s, true)", [f"seed.{name}", str(max(1, round(count * scale)))]
        )
    connection.execute(ROWS.read_bytes())
    connection.execute(ODDITIES.read_bytes())
