"""Cleanup in PostgreSQL: what has expired is read as COPY writes it, and goes if it is still exactly that."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql

from tasks.errors import LockedError, RefusedError, RunbookError, SourceError
from tasks.postgresql import connect, parse_url
from tasks.postgresql_cleanup_rows import (
    adjust,
    compare,
    delete_unchanged,
    insert,
    name_row,
    table_with,
    take_expired,
)
from tasks.postgresql_cleanup_table import (
    CleanupTable,
    check_hold,
    expired,
    find_table,
    find_time_index,
    has_time,
    held,
    list_cautions,
    list_obstacles,
    list_sources,
)
from tasks.records.cleanup import MonthOfExpired, RuleFacts
from tasks.records.data_care import CleanupRule

# A batch of changes is short; to count a large table is not.
_SHORT: Final = "60s"
_LONG: Final = "30min"
# What Python's calendar holds: years before and after are for the server alone.
_CALENDAR: Final = sql.SQL("BETWEEN '0001-01-02' AND '9999-12-30'")
_COUNT: Final = """
    SELECT CASE WHEN {expired} THEN to_char({time}, 'YYYY-MM') END, count(*),
           count(*) FILTER (WHERE {expired} AND {held}),
           coalesce(sum(pg_column_size({row}.*)) FILTER (WHERE {expired} AND NOT {held}), 0)::bigint,
           count(*) FILTER (WHERE {time} IS NULL OR NOT isfinite({time})),
           max({time}) FILTER (WHERE {time} {calendar})::timestamptz
    FROM ONLY {table} GROUP BY 1 ORDER BY 1"""


class PostgresqlCleanup:
    """A service's PostgreSQL database, for cleanup."""

    def __init__(self, url: str, admin_url: str) -> None:
        """Given the application's URL, and one whose user may see the replicas; nothing is asked here."""
        self._address, self._admin = parse_url(url), parse_url(admin_url)

    def observe(self, rule: CleanupRule, cutoff: datetime) -> RuleFacts:
        """Given a rule and its cutoff, return what the rule meets, from one look at the whole table.

        Raise ``ConfigurationError`` if the legal hold is no condition for the table.
        """
        with self._transaction(rule.source, _LONG) as connection:
            table = find_table(connection, rule.source)
            if table is None:
                others = list_sources(connection)
                return RuleFacts(rule=rule.name, source=rule.source, exists=False, others=others)
            check_hold(connection, table, rule)
            facts = RuleFacts(
                rule=rule.name,
                source=rule.source,
                exists=True,
                columns=table.columns,
                has_time_field=table.column(rule.time_field) is not None,
                index=find_time_index(connection, table, rule.time_field),
                obstacles=list_obstacles(connection, table),
                cautions=list_cautions(connection, table),
                storage_bytes=_ask(connection, sql.SQL("pg_total_relation_size({})"), table.oid),
            )
            known = has_time(table, rule.time_field)
            counted = (
                _count(connection, table, rule, cutoff) if known else _count_wrong(connection, table, rule)
            )
            return facts.model_copy(update=counted)

    def read_expired(
        self,
        rule: CleanupRule,
        cutoff: datetime,
        most_entries: int,
        most_bytes: int,
        since: datetime | None = None,
    ) -> tuple[bytes, ...]:
        """Return the oldest rows that are expired and not held, as lines of COPY's text format."""
        # An index gives the oldest at once.
        del since
        with self._transaction(rule.source, _LONG) as connection:
            return tuple(take_expired(connection, rule, cutoff, most_entries, most_bytes))

    def delete(self, rule: CleanupRule, cutoff: datetime, entries: Sequence[bytes]) -> int:
        """Delete those of the rows that are still there as they were read, expired and not held.

        Raise ``RefusedError`` if another table refers to one of them, ``LockedError`` if the application
        holds a lock that we would have to wait for.
        """
        with self._transaction(rule.source, _SHORT) as connection:
            return delete_unchanged(connection, rule, cutoff, entries, _SHORT)

    def insert_missing(
        self, source: str, columns: tuple[str, ...], entries: Sequence[bytes]
    ) -> tuple[int, tuple[str, ...]]:
        """Insert the rows whose primary key is not there; return how many, and what is there otherwise.

        What breaks another unique constraint is there otherwise as well. Raise ``SourceError`` if the table
        no longer takes such rows, ``RefusedError`` if they refer to what is gone.
        """
        with self._transaction(source, _SHORT, inserting=True) as connection:
            table = table_with(connection, source, columns)
            missing, otherwise = compare(connection, table, columns, entries)
            connection.commit()
            inserted, taken = insert(connection, table, columns, missing, _SHORT)
        return inserted, tuple(name_row(table, columns, line) for line in (*otherwise, *taken))

    def compare(
        self, source: str, columns: tuple[str, ...], entries: Sequence[bytes]
    ) -> tuple[int, tuple[str, ...]]:
        """Return how many of the rows are not there, and what is there otherwise, by its primary key."""
        with self._transaction(source, _SHORT) as connection:
            table = table_with(connection, source, columns)
            missing, otherwise = compare(connection, table, columns, entries)
        return len(missing), tuple(name_row(table, columns, line) for line in otherwise)

    def measure(self, source: str) -> tuple[int, int]:
        """Return how many rows there are, and what they and their indexes take on the server's disk."""
        with self._transaction(source, _LONG) as connection:
            table = find_table(connection, source)
            if table is None:
                return 0, 0
            counting = sql.SQL("SELECT count(*), pg_total_relation_size({}) FROM ONLY {}")
            rows = connection.execute(counting.format(sql.Literal(table.oid), table.identifier)).fetchall()
        return int(rows[0][0]), int(rows[0][1])

    def read_clock(self) -> datetime:
        """Return the server's own time."""
        with connect(self._address) as connection:
            moment: datetime = _ask(connection, sql.SQL("clock_timestamp()"))
        return moment.astimezone(UTC)

    def read_lag(self) -> float:
        """Return how many seconds the slowest replica is behind; 0 where none is, or we may not see it."""
        behind = sql.SQL(
            "coalesce((SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication), 0)::float"
        )
        with connect(self._admin) as connection:
            return float(_ask(connection, behind))

    @contextmanager
    def _transaction(
        self, source: str, longest: str, *, inserting: bool = False
    ) -> Generator[psycopg.Connection]:
        """Open a transaction with our settings; what the application's locks and keys say leaves as ours."""
        with connect(self._address, autocommit=False) as connection:
            try:
                adjust(connection, longest)
                yield connection
                # Here and not at the connection's end: a deferred foreign key speaks up only now.
                connection.commit()
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                raise LockedError(
                    f"{self._address}: the application holds a lock on {source}, or on rows of it, for "
                    "longer than we may wait without standing in its way; nothing of this batch was changed."
                ) from None
            except psycopg.errors.QueryCanceled:
                raise SourceError(
                    f"{self._address}: a query on {source} took longer than {longest} and was ended: see "
                    "whether an index on the rule's time field is missing, or the server is under load."
                ) from None
            # Since PostgreSQL 18, ON DELETE RESTRICT says the second.
            except (psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation) as error:
                raise _explain_reference(source, error, inserting=inserting) from None


