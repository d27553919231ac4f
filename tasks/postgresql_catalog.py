# ruff: noqa: S608  # the queries are put together from constants of this module
"""What a PostgreSQL database says of itself: tables, counts and definitions of the application's own."""

from dataclasses import dataclass

import psycopg
from psycopg import sql

_OWN_SCHEMAS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
_NOT_OF_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalog}'::regclass"
    " AND d.objid = {oid} AND d.deptype = 'e')"
)


def own_objects(catalog: str, oid: str) -> str:
    """Return the condition that an object of this catalog is the application's own."""
    return f"{_OWN_SCHEMAS} AND " + _NOT_OF_EXTENSION.format(catalog=catalog, oid=oid)


# One query a kind, each yielding one text a definition. With an empty search_path every name is qualified.
_DEFINITIONS: dict[str, str] = {
    "column": f"""
        SELECT format('%s.%s %s%s%s', c.oid::regclass, quote_ident(a.attname),
                      format_type(a.atttypid, a.atttypmod),
                      CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                      coalesce(' DEFAULT ' || pg_get_expr(v.adbin, v.adrelid), ''))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef v ON v.adrelid = a.attrelid AND v.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f')
          AND {own_objects("pg_class", "c.oid")}""",
    "index": f"""
        SELECT pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {own_objects("pg_class", "c.oid")}""",
    "constraint": f"""
        SELECT format('%s %s %s', k.conrelid::regclass, quote_ident(k.conname), pg_get_constraintdef(k.oid))
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
        WHERE k.conrelid <> 0 AND {own_objects("pg_class", "k.conrelid")}""",
    "sequence": f"""
        SELECT format('%s %s START %s INCREMENT %s MIN %s MAX %s%s',
                      s.seqrelid::regclass, s.seqtypid::regtype,
                      s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
                      CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {own_objects("pg_class", "c.oid")}""",
    "view": f"""
        SELECT format('%s AS %s', c.oid::regclass, pg_get_viewdef(c.oid))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND {own_objects("pg_class", "c.oid")}""",
    "type": f"""
        SELECT format('%s ENUM (%s)', t.oid::regtype,
                      (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                       FROM pg_enum e WHERE e.enumtypid = t.oid))
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e' AND {own_objects("pg_type", "t.oid")}""",
    "trigger": f"""
        SELECT pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT g.tgisinternal AND {own_objects("pg_class", "c.oid")}""",
    "routine": f"""
        SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prokind IN ('f', 'p') AND {own_objects("pg_proc", "p.oid")}""",
    "extension": "SELECT extname::text FROM pg_extension",
    "large objects": "SELECT count(*)::text FROM pg_largeobject_metadata",
}
_TABLES = f"""
    SELECT n.nspname, c.relname, format('%s', c.oid::regclass), nullif(c.reltuples, -1)::bigint,
           pg_table_size(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {own_objects("pg_class", "c.oid")} ORDER BY 3"""


@dataclass(frozen=True)
class TableShape:
    """A table before it is read; ``name`` as in a COPY statement.

    The estimates are the server's; it has none for the rows of a table that was never analysed.
    """

    schema: str
    table: str
    name: str
    rows_estimate: int | None
    bytes_estimate: int


def list_tables(connection: psycopg.Connection) -> tuple[TableShape, ...]:
    """Return the ordinary tables that are the application's, by name."""
    return tuple(TableShape(*row) for row in connection.execute(_TABLES).fetchall())


def read_definitions(connection: psycopg.Connection) -> dict[str, tuple[str, ...]]:
    """Return the sorted definitions of the application's own objects, by kind."""
    return {
        kind: tuple(sorted(str(text) for (text,) in connection.execute(query.encode()).fetchall()))
        for kind, query in _DEFINITIONS.items()
    }


def count_rows(connection: psycopg.Connection) -> dict[str, int]:
    """Return the number of rows of each table, by the name that COPY gives it."""
    counts = {}
    for table in list_tables(connection):
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(table.schema, table.table))
        counts[table.name] = int((connection.execute(query).fetchone() or (0,))[0])
    return counts
