"""What PostgreSQL counted of its statements, what is at work now, and how it means to run one.

https://www.postgresql.org/docs/current/pgstatstatements.html
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import AccessDeniedError
from tasks.postgresql import connect, parse_url
from tasks.postgresql_sessions import MAY_SEE_ROLE
from tasks.records.section import Reference
from tasks.records.service import ServiceProfile
from tasks.records.slow_queries import RunningStatement, Statement

Connection = psycopg.Connection

_EXPLAIN_MILLISECONDS: Final = 5_000
_PREPARED: Final = "runbooks_explained"
_EXTENSION = """
SELECT n.nspname, string_to_array(e.extversion, '.')::int[]
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
"""
# Since then it has these columns.
_OLDEST_EXTENSION = [1, 8]
_EVICTIONS_TOLD = [1, 9]
# Either setting makes that nothing is counted; a role and a database may have their own.
_COUNTING_ENDED_BY = (("pg_stat_statements.track", "none", "top"), ("compute_query_id", "off", "auto"))
_STATEMENTS = """
SELECT userid || '.' || queryid AS identity, min(query) AS text, sum(calls)::bigint AS calls,
       sum(total_exec_time) AS milliseconds, max(max_exec_time) AS longest, sum(rows)::bigint AS rows,
       sum(shared_blks_hit)::bigint AS blocks_hit, sum(shared_blks_read)::bigint AS blocks_read,
       sum(temp_blks_read + temp_blks_written)::bigint AS blocks_temporary
FROM {} WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND queryid IS NOT NULL AND query IS NOT NULL
GROUP BY userid, queryid
"""
# What this user may not see has no more than its numbers.
_HIDDEN_STATEMENTS = """
SELECT count(*) FROM {} WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND queryid IS NULL
"""
_RUNNING = """
SELECT pid || ' ' || query_start AS identity, query AS text,
       1000 * extract(epoch FROM clock_timestamp() - query_start)::float8 AS milliseconds
FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND backend_type = 'client backend'
      AND pid <> pg_backend_pid() AND query_start <= clock_timestamp() - %s * interval '1 millisecond'
      AND application_name <> 'runbooks'
"""
# Nor is it told of these what they are and whether they are at work.
_HIDDEN_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename IS NOT NULL AND backend_type IS NULL
      AND application_name <> 'runbooks'
"""
_SIZES = """
SELECT CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || c.relname, pg_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


@dataclass(frozen=True)
class Counted:
    """What was counted of all statements; ``evicted`` says how often the least used were dropped."""

    statements: tuple[Statement, ...]
    hidden: int
    evicted: int | None


@dataclass(frozen=True)
class Explained:
    """A statement's plan as the server says it, with its literals; or why there is none, as a clause."""

    plan: dict[str, Any] | None
    table_bytes: dict[str, int]
    reason: str = ""


