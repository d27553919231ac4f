"""The indexes of a PostgreSQL database: listed, built and dropped while the application reads and writes."""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError, SourceError
from tasks.postgresql import Address, connect, parse_url, translated
from tasks.postgresql_index_duplicates import find_duplicates
from tasks.postgresql_index_listing import find_table, list_columns, list_indexes, list_tables
from tasks.records.data_care import RecommendedIndex
from tasks.records.indexes import BuildFacts, IndexFacts

# While it waits, it holds up nobody but others who would change the table's indexes.
_LOCK_TIMEOUT: Final = "5min"
_POLL_SECONDS = 1.0
# What a concurrent rebuild calls the new one until it is done, and the old one until it is gone.
_OF_A_REBUILD = re.compile(r"_cc(new|old)\d*$")
_PROGRESS = """
    SELECT phase,
        coalesce(nullif(blocks_total, 0), nullif(tuples_total, 0), nullif(lockers_total, 0)) AS total,
        CASE WHEN blocks_total > 0 THEN blocks_done WHEN tuples_total > 0 THEN tuples_done
             ELSE lockers_done END AS done
    FROM pg_stat_progress_create_index WHERE relid = %s::oid"""


class PostgresqlIndexes:
    """The indexes of the database that a URL names. Connections are opened and closed within each call."""

    def __init__(self, url: str) -> None:
        """Keep the address; nothing is opened yet."""
        self._address = parse_url(url)

    def list_sources(self) -> tuple[str, ...]:
        """Return the tables."""
        with connect(self._address) as connection:
            return list_tables(connection)

    def list_indexes(self) -> tuple[IndexFacts, ...]:
        """Return every index of every table."""
        with connect(self._address) as connection:
            return list_indexes(connection)

    def examine(self, wanted: RecommendedIndex) -> BuildFacts:
        """Return what a build would meet; what is free on the disk, SQL does not tell."""
        with connect(self._address) as connection:
            table = find_table(connection, wanted.source)
            columns = list_columns(connection, table)
            if table.partitioned:
                obstacle = "PostgreSQL builds no index of a partitioned table concurrently"
                return BuildFacts(columns=columns, obstacle=obstacle)
            if not wanted.unique or not wanted.key.keys() <= set(columns):
                return BuildFacts(columns=columns)
            _wait_long(connection, self._address)
            found = find_duplicates(connection, table, tuple(wanted.key))
            return BuildFacts(columns=columns, duplicates=found)

    def build(self, index: IndexFacts) -> None:
        """Build an index, or what a failed build left again in its place; failing leaves nothing more."""
        with connect(self._address) as connection:
            _wait_long(connection, self._address)
            make = _create if index.is_valid else _rebuild
            try:
                with translated(str(self._address)), _judged(self._address, index):
                    connection.execute(make(connection, index))
            except RunbookError as error:
                if connection.broken:
                    raise
                self._clear_after(error, index)
                raise

    def _clear_after(self, error: RunbookError, index: IndexFacts) -> None:
        try:
            self.clear(index)
        except RunbookError as left:
            raise type(error)(f"{error} What it left could not be dropped: {left}") from error

    def drop(self, index: IndexFacts) -> None:
        """Drop an index; one that is gone is no error."""
        with connect(self._address) as connection, _judged(self._address, index):
            _wait_long(connection, self._address)
            connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(_identify(connection, index))
            )

    def clear(self, index: IndexFacts) -> bool:
        """Wait until nobody builds this index any more, and drop what a failed build of it left.

        One that was left before is given as not valid, and stays. Return whether it is there and valid.
        """
        while any(_is_of(found, index) and found.is_building for found in self.list_indexes()):
            time.sleep(_POLL_SECONDS)
        found = [one for one in self.list_indexes() if _is_of(one, index)]
        for one in found:
            if not one.is_valid and (one.name != index.name or index.is_valid):
                self.drop(one)
        return any(one.name == index.name and one.is_valid for one in found)

    def read_progress(self, index: IndexFacts) -> str | None:
        """Return how far the build is, in words; None when nothing is being built."""
        with connect(self._address) as connection, connection.cursor(row_factory=namedtuple_row) as cursor:
            table = find_table(connection, index.source)
            row: Any = cursor.execute(_PROGRESS, [table.oid]).fetchone()
        if row is None:
            return None
        return f"{row.phase}, {row.done / row.total:.0%}" if row.total else str(row.phase)

    def explain(self, index: IndexFacts) -> str | None:
        """Return the index that a query in the order of this one's keys uses, "" for none."""
        with connect(self._address, autocommit=False) as connection:
            for setting in ("seqscan", "sort", "incremental_sort", "bitmapscan"):
                connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(f"enable_{setting}")))
            query = sql.SQL("EXPLAIN (FORMAT JSON) SELECT 1 FROM {} ORDER BY {}").format(
                find_table(connection, index.source).identifier,
                sql.SQL(", ").join(
                    sql.SQL("{} {}").format(sql.Identifier(key), sql.SQL("ASC" if kind == "1" else "DESC"))
                    for key, kind in index.key
                ),
            )
            ((explained,),) = connection.execute(query).fetchall()
        return _find_index(explained[0]["Plan"])


