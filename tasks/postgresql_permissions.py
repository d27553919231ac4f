"""What a PostgreSQL user may, compared with another, and seen by doing it: a new password's test."""

from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql

from tasks.errors import AccessDeniedError
from tasks.postgresql import connect, parse_url
from tasks.postgresql_limits import Limits, limited

# In a pooler the limits must not stay behind in the session.
_LIMITS: Final = Limits(statement=10, lock=2, silence=60, of_transaction=True)
_MOST_NAMED: Final = 3
_MOST_TRIED: Final = 5

_OURS: Final = r"n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%%'"
# What the first may and the second may not, a line each; both are names of roles.
_LACKS: Final = rf"""
WITH pair AS (
    SELECT o.rolname AS old, w.rolname AS new, o AS was, w AS will
    FROM pg_roles o, pg_roles w WHERE o.rolname = %(old)s AND w.rolname = %(new)s),
schemas AS (SELECT n.oid, n.nspname FROM pg_namespace n WHERE {_OURS}),
relations AS (
    SELECT c.oid, c.oid::regclass AS name, c.relowner, c.relkind
    FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
settings AS (
    SELECT s.setrole, string_agg(word, ',' ORDER BY s.setdatabase, word) AS words
    FROM pg_db_role_setting s, unnest(s.setconfig) word
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    GROUP BY s.setrole)
SELECT privilege || ' on the database' FROM pair, unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) privilege
WHERE has_database_privilege(old, current_database(), privilege)
  AND NOT has_database_privilege(new, current_database(), privilege)
UNION ALL
SELECT privilege || ' on schema ' || nspname FROM pair, schemas n, unnest(ARRAY['USAGE', 'CREATE']) privilege
WHERE has_schema_privilege(old, n.oid, privilege) AND NOT has_schema_privilege(new, n.oid, privilege)
UNION ALL
SELECT privilege || ' on ' || name FROM pair, relations c,
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
WHERE CASE WHEN relkind <> 'S' THEN has_table_privilege(old, c.oid, privilege)
  AND NOT has_table_privilege(new, c.oid, privilege) END
UNION ALL
SELECT privilege || ' on ' || name || '.' || a.attname FROM pair, relations c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND a.attacl IS NOT NULL,
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege
WHERE has_column_privilege(old, c.oid, a.attnum, privilege)
  AND NOT has_column_privilege(new, c.oid, a.attnum, privilege)
UNION ALL
SELECT privilege || ' on ' || name
FROM pair, relations c, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) privilege
WHERE CASE WHEN relkind = 'S' THEN has_sequence_privilege(old, c.oid, privilege)
  AND NOT has_sequence_privilege(new, c.oid, privilege) END
UNION ALL
SELECT 'EXECUTE on ' || p.oid::regprocedure FROM pair, pg_proc p JOIN schemas n ON n.oid = p.pronamespace
WHERE has_function_privilege(old, p.oid, 'EXECUTE') AND NOT has_function_privilege(new, p.oid, 'EXECUTE')
UNION ALL
SELECT 'what the owner of ' || name || ' may' FROM pair, relations
WHERE pg_has_role(old, relowner, 'USAGE') AND NOT pg_has_role(new, relowner, 'USAGE')
UNION ALL
SELECT 'the role ' || r.rolname FROM pair, pg_roles r
WHERE r.rolname <> old AND pg_has_role(old, r.oid, 'USAGE') AND NOT pg_has_role(new, r.oid, 'USAGE')
UNION ALL
SELECT 'the policy ' || p.polname || ' on ' || p.polrelid::regclass FROM pair, pg_policy p
WHERE EXISTS (SELECT FROM unnest(p.polroles) r WHERE r <> 0 AND pg_has_role(old, r, 'USAGE'))
  AND NOT EXISTS (SELECT FROM unnest(p.polroles) r WHERE r = 0 OR pg_has_role(new, r, 'USAGE'))
UNION ALL
SELECT 'the attribute ' || word FROM pair, LATERAL (VALUES
    ('SUPERUSER', (was).rolsuper, (will).rolsuper), ('BYPASSRLS', (was).rolbypassrls, (will).rolbypassrls),
    ('CREATEDB', (was).rolcreatedb, (will).rolcreatedb),
    ('CREATEROLE', (was).rolcreaterole, (will).rolcreaterole),
    ('REPLICATION', (was).rolreplication, (will).rolreplication)) AS it(word, had, has)
WHERE had AND NOT has
UNION ALL
SELECT 'as many connections' FROM pair
WHERE (will).rolconnlimit >= 0 AND ((was).rolconnlimit < 0 OR (will).rolconnlimit < (was).rolconnlimit)
UNION ALL
SELECT 'the settings of ' || old FROM pair
LEFT JOIN settings s ON s.setrole = (was).oid LEFT JOIN settings t ON t.setrole = (will).oid
WHERE s.words IS DISTINCT FROM t.words
"""  # noqa: S608  nothing in it comes from outside
_READABLE: Final = rf"""
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_OURS} AND c.relkind IN ('r', 'p', 'v') AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2
"""  # noqa: S608  likewise
# Without triggers and rules, which may do more than the row, or forbid it.
_WRITABLE: Final = rf"""
SELECT n.nspname, c.relname, min(a.attname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE {_OURS} AND c.relkind = 'r' AND NOT c.relhasrules AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE')
  AND a.attgenerated = '' AND a.attidentity = ''
  AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
GROUP BY 1, 2, c.reltuples ORDER BY c.reltuples DESC LIMIT {_MOST_TRIED}
"""  # noqa: S608  likewise


def list_lacks(connection: psycopg.Connection, old: str, new: str) -> list[str]:
    """Given two roles, return in words what the first may in this database and the second may not."""
    with limited(connection, _LIMITS):
        return [word for (word,) in connection.execute(_LACKS, {"old": old, "new": new})]


def say_lacks(lacks: list[str]) -> str:
    """Return the first few of them."""
    more = len(lacks) - _MOST_NAMED
    return ", ".join(lacks[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def exercise_permissions(url: str, previous_user: str | None) -> None:
    """Given a URL, read by a new connection what its user may, and write a row that is rolled back.

    Raise ``AccessDeniedError`` if it may less than the previous user, or not what it is said to.
    """
    address = parse_url(url)
    with (
        connect(address, autocommit=False) as connection,
        limited(connection, _LIMITS),
        connection.transaction(force_rollback=True),
    ):
        if previous_user is not None and (lacks := list_lacks(connection, previous_user, address.user)):
            raise AccessDeniedError(
                f"{address}: {address.user} may less than {previous_user}, without {say_lacks(lacks)}."
            )
        for schema, table in connection.execute(_READABLE).fetchall():
            connection.execute(sql.SQL("SELECT FROM {} LIMIT 0").format(sql.Identifier(schema, table)))
        for statement in _list_writes(connection):
            if connection.execute(statement).rowcount:
                return


def _list_writes(connection: psycopg.Connection) -> Iterator[sql.Composed]:
    """Yield statements that write a row as it is; nobody waits for it, and it for nobody."""
    for schema, table, column in connection.execute(_WRITABLE).fetchall():
        yield sql.SQL(
            "UPDATE {table} SET {column} = {column} WHERE ctid IN "
            "(SELECT ctid FROM {table} LIMIT 1 FOR UPDATE SKIP LOCKED)"
        ).format(table=sql.Identifier(schema, table), column=sql.Identifier(column))