class PostgresqlQueries:
    """The statements of the database that a service's application works in."""

    def __init__(self, admin_url: Reference, url: str) -> None:
        """Learn the database's name from the application's own URL; nothing is opened yet."""
        self._admin_url, self._application = admin_url, parse_url(url)

    @contextmanager
    def _open(self) -> Generator[Connection]:
        address = parse_url(resolve(self._admin_url), self._application.database)
        with connect(address) as connection:
            if connection.execute(MAY_SEE_ROLE, [self._application.user]).fetchone() != (True,):
                raise AccessDeniedError(
                    f"{address} does not show this user the application's statements: give the user of "
                    "database.admin_url the role pg_read_all_stats."
                )
            yield connection

    def find_why_not_counted(self) -> str:
        """Return why there are no counts to rely on, as a clause; "" if there are."""
        with self._open() as connection:
            found = connection.execute(_EXTENSION).fetchone()
            if found is None:
                return "the database does not have the extension pg_stat_statements"
            schema, version = found
            if version < _OLDEST_EXTENSION:
                return (
                    "its pg_stat_statements is older than 1.8: run ALTER EXTENSION pg_stat_statements UPDATE"
                )
            try:
                connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(_relation(schema)))
            except psycopg.errors.ObjectNotInPrerequisiteState:
                return "the server does not load pg_stat_statements: name it in shared_preload_libraries"
            except psycopg.errors.InsufficientPrivilege:
                return "its user may not read pg_stat_statements: grant it the role pg_read_all_stats"
        return self._find_what_ended_counting()

    def _find_what_ended_counting(self) -> str:
        with connect(self._application) as connection:
            for setting, value, wanted in _COUNTING_ENDED_BY:
                # NULL where the server has no such setting.
                found = connection.execute("SELECT current_setting(%s, true)", [setting]).fetchone()
                if found == (value,):
                    return (
                        f"the server counts none of the application's statements while {setting} is {value}: "
                        f"set it to {wanted}"
                    )
        return ""

    def count(self) -> Counted:
        """Return what was counted so far."""
        with self._open() as connection:
            found = connection.execute(_EXTENSION).fetchone()
            schema, version = found if found is not None else ("public", _OLDEST_EXTENSION)
            with connection.cursor(row_factory=class_row(Statement)) as cursor:
                rows = cursor.execute(sql.SQL(_STATEMENTS).format(_relation(schema))).fetchall()
            hidden = connection.execute(sql.SQL(_HIDDEN_STATEMENTS).format(_relation(schema))).fetchone()
            evicted = None
            if version >= _EVICTIONS_TOLD:
                info = sql.Identifier(schema, "pg_stat_statements_info")
                told = connection.execute(sql.SQL("SELECT dealloc FROM {}").format(info)).fetchone()
                evicted = None if told is None else int(told[0])
        return Counted(statements=tuple(rows), hidden=hidden[0] if hidden else 0, evicted=evicted)

    @contextmanager
    def follow(self) -> Generator["Activity"]:
        """Hold a connection by which what is at work is read again and again."""
        with self._open() as connection:
            yield Activity(connection)

    def explain(self, text: str) -> Explained:
        """Given a statement, return how the server means to run it; it is not run.

        It is prepared by the application's own user, in a transaction that only reads: more than one
        statement, or one that is no query, is refused by the server.
        """
        with connect(self._application, autocommit=False) as connection:
            connection.read_only = True
            return _explain(connection, text)


class Activity:
    """A connection that follows what other sessions of the database do."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection."""
        self._connection = connection

    def list_running(self, slow_milliseconds: int) -> tuple[tuple[RunningStatement, ...], int]:
        """Return what has been at work for so long, and of how many sessions this user is shown nothing."""
        with self._connection.cursor(row_factory=class_row(RunningStatement)) as cursor:
            rows = cursor.execute(_RUNNING, [slow_milliseconds]).fetchall()
        hidden = self._connection.execute(_HIDDEN_SESSIONS).fetchone()
        return tuple(row for row in rows if row.text), hidden[0] if hidden else 0


def open_queries(profile: ServiceProfile) -> PostgresqlQueries:
    """Given a service on PostgreSQL, return its statements; nothing is opened yet."""
    return PostgresqlQueries(
        profile.database.admin_url, read_variable(profile, profile.database.url_variable)
    )


def _explain(connection: Connection, text: str) -> Explained:
    connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(_EXPLAIN_MILLISECONDS)))
    # A literal's place is a parameter: planned for any value, as the counted text has none.
    connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    try:
        connection.execute(f"PREPARE {_PREPARED} AS {text}".encode(), prepare=True)
        counted = connection.execute(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = %s", [_PREPARED]
        ).fetchone()
        nulls = ", ".join(["NULL"] * (counted[0] if counted else 0))
        arguments = f" ({nulls})" if nulls else ""
        explained = connection.execute(
            f"EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE {_PREPARED}{arguments}".encode()
        ).fetchone()
        sizes: dict[str, int] = dict(connection.execute(_SIZES).fetchall())
    except psycopg.errors.QueryCanceled:
        return Explained(None, {}, "to plan it took more than five seconds")
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        # What the server says of it may quote its literals.
        return Explained(None, {}, f"the server does not plan it ({error.sqlstate})")
    finally:
        if not connection.closed:
            connection.rollback()
    return Explained(explained[0][0] if explained else None, sizes)


def _relation(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "pg_stat_statements")
