"""Apply PropertyPulse's pending migrations, from its folder: `python -m deployments.sandbox.migrate`.

Stands for `npx prisma migrate deploy`, whose engine is a download, and keeps Prisma's own records.
"""

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tasks.environment_file import parse

MIGRATIONS = Path("prisma") / "migrations"
TABLE = """
CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id VARCHAR(36) PRIMARY KEY,
    checksum VARCHAR(64) NOT NULL,
    finished_at TIMESTAMPTZ,
    migration_name VARCHAR(255) NOT NULL,
    logs TEXT,
    rolled_back_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
)
"""
APPLIED = """
SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL
"""
RECORD = """
INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
VALUES (gen_random_uuid()::text, %(checksum)s, %(name)s, %(started)s, clock_timestamp(), 1)
"""


def main() -> int:
    """Apply what is pending, each migration in a transaction with its record; say what was done."""
    address = urlsplit(parse(Path(".env").read_text(encoding="utf-8"))["DATABASE_URL"])
    # What follows the question mark is Prisma's, and libpq refuses it.
    with psycopg.connect(address._replace(query="").geturl(), autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(TABLE)
        applied = {name for (name,) in connection.execute(APPLIED)}
        folders = sorted(script.parent for script in MIGRATIONS.glob("*/migration.sql"))
        pending = [folder for folder in folders if folder.name not in applied]
        for folder in pending:
            try:
                _apply(connection, folder)
            except psycopg.Error as error:
                print(f"Migration {folder.name} failed: {error.diag.message_primary}", file=sys.stderr)
                return 1
            print(f"Applied migration {folder.name}")
    print(f"{len(folders)} migrations found, {len(pending)} applied")
    return 0


def _apply(connection: psycopg.Connection, folder: Path) -> None:
    text = (folder / "migration.sql").read_bytes()
    record = {
        "checksum": hashlib.sha256(text).hexdigest(),
        "name": folder.name,
        "started": datetime.now(UTC),
    }
    with connection.transaction():
        connection.execute(text)
        connection.execute(RECORD, record)


if __name__ == "__main__":
    sys.exit(main())