def _count(
    connection: psycopg.Connection, table: CleanupTable, rule: CleanupRule, cutoff: datetime
) -> dict[str, Any]:
    query = sql.SQL(_COUNT).format(
        expired=sql.SQL("({})").format(expired(table, rule, cutoff)),
        held=held(rule),
        time=sql.Identifier(table.name, rule.time_field),
        row=sql.Identifier(table.name),
        calendar=_CALENDAR,
        table=table.identifier,
    )
    rows = connection.execute(query).fetchall()
    months = (
        MonthOfExpired(month=month, entries=entries - kept, raw_bytes=raw_bytes)
        for month, entries, kept, raw_bytes, _, _ in rows
        if month is not None and entries > kept
    )
    return {
        "entries": sum(row[1] for row in rows),
        "without_time": sum(row[4] for row in rows),
        "held": sum(row[2] for row in rows),
        "newest": max((row[5] for row in rows if row[5] is not None), default=None),
        "months": tuple(months),
    }


def _count_wrong(connection: psycopg.Connection, table: CleanupTable, rule: CleanupRule) -> dict[str, Any]:
    """Count what has no time in its time field, which is all or none of a table."""
    column = table.column(rule.time_field)
    values = sql.SQL("NULL") if column is None else sql.Identifier(table.name, column.name)
    query = sql.SQL("SELECT count(*), count({}) FROM ONLY {}").format(values, table.identifier)
    entries, wrong = connection.execute(query).fetchone() or (0, 0)
    example = f"the column {column.name} of {table} is {column.type}" if column and wrong else ""
    return {
        "entries": entries,
        "wrong_type": wrong,
        "wrong_type_example": example,
        "without_time": entries - wrong,
    }


def _ask(connection: psycopg.Connection, expression: sql.SQL, *values: object) -> Any:
    literals = [sql.Literal(value) for value in values]
    row = connection.execute(sql.SQL("SELECT {}").format(expression.format(*literals))).fetchone()
    return row[0] if row else None


def _explain_reference(source: str, error: psycopg.IntegrityError, *, inserting: bool) -> RunbookError:
    constraint = f"foreign key {error.diag.constraint_name}"
    if inserting:
        return RefusedError(
            f"Rows of the archive refer to others that are no longer there ({constraint} of {source}): "
            "restore those first. Nothing of this batch was inserted."
        )
    return RefusedError(
        f"{error.diag.schema_name}.{error.diag.table_name} still refers to rows of {source} that would be "
        f"deleted ({constraint}): clean it by a rule before this one. Nothing of this batch was deleted."
    )
