# ruff: noqa: S608  # the queries are put together from constants
"""The indexes of a PostgreSQL database as it describes them: keys, kind, size, use."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from tasks.errors import SourceError
from tasks.postgresql_catalog import own_objects
from tasks.records.indexes import IndexFacts

# A table by its name, with its schema where the name alone would not find it.
SOURCE = "CASE WHEN pg_table_is_visible({oid}) THEN {name} ELSE {schema} || '.' || {name} END"
_TABLES = f"""
    SELECT {SOURCE.format(oid="c.oid", name="c.relname", schema="n.nspname")}::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {own_objects("pg_class", "c.oid")}
    ORDER BY 1"""
_TABLE = f"""
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind = 'p' AS partitioned
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {own_objects("pg_class", "c.oid")}
        AND {SOURCE.format(oid="c.oid", name="c.relname", schema="n.nspname")} = %s"""
_COLUMNS = """
    SELECT attname::text FROM pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum"""
_KEY_COLUMNS = """
    SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
    WHERE i.indrelid = %s::oid AND i.indisprimary AND a.attnum = ANY (i.indkey)
    ORDER BY array_position(i.indkey::int2[], a.attnum)"""
# An index's default operator class and collation are those of its column; NULLS go last when ascending and
# first when descending. An expression's own collation is not told: it is taken for the database's (100).
_KEYS = """
    SELECT array_agg(ARRAY[
        coalesce(a.attname::text, pg_get_indexdef(i.indexrelid, k, true)),
        CASE WHEN m.amname <> 'btree' THEN m.amname::text
             WHEN i.indoption[k - 1] & 1 = 1 THEN '-1' ELSE '1' END,
        concat_ws(', ',
            CASE WHEN NOT o.opcdefault THEN o.opcname::text END,
            CASE WHEN i.indcollation[k - 1] NOT IN (0, coalesce(a.attcollation, 100))
                 THEN 'collation ' || l.collname END,
            CASE WHEN m.amname = 'btree' AND i.indoption[k - 1] IN (1, 2)
                 THEN 'NULLS ' || CASE WHEN i.indoption[k - 1] = 2 THEN 'FIRST' ELSE 'LAST' END END)
        ] ORDER BY k)
    FROM generate_series(1, i.indnkeyatts) k
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1] AND a.attnum <> 0
    JOIN pg_opclass o ON o.oid = i.indclass[k - 1]
    LEFT JOIN pg_collation l ON l.oid = i.indcollation[k - 1]"""
_INDEXES = f"""
    SELECT {SOURCE.format(oid="c.oid", name="c.relname", schema="n.nspname")}::text AS source,
        x.relname::text AS name, ({_KEYS}) AS key, i.indisunique AS unique,
        -- The server drops no index of a partitioned table, nor of one of its partitions, concurrently.
        i.indisprimary OR i.indisreplident OR x.relispartition OR c.relkind = 'p'
            OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS held,
        i.indisvalid AND i.indisready AND i.indislive AS valid,
        -- Who builds without blocking holds this lock to the end; no more is seen of another user's work.
        EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'relation' AND k.relation = i.indrelid AND k.granted
            AND k.database = d.datid AND k.mode = 'ShareUpdateExclusiveLock') AS locked,
        'WHERE ' || pg_get_expr(i.indpred, i.indrelid, true) AS condition,
        'INCLUDE (' || (
            SELECT string_agg(a.attname, ', ' ORDER BY k)
            FROM generate_series(i.indnkeyatts + 1, i.indnatts) k
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1]) || ')' AS included,
        -- Servers before 15 do not have it.
        (to_jsonb(i) ->> 'indnullsnotdistinct')::boolean AS one_null,
        pg_relation_size(i.indexrelid) AS bytes, s.idx_scan AS uses, d.stats_reset AS uses_since,
        pg_get_indexdef(i.indexrelid) AS definition
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = i.indexrelid
    LEFT JOIN pg_stat_database d ON d.datname = current_database()
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {own_objects("pg_class", "c.oid")}
    ORDER BY 1, 2"""


@dataclass(frozen=True)
class Table:
    """A table that a profile names."""

    oid: int
    schema: str
    name: str
    partitioned: bool

    @property
    def identifier(self) -> sql.Identifier:
        """Its name in a statement, with its schema."""
        return sql.Identifier(self.schema, self.name)


def find_table(connection: psycopg.Connection, source: str) -> Table:
    """Given a table as a profile names it, return it; raise ``SourceError`` if there is none."""
    row = connection.execute(_TABLE.encode(), [source]).fetchone()
    if row is None:
        raise SourceError(f"There is no table {source} any more: somebody dropped it a moment ago.")
    return Table(*row)


def list_columns(connection: psycopg.Connection, table: Table) -> tuple[str, ...]:
    """Return the table's columns in their order."""
    return tuple(name for (name,) in connection.execute(_COLUMNS, [table.oid]).fetchall())


def list_key_columns(connection: psycopg.Connection, table: Table) -> tuple[str, ...]:
    """Return the columns of the table's primary key; none where it has none."""
    return tuple(name for (name,) in connection.execute(_KEY_COLUMNS, [table.oid]).fetchall())


def list_tables(connection: psycopg.Connection) -> tuple[str, ...]:
    """Return the tables that may have indexes, as a profile names them."""
    return tuple(name for (name,) in connection.execute(_TABLES.encode()).fetchall())


def list_indexes(connection: psycopg.Connection) -> tuple[IndexFacts, ...]:
    """Return every index, by table and name; one that is no B-tree has its method for a direction."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return tuple(_describe(row) for row in cursor.execute(_INDEXES.encode()).fetchall())


def _describe(row: Any) -> IndexFacts:
    of_keys = (f"{key} {said}" for key, _, said in row.key if said)
    of_all = (row.condition, row.included, "NULLS NOT DISTINCT" if row.one_null else None)
    return IndexFacts(
        source=row.source,
        name=row.name,
        key=tuple((key, kind) for key, kind, _ in row.key),
        unique=row.unique,
        is_constraint=row.held,
        is_valid=row.valid,
        is_building=row.locked and not row.valid,
        special=", ".join([*of_keys, *(said for said in of_all if said)]),
        bytes=row.bytes,
        uses=row.uses,
        uses_since=row.uses_since,
        definition=row.definition,
    )
