# ruff: noqa: S608  # the queries are put together from constants
"""How much of a PostgreSQL B-tree is empty: read by pgstattuple where it is installed, else estimated."""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tasks.postgresql_catalog import own_objects
from tasks.postgresql_index_listing import SOURCE
from tasks.records.index_care import IndexBloat

_POINTER, _ALIGNMENT = 4, 8
_DEFAULT_FILL = 90
# Columns have statistics under their table, expressions under their index.
_WIDTH = """
    SELECT sum((1 - w.stanullfrac) * w.stawidth) FILTER (WHERE w.known), bool_and(w.known)
    FROM (
        SELECT t.null_frac AS stanullfrac, t.avg_width AS stawidth, t.avg_width IS NOT NULL AS known
        FROM pg_attribute a
        LEFT JOIN pg_attribute b
            ON b.attrelid = i.indrelid AND b.attnum = i.indkey[a.attnum - 1] AND b.attnum <> 0
        LEFT JOIN pg_stats t ON t.schemaname = n.nspname AND NOT t.inherited
            AND t.tablename = CASE WHEN b.attnum IS NULL THEN x.relname ELSE c.relname END
            AND t.attname = coalesce(b.attname, a.attname)
        WHERE a.attrelid = i.indexrelid
    ) w"""
_BTREES = f"""
    SELECT {SOURCE.format(oid="c.oid", name="c.relname", schema="n.nspname")}::text, x.relname::text,
        i.indexrelid::bigint, pg_relation_size(i.indexrelid), x.reltuples, w.sum, w.bool_and,
        coalesce((SELECT option_value FROM pg_options_to_table(x.reloptions)
            WHERE option_name = 'fillfactor')::int, {_DEFAULT_FILL}),
        current_setting('block_size')::int
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL ({_WIDTH}) w
    WHERE m.amname = 'btree' AND x.relkind = 'i' AND i.indisvalid AND NOT i.indisexclusion
        AND c.relpersistence = 'p' AND {own_objects("pg_class", "c.oid")}
    ORDER BY 1, 2"""
_EXTENSION = """
    SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
    WHERE extname = 'pgstattuple'"""


@dataclass(frozen=True)
class Pages:
    """How a file is laid out: its pages' size, how full they are made, and their and an entry's headers.

    A B-tree's unless it is said otherwise: its pages have a header at their end as well.
    """

    block: int
    fill: int
    header: int = 24 + 16
    entry_header: int = 8


def list_bloat(connection: psycopg.Connection) -> tuple[IndexBloat, ...]:
    """Return how much of each B-tree is empty; one without statistics that nobody can read is left out."""
    extension = connection.execute(_EXTENSION).fetchone()
    return tuple(_list_bloat(connection, str(extension[0]) if extension else None))


def _list_bloat(connection: psycopg.Connection, schema: str | None) -> Iterator[IndexBloat]:
    rows = connection.execute(_BTREES.encode()).fetchall()
    for source, name, oid, size, tuples, width, known, fill, block in rows:
        wasted = _read_wasted(connection, schema, oid, fill, block) if schema else None
        measured = wasted is not None
        if wasted is None and known and tuples >= 0:
            wasted = estimate_wasted(size, tuples, float(width or 0), Pages(block, fill))
        if wasted is not None:
            yield IndexBloat(source=source, name=name, wasted=wasted, measured=measured)


def _read_wasted(
    connection: psycopg.Connection, schema: str, oid: int, fill: int, block: int
) -> float | None:
    query = sql.SQL(
        "SELECT leaf_pages, internal_pages, avg_leaf_density, index_size"
        " FROM {}.pgstatindex(%s::oid::regclass)"
    )
    try:
        row = connection.execute(query.format(sql.Identifier(schema)), [oid]).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None or not row[3]:
        return None
    leaves, internal, density, size = row
    needed = leaves * min(density / fill, 1.0) if leaves else 0.0
    return max(0.0, 1 - float((needed + internal + 1) * block / size))


def estimate_wasted(size: int, entries: float, width: float, pages: Pages) -> float:
    """Given a file's bytes, its entries and their average width, return how much of it should be empty.

    It is too low where an index has many entries alike, which the server keeps as one.
    """
    entry = pages.entry_header + -(-width // _ALIGNMENT) * _ALIGNMENT + _POINTER
    needed = entries * entry / ((pages.block - pages.header) * pages.fill / 100) + 1
    return max(0.0, 1 - needed * pages.block / size) if size else 0.0
