# ruff: noqa: S608  # the queries are put together from constants
"""What a PostgreSQL database says of its tables' vacuum, its sequences and the age of its transactions."""

import psycopg

from tasks.postgresql_bloat import Pages, estimate_wasted
from tasks.postgresql_catalog import own_objects
from tasks.postgresql_index_listing import SOURCE
from tasks.records.index_care import SequenceState, TableState, TransactionAge

_TABLE = SOURCE.format(oid="c.oid", name="c.relname", schema="n.nspname")
_OPTION = """coalesce(
    (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = '{name}'),
    current_setting('{name}'))::float8"""
# What autovacuum itself reckons with; newer servers have an upper limit.
_VACUUM_ABOVE = f"""least(
    {_OPTION.format(name="autovacuum_vacuum_threshold")}
        + {_OPTION.format(name="autovacuum_vacuum_scale_factor")} * greatest(c.reltuples, 0),
    nullif(current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1))"""
_ANALYZE_ABOVE = f"""{_OPTION.format(name="autovacuum_analyze_threshold")}
    + {_OPTION.format(name="autovacuum_analyze_scale_factor")} * greatest(c.reltuples, 0)"""
# Nothing where a column has no statistics.
_WIDTH = """
    SELECT CASE WHEN bool_and(t.avg_width IS NOT NULL) THEN sum((1 - t.null_frac) * t.avg_width) END
    FROM pg_attribute a LEFT JOIN pg_stats t ON t.schemaname = n.nspname AND t.tablename = c.relname
        AND t.attname = a.attname AND NOT t.inherited
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"""
_TABLES = f"""
    SELECT {_TABLE}::text, pg_total_relation_size(c.oid), s.n_live_tup, s.n_dead_tup,
        ({_VACUUM_ABOVE})::bigint, greatest(s.last_vacuum, s.last_autovacuum),
        s.n_mod_since_analyze, ({_ANALYZE_ABOVE})::bigint, greatest(s.last_analyze, s.last_autoanalyze),
        -- An update that changes no indexed column, with room on the page, writes to no index.
        s.n_tup_ins + s.n_tup_upd - s.n_tup_hot_upd,
        pg_relation_size(c.oid), c.reltuples, ({_WIDTH}),
        coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
            WHERE option_name = 'fillfactor')::int, 100),
        current_setting('block_size')::int
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_stat_user_tables s ON s.relid = c.oid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {own_objects("pg_class", "c.oid")}
    ORDER BY 1"""
# A sequence feeds the column that owns it, and every column whose default asks it.
_SEQUENCES = f"""
    SELECT format('%I.%I', m.nspname, q.relname), pg_sequence_last_value(s.seqrelid), s.seqmax,
        CASE WHEN a.attnum IS NULL THEN 'no column' ELSE {_TABLE} || '.' || a.attname END::text,
        CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END
    FROM pg_sequence s JOIN pg_class q ON q.oid = s.seqrelid JOIN pg_namespace m ON m.oid = q.relnamespace
    LEFT JOIN LATERAL (
        SELECT d.refobjid AS relid, d.refobjsubid AS number FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i')
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
        UNION
        SELECT e.adrelid, e.adnum FROM pg_depend d JOIN pg_attrdef e ON e.oid = d.objid
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = s.seqrelid
    ) f ON true
    LEFT JOIN pg_attribute a ON a.attrelid = f.relid AND a.attnum = f.number
    LEFT JOIN pg_class c ON c.oid = f.relid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE s.seqincrement > 0 AND NOT s.seqcycle AND m.nspname <> 'information_schema' AND m.nspname !~ '^pg_'
    ORDER BY 1, 4"""
# Of the whole server: the oldest database is where it stops, whichever that is.
_AGES = """
    SELECT max(age(datfrozenxid)), current_setting('autovacuum_freeze_max_age')::bigint,
        max(mxid_age(datminmxid)), current_setting('autovacuum_multixact_freeze_max_age')::bigint
    FROM pg_database"""
_HOLDERS = """
    SELECT said FROM (
        SELECT age(backend_xmin), format('the session %%s of %%s', pid, coalesce(usename, backend_type))
        FROM pg_stat_activity WHERE backend_xmin IS NOT NULL
        UNION ALL SELECT greatest(age(xmin), age(catalog_xmin)), format('the replication slot %%s', slot_name)
        FROM pg_replication_slots
        UNION ALL SELECT age(transaction), format('the prepared transaction %%s', gid) FROM pg_prepared_xacts
    ) found (age, said) WHERE age > %s / 2 ORDER BY age DESC LIMIT 1"""


def list_table_states(connection: psycopg.Connection) -> tuple[TableState, ...]:
    """Return what vacuum has left of each table, as the server counts it."""
    found = []
    for row in connection.execute(_TABLES.encode()).fetchall():
        *told, size, rows, width, fill, block = row
        wasted = 0.0
        if width is not None and rows >= 0:
            wasted = estimate_wasted(size, rows, float(width), Pages(block, fill, header=24, entry_header=24))
        fields = zip(TableState.model_fields, (*told, round(wasted * size)), strict=True)
        found.append(TableState.model_validate(dict(fields)))
    return tuple(found)


def list_sequences(connection: psycopg.Connection) -> tuple[SequenceState, ...]:
    """Return how far each sequence has come that was used, once for each column that it feeds."""
    return tuple(
        SequenceState(name=name, last=last, limit=min(own, column or own), feeds=feeds)
        for name, last, own, feeds, column in connection.execute(_SEQUENCES.encode()).fetchall()
        if last is not None
    )


def list_ages(connection: psycopg.Connection) -> tuple[TransactionAge, ...]:
    """Return the age of the server's oldest transaction and multixact, and who keeps them old."""
    age, limit, multi_age, multi_limit = connection.execute(_AGES).fetchone() or (0, 0, 0, 0)
    holder = connection.execute(_HOLDERS, [age]).fetchone()
    held_by = str(holder[0]) if holder else ""
    return (
        TransactionAge(counter="transaction ids", age=age, vacuum_above=limit, held_by=held_by),
        TransactionAge(counter="multixacts", age=multi_age, vacuum_above=multi_limit, held_by=""),
    )
