"""Values that keep an index of a PostgreSQL table from being unique."""

from collections.abc import Sequence

import psycopg
from psycopg import sql

from tasks.postgresql_index_listing import Table, list_key_columns
from tasks.records.indexes import DuplicateValue

_MOST_VALUES = 11
_MOST_ENTRIES = 5
# NULLs are no duplicates of each other.
_QUERY = """
    WITH several AS (
        SELECT {columns}, count(*) AS times FROM {table} WHERE {present}
        GROUP BY {columns} HAVING count(*) > 1 ORDER BY count(*) DESC, {columns} LIMIT {most_values})
    SELECT several.times, ARRAY(
        SELECT {identity} FROM {table} AS entry WHERE ({of_entry}) = ({of_several}) ORDER BY 1
        LIMIT {most_entries})
    FROM several"""


def find_duplicates(
    connection: psycopg.Connection, table: Table, columns: Sequence[str]
) -> tuple[DuplicateValue, ...]:
    """Return the values that several rows have, the most frequent first, by the rows' primary keys."""
    query = sql.SQL(_QUERY).format(
        columns=_list(columns),
        table=table.identifier,
        present=sql.SQL(" AND ").join(
            sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in columns
        ),
        identity=_identify(list_key_columns(connection, table)),
        of_entry=_list(columns, "entry"),
        of_several=_list(columns, "several"),
        most_values=_MOST_VALUES,
        most_entries=_MOST_ENTRIES,
    )
    rows = connection.execute(query).fetchall()
    return tuple(DuplicateValue(count=count, entries=tuple(entries)) for count, entries in rows)


def _list(columns: Sequence[str], of: str | None = None) -> sql.Composed:
    names = ((of, column) if of else (column,) for column in columns)
    return sql.SQL(", ").join(sql.Identifier(*name) for name in names)


def _identify(key: Sequence[str]) -> sql.Composed:
    """Return what names a row: its primary key, or where it lies if it has none."""
    values = [sql.Identifier("entry", column) for column in key or ["ctid"]]
    said = ", ".join(key) or "row"
    return sql.SQL("concat({})").format(sql.SQL(", ").join([sql.Literal(f"{said} "), *_between(values)]))


def _between(values: Sequence[sql.Identifier]) -> list[sql.Composable]:
    found: list[sql.Composable] = []
    for value in values:
        found += [value, sql.Literal(", ")]
    return found[:-1]
