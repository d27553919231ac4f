# ruff: noqa: S608  # the queries are put together from constants
"""Take care of a PostgreSQL database's indexes and tables, without keeping anybody from them."""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import sql

from tasks.credentials import resolve
from tasks.errors import NotFoundError, RunbookError, UnreachableError
from tasks.postgresql import Address, connect, parse_url
from tasks.postgresql_bloat import list_bloat
from tasks.postgresql_index_listing import SOURCE, list_indexes
from tasks.postgresql_upkeep import list_ages, list_sequences, list_table_states
from tasks.records.index_care import CareAct, IndexCareFacts, IndexUseFacts
from tasks.records.indexes import IndexFacts
from tasks.records.section import Reference

# An index is rebuilt as long as it takes; a lock is never waited for that long: others queue up behind us.
LOCK_SECONDS: Final = 60
_WORKING = f"-c statement_timeout=0 -c lock_timeout={LOCK_SECONDS}s"
_LOOKING = "-c statement_timeout=600s -c lock_timeout=10s"
# From here on the server notices by itself that a client was killed, and lets go of what it was doing.
_NOTICES_KILLED, _REINDEXES_CONCURRENTLY = 140000, 120000
_END_SECONDS = 30.0
_LEFTOVER = re.compile(r"_cc(?:new|old)\d*$")
_TABLE = SOURCE.format(oid="c.oid", name="c.relname", schema="n.nspname")
_FIND_TABLE = f"""
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND {_TABLE} = %s"""
_LEFT = """
    SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND NOT i.indisvalid"""
_OURS = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND application_name = 'runbooks' AND query ~ '^(REINDEX|DROP INDEX|VACUUM|ANALYZE) '"""
_STATEMENTS: Final = {
    "remove": "DROP INDEX CONCURRENTLY IF EXISTS {}",
    "drop": "DROP INDEX CONCURRENTLY IF EXISTS {}",
    "rebuild": "REINDEX INDEX CONCURRENTLY {}",
    "vacuum": "VACUUM (ANALYZE) {}",
    "analyze": "ANALYZE {}",
}


class PostgresqlIndexCare:
    """The database that a service's application works in, as an administrator sees it."""

    def __init__(self, admin_url: Reference, url: str) -> None:
        """Learn the database's name from the application's own URL; nothing is opened yet."""
        self._admin_url, self._database = admin_url, parse_url(url).database

    def _address(self, options: str) -> Address:
        return parse_url(resolve(self._admin_url), self._database).with_options(options)

    def observe_use(self) -> IndexUseFacts:
        """Return every index with its uses, and whether the server counts them."""
        with connect(self._address(_LOOKING)) as connection:
            return _observe_use(connection)

    def observe(self) -> IndexCareFacts:
        """Return all that care is decided by."""
        with connect(self._address(_LOOKING)) as connection:
            oid = _read(connection, "SELECT oid FROM pg_database WHERE datname = current_database()")
            return IndexCareFacts(
                **dict(_observe_use(connection)),
                identity=f"oid {oid}",
                cannot_rebuild=""
                if _rebuilds(connection)
                else "No index is rebuilt: this server is older than PostgreSQL 12, which learned to do it "
                "while others write.",
                bloat=list_bloat(connection),
                tables=list_table_states(connection),
                sequences=list_sequences(connection),
                ages=list_ages(connection),
            )

    def apply(self, act: CareAct) -> None:
        """Do an act; raise ``RunbookError`` where a lock was not to be had."""
        with connect(self._address(_WORKING)) as connection:
            if connection.info.server_version >= _NOTICES_KILLED:
                connection.execute("SET client_connection_check_interval = '1s'")
            schema, table = _find_table(connection, act.source)
            name = sql.Identifier(schema, act.name or table)
            with _locking(act):
                try:
                    connection.execute(sql.SQL(_STATEMENTS[act.kind]).format(name))
                except psycopg.Error:
                    if act.kind == "rebuild" and not connection.broken:
                        # Whoever was in the way of the rebuild may be in the way of this as well.
                        with suppress(psycopg.errors.LockNotAvailable):
                            _remove_left(connection, schema, table)
                    raise

    def list_invalid(self) -> tuple[IndexFacts, ...]:
        """Return every index that is not valid."""
        return tuple(index for index in self.observe_use().indexes if not index.is_valid)

    def end_own_work(self) -> None:
        """End what a killed run's session still does; raise ``UnreachableError`` if it does not end."""
        with connect(self._address(_LOOKING)) as connection:
            deadline = time.monotonic() + _END_SECONDS
            while at_work := connection.execute(_OURS).fetchall():
                for (pid,) in at_work:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                if time.monotonic() > deadline:
                    raise UnreachableError(
                        f"The session {at_work[0][0]} of a killed run does not end: end it by hand."
                    )
                time.sleep(0.1)


def _observe_use(connection: psycopg.Connection) -> IndexUseFacts:
    replicas = _read(connection, "SELECT count(*) FROM pg_stat_replication")
    counts = _read(connection, "SELECT current_setting('track_counts')") == "on"
    return IndexUseFacts(
        observed_at=datetime.now(UTC),
        indexes=list_indexes(connection),
        uncounted="" if counts else "the server's track_counts is off, so that it counts no use.",
        counted_by=f"Uses are those of this server: {replicas} replicas count their own." if replicas else "",
    )


def _rebuilds(connection: psycopg.Connection) -> bool:
    return connection.info.server_version >= _REINDEXES_CONCURRENTLY


def _read(connection: psycopg.Connection, query: str) -> object:
    return (connection.execute(query.encode()).fetchone() or (None,))[0]


def _find_table(connection: psycopg.Connection, source: str) -> tuple[str, str]:
    row = connection.execute(_FIND_TABLE.encode(), [source]).fetchone()
    if row is None:
        raise NotFoundError(f"The table {source} is gone: somebody dropped it. Start the runbook again.")
    return str(row[0]), str(row[1])


def _remove_left(connection: psycopg.Connection, schema: str, table: str) -> None:
    """Drop what a rebuild that failed has left of a table's indexes."""
    for (name,) in connection.execute(_LEFT, [schema, table]).fetchall():
        if _LEFTOVER.search(name):
            drop = sql.SQL(_STATEMENTS["remove"]).format(sql.Identifier(schema, name))
            connection.execute(drop)


@contextmanager
def _locking(act: CareAct) -> Generator[None]:
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise RunbookError(
            f"{act.key} could not be taken care of ({act.kind}): another session's transaction was in the "
            f"way for {LOCK_SECONDS} s. Start the runbook again when that is over: it begins anew, and drops "
            "what was built in vain."
        ) from None
