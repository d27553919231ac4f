# what comes from outside is put together as identifiers and literals by psycopg
"""Rows as lines of COPY's text format: taken, compared with what is there, deleted and inserted again."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from tasks.copy_lines import read_field, split_line
from tasks.errors import SourceError, UnreachableError
from tasks.postgresql_cleanup_table import CleanupTable, expired, has_policies, held, required_table
from tasks.records.data_care import CleanupRule
from tasks.records.figures import shorten

# Everything is compared with, and written into archives by, one clock and one way of writing; and nothing of
# ours may stand in the application's way: behind who waits for a lock, all others wait as well.
_SETTINGS: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "client_encoding": "UTF8",
    "lock_timeout": "2s",
}
_LINE_END: Final = b"\n"
# A text as a key may be somebody's token or address: who looks for the row needs its beginning.
_TEXTS: Final = {"text", "character varying", "character", "bytea", "citext"}
_LONGEST_TEXT: Final = 12


class Compared(NamedTuple):
    """Rows that are not there, and rows of which another with the same key is there."""

    missing: list[bytes]
    otherwise: list[bytes]


def adjust(connection: psycopg.Connection, longest: str) -> None:
    """Begin a transaction with our settings, in which no query takes longer.

    They hold for the transaction only: behind a pooler, the connection is somebody else's next.
    """
    settings = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
        for name, value in {**_SETTINGS, "statement_timeout": longest}.items()
    )
    connection.execute(sql.SQL("SELECT {}").format(settings))


def take_expired(
    connection: psycopg.Connection,
    rule: CleanupRule,
    cutoff: datetime,
    most_entries: int,
    most_bytes: int,
) -> Iterator[bytes]:
    """Yield the oldest rows that are expired and not held, up to the one that reaches ``most_bytes``."""
    table = required_table(connection, rule.source)
    query = sql.SQL(
        "SELECT {columns} FROM ONLY {table} WHERE {expired} AND NOT {held} ORDER BY {order} LIMIT {most}"
    ).format(
        columns=table.qualify(table.columns),
        table=table.identifier,
        expired=expired(table, rule, cutoff),
        held=held(rule),
        order=table.qualify((rule.time_field, *table.key)),
        most=sql.Literal(most_entries),
    )
    taken = 0
    for line in _copy_out(connection, query):
        yield line
        taken += len(line)
        if taken >= most_bytes:
            return


def delete_unchanged(
    connection: psycopg.Connection,
    rule: CleanupRule,
    cutoff: datetime,
    entries: Iterable[bytes],
    longest: str,
) -> int:
    """Delete those of the rows that are still there to the byte, expired and not held; return how many.

    The statement that deletes says what it deleted, so that nothing can change in between; when that is
    something else than what was read, all of it comes back, and the changed rows are left out.
    """
    table = required_table(connection, rule.source)
    lines = {line for line in entries if len(split_line(line)) == len(table.columns)}
    deleted = _delete(connection, table, rule, cutoff, lines)
    if changed := deleted - lines:
        connection.rollback()
        adjust(connection, longest)
        keys = {_key(table, table.columns, line) for line in changed}
        lines = {line for line in lines if _key(table, table.columns, line) not in keys}
        deleted = _delete(connection, table, rule, cutoff, lines)
        if deleted - lines:
            raise UnreachableError(
                f"{table}: rows were changed while they were being deleted; nothing of this batch was."
            )
    return len(deleted)


def _delete(
    connection: psycopg.Connection,
    table: CleanupTable,
    rule: CleanupRule,
    cutoff: datetime,
    lines: set[bytes],
) -> set[bytes]:
    query = sql.SQL(
        "DELETE FROM ONLY {table} USING {keys} WHERE {same} AND {expired} AND NOT {held} RETURNING {columns}"
    ).format(
        table=table.identifier,
        keys=_unnest(table, table.columns, lines),
        same=_same_key(table),
        expired=expired(table, rule, cutoff),
        held=held(rule),
        columns=table.qualify(table.columns),
    )
    return set(_copy_out(connection, query)) if lines else set()


def table_with(connection: psycopg.Connection, source: str, columns: Sequence[str]) -> CleanupTable:
    """Return the table; raise ``SourceError`` if it has not all of an archive's columns any more."""
    table = required_table(connection, source)
    if gone := [name for name in columns if name not in table.columns]:
        raise SourceError(
            f"{table} has no column {gone[0]} any more, which the archive has: add it for the restore, or "
            "restore the archive by hand into another table."
        )
    if strange := [name for name in table.key if name not in columns]:
        raise SourceError(
            f"The primary key of {table} has the column {strange[0]}, which the archive does not have: "
            "restore the archive by hand into another table."
        )
    return table


