"""Hold one moment of a PostgreSQL database, for pg_dump and for us."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import sql

from tasks.postgresql import Address, connect, translated
from tasks.postgresql_catalog import TableShape, list_tables
from tasks.records.backup import Consistency

# A migration may take its time; one that somebody left open must not keep us from failing by the morning.
LOCK_MILLISECONDS: Final = 600_000


@dataclass(frozen=True)
class PostgresqlSnapshot:
    """A held moment: while the connection lives, pg_dump and we read the same rows."""

    address: Address
    snapshot_id: str
    server_version: str
    connection: psycopg.Connection
    consistency: Consistency


@contextmanager
def hold_snapshot(address: Address) -> Generator[PostgresqlSnapshot]:
    """Given a database, export one repeatable-read snapshot and hold it."""
    with connect(address, autocommit=False) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        # The holder idles while pg_dump works: no time limit of the server's may end it.
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
            if connection.execute("SELECT FROM pg_settings WHERE name = %s", (limit,)).rowcount:
                connection.execute(sql.SQL("SET {} = 0").format(sql.Identifier(limit)))
        connection.execute(sql.SQL("SET lock_timeout = {}").format(LOCK_MILLISECONDS))
        connection.execute("SET search_path = ''")
        row = connection.execute(
            "SELECT pg_export_snapshot(), current_setting('server_version'), now()::text"
        ).fetchone()
        snapshot_id, version, moment = row or ("", "", "")
        yield PostgresqlSnapshot(
            address,
            snapshot_id,
            version,
            connection,
            Consistency(
                method="exported-snapshot",
                moment=moment,
                explanation="pg_dump, the counts and the definitions read one exported snapshot.",
            ),
        )


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_tables(snapshot: PostgresqlSnapshot) -> tuple[TableShape, ...]:
    """Given a held snapshot, return the tables to save, by name."""
    with translated(str(snapshot.address)):
        return list_tables(snapshot.connection)
