"""Examine a PostgreSQL database for damage: amcheck of every table and B-tree, and one full read."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import sql

from tasks.credentials import resolve
from tasks.errors import ConfigurationError, SourceError
from tasks.postgresql import connect, parse_url
from tasks.postgresql_client import find_client, running
from tasks.records.section import Reference
from tasks.retrying import is_transient

# No limit that is meant for the application may cut the examination short; no lock is waited for all night.
_EXAMINING = (
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c lock_timeout=60s -c default_transaction_read_only=off"
)
_SCHEMA = "runbooks_examination"
# Temporary tables are other sessions' own.
_TABLES = """
    SELECT 'table', c.oid::bigint, c.oid::regclass::text
    FROM pg_class c JOIN pg_am a ON a.oid = c.relam
    WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' ORDER BY 3"""
_INDEXES = """
    SELECT 'index', c.oid::bigint, c.oid::regclass::text
    FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid
    WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid ORDER BY 3"""
# A relation that was dropped since gives no row, and no error that looks like damage.
_CHECKS = {
    "table": """
        SELECT format('block %%s: %%s', blkno, msg)
        FROM pg_class c, {}.verify_heapam(c.oid, on_error_stop := true) WHERE c.oid = %s LIMIT 1""",
    "index": "SELECT NULL FROM pg_class c WHERE c.oid = %s AND {}.bt_index_check(c.oid, true) IS NULL",
}
# Data or index corrupted, a file that cannot be read, and what the server never expected to find.
_DAMAGE = {"XX000", "XX001", "XX002", "58030", "58P01"}


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
)
def examine_database(admin_url: Reference, database: str, client_directory: Path | None) -> tuple[str, ...]:
    """Given an administrator's reference and a database, return a sentence for each damaged relation.

    None means that it is sound. Raise ``ConfigurationError`` if the server has no amcheck.
    """
    address = parse_url(resolve(admin_url), database).with_options(_EXAMINING)
    with connect(address, autocommit=False) as connection:
        found = _check_relations(connection)
        connection.rollback()
    command = [find_client("pg_dump", client_directory), "--no-password", "--file=/dev/null"]
    with running(command, address) as dump:
        problem = dump.finish()
    if isinstance(problem, SourceError):
        found.append(f"The database cannot be read in full: {problem}")
    elif problem is not None:
        raise problem
    return tuple(found)


def _check_relations(connection: psycopg.Connection) -> list[str]:
    found = []
    try:
        with _amcheck(connection) as schema:
            relations = [*connection.execute(_TABLES).fetchall(), *connection.execute(_INDEXES).fetchall()]
            for kind, oid, name in relations:
                if (problem := _check(connection, sql.SQL(_CHECKS[kind]).format(schema), oid)) is not None:
                    found.append(f"The {kind} {name} is damaged: {problem}.")
    except psycopg.Error as error:
        found.append(f"The database's own catalog is damaged: {_damage(error)}.")
    return found


@contextmanager
def _amcheck(connection: psycopg.Connection) -> Generator[sql.Identifier]:
    """Yield the schema of amcheck; made for the examination, and never committed, where there is none."""
    query = (
        "SELECT nspname FROM pg_namespace n JOIN pg_extension ON extnamespace = n.oid AND extname = 'amcheck'"
    )
    if (row := connection.execute(query).fetchone()) is not None:
        yield sql.Identifier(row[0])
        return
    if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'amcheck'").rowcount == 0:
        raise ConfigurationError(
            "The PostgreSQL server has no amcheck, which finds damage: install the package of the server's "
            "contrib modules."
        )
    schema = sql.Identifier(_SCHEMA)
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        connection.execute(sql.SQL("CREATE EXTENSION amcheck SCHEMA {}").format(schema))
        yield schema


def _check(connection: psycopg.Connection, query: sql.Composed, oid: int) -> str | None:
    """Return what is wrong with a relation, if anything; its locks are let go again."""
    try:
        with connection.transaction(force_rollback=True):
            row = connection.execute(query, (oid,)).fetchone()
    except psycopg.Error as error:
        return _damage(error)
    return str(row[0]) if row else None


def _damage(error: psycopg.Error) -> str:
    """Given an error that tells of damage, return what it says; raise any other."""
    if error.sqlstate not in _DAMAGE:
        raise error
    return str(error.diag.message_primary)