def _find_index(plan: dict[str, Any]) -> str:
    if "Index Name" in plan:
        return str(plan["Index Name"])
    return next(filter(None, map(_find_index, plan.get("Plans", []))), "")


def _is_of(found: IndexFacts, index: IndexFacts) -> bool:
    """Is it this index, or what a rebuild of it made?"""
    if found.source != index.source:
        return False
    return found.name == index.name or (
        found.key == index.key and not found.is_valid and _OF_A_REBUILD.search(found.name) is not None
    )


def _create(connection: psycopg.Connection, index: IndexFacts) -> sql.Composed:
    return sql.SQL("CREATE {} CONCURRENTLY {} ON {} ({})").format(
        sql.SQL("UNIQUE INDEX" if index.unique else "INDEX"),
        sql.Identifier(index.name),
        find_table(connection, index.source).identifier,
        _list_keys(index),
    )


def _rebuild(connection: psycopg.Connection, index: IndexFacts) -> sql.Composed:
    return sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(_identify(connection, index))


def _list_keys(index: IndexFacts) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(key), sql.SQL("ASC" if kind == "1" else "DESC"))
        for key, kind in index.key
    )


def _identify(connection: psycopg.Connection, index: IndexFacts) -> sql.Identifier:
    return sql.Identifier(find_table(connection, index.source).schema, index.name)


def _wait_long(connection: psycopg.Connection, address: Address) -> None:
    """Let a statement take its time: a limit that suits the application's queries would end every build.

    A pooler would hand the session on with these settings, and give the build another one without them: its
    process is not the one that it named when it let us in.
    """
    if connection.execute("SELECT pg_backend_pid()").fetchall() != [(connection.info.backend_pid,)]:
        raise ConfigurationError(
            f"{address} is a pooler's, which no index can be built through: let database.url_variable name "
            "the URL that goes past it, such as Prisma's DIRECT_URL."
        )
    connection.execute("SET statement_timeout = 0")
    connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))


@contextmanager
def _judged(address: Address, index: IndexFacts) -> Generator[None]:
    """Raise what concerns indexes as a sentence of its own; a value that is there twice stays unsaid."""
    what = f"{index.name} on {index.source}"
    try:
        yield
    except psycopg.errors.UniqueViolation:
        raise SourceError(
            f"{address}: {what} cannot be unique, a value came in twice since the plan was made: start "
            "again, the new plan names it."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise RunbookError(
            f"{address}: {what} waited {_LOCK_TIMEOUT} for a transaction that does not end: find it in "
            "pg_stat_activity by its xact_start, end it, and start again."
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        raise AccessDeniedError(
            f"{address} does not let {address.user} change {what}: that takes the owner of the table (ALTER "
            "TABLE ... OWNER TO) who may create in its schema (GRANT CREATE ON SCHEMA)."
        ) from None