def compare(
    connection: psycopg.Connection, table: CleanupTable, columns: Sequence[str], lines: Sequence[bytes]
) -> Compared:
    """Hold rows against those with their keys; those that are there to the byte are in neither list."""
    query = sql.SQL("SELECT {columns} FROM ONLY {table}, {keys} WHERE {same}").format(
        columns=table.qualify(columns),
        table=table.identifier,
        keys=_unnest(table, columns, lines),
        same=_same_key(table),
    )
    there = set(_copy_out(connection, query)) if lines else set()
    keys = {_key(table, columns, line) for line in there}
    compared = Compared([], [])
    for line in lines:
        if line not in there:
            (compared.otherwise if _key(table, columns, line) in keys else compared.missing).append(line)
    return compared


def insert(
    connection: psycopg.Connection,
    table: CleanupTable,
    columns: Sequence[str],
    lines: Sequence[bytes],
    longest: str,
) -> tuple[int, list[bytes]]:
    """Insert rows; return how many, and those that another row stands in the way of.

    Each half of rows that do not all fit is tried anew.
    """
    if not lines:
        return 0, []
    adjust(connection, longest)
    try:
        inserted = _copy_in(connection, table, columns, lines)
        connection.commit()
        return inserted, []
    except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
        connection.rollback()
    if len(lines) == 1:
        return 0, list(lines)
    middle = len(lines) // 2
    first, first_taken = insert(connection, table, columns, lines[:middle], longest)
    second, second_taken = insert(connection, table, columns, lines[middle:], longest)
    return first + second, first_taken + second_taken


def _copy_in(
    connection: psycopg.Connection, table: CleanupTable, columns: Sequence[str], lines: Sequence[bytes]
) -> int:
    """Insert rows with the values of their lines, identity columns as well; return how many.

    PostgreSQL has no COPY into a table whose policies apply to us: there the rows take a way round.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    target = sql.Composed([table.identifier])
    policed = has_policies(connection, table)
    if policed:
        target = sql.Composed([sql.Identifier("pg_temp", "runbooks_restored")])
        likeness = sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0")
        connection.execute(likeness.format(sql.Identifier("runbooks_restored"), names, table.identifier))
    with connection.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(target, names)) as copy:
            copy.write(b"".join(line + _LINE_END for line in lines))
        if policed:
            cursor.execute(
                sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
                    table.identifier, names, names, target
                )
            )
        return cursor.rowcount


def name_row(table: CleanupTable, columns: Sequence[str], line: bytes) -> str:
    """Return a row's primary key as a person would write it."""
    return ", ".join(
        f"{name}={shorten(value, _LONGEST_TEXT) if _is_text(table, name) else value}"
        for name, value in zip(table.key, _key(table, columns, line), strict=True)
    )


def _is_text(table: CleanupTable, name: str) -> bool:
    column = table.column(name)
    return column is not None and column.base in _TEXTS


def _key(table: CleanupTable, columns: Sequence[str], line: bytes) -> tuple[str, ...]:
    """Return the values of a line's primary key, in the server's own text."""
    fields = split_line(line)
    return tuple(read_field(fields[columns.index(name)]) or "" for name in table.key)


def _unnest(table: CleanupTable, columns: Sequence[str], lines: Iterable[bytes]) -> sql.Composable:
    """Return the keys of the lines as rows in a query, ``wanted_1`` and so on their columns."""
    keys = [_key(table, columns, line) for line in lines]
    arrays = (sql.SQL("{}::text[]").format(sql.Literal([key[at] for key in keys])) for at in _places(table))
    return sql.SQL("unnest({}) AS runbooks_wanted ({})").format(
        sql.SQL(", ").join(arrays), sql.SQL(", ").join(map(_wanted, _places(table)))
    )


def _same_key(table: CleanupTable) -> sql.Composable:
    types = [column.type for name in table.key if (column := table.column(name)) is not None]
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}::{}").format(
            sql.Identifier(table.name, table.key[at]), _wanted(at), sql.SQL(types[at])
        )
        for at in _places(table)
    )


def _places(table: CleanupTable) -> range:
    return range(len(table.key))


def _wanted(place: int) -> sql.Identifier:
    return sql.Identifier(f"runbooks_wanted_{place + 1}")


def _copy_out(connection: psycopg.Connection, query: sql.Composable) -> Iterator[bytes]:
    """Yield the lines of what a query returns, without their ends; libpq hands out one at a time."""
    with connection.cursor().copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy:
        for line in copy:
            yield bytes(line).removesuffix(_LINE_END)
