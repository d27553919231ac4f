# what comes from outside is put together as identifiers and literals by psycopg
"""A table that is cleaned up: found by its name, its key and columns, and why deleting there may do harm."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from tasks.errors import ConfigurationError, SourceError
from tasks.postgresql_catalog import list_tables
from tasks.records.data_care import CleanupRule
from tasks.records.figures import say_count

_TIMES = {"date", "timestamp without time zone", "timestamp with time zone"}
_ORDINARY = "r"
_KINDS = {"p": "a partitioned table", "f": "a foreign table", "v": "a view", "m": "a materialized view"}
_ACTIONS = {"c": "deletes rows there as well", "n": "empties a column there", "d": "changes a column there"}
_FIND = """
    SELECT c.oid, n.nspname, c.relname, c.relkind::text, pg_table_is_visible(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
      AND (c.relname = %(name)s AND pg_table_is_visible(c.oid) OR n.nspname || '.' || c.relname = %(name)s)
    ORDER BY 5 DESC LIMIT 1"""
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '',
           format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_KEY = """
    SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, at)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = %s AND i.indisprimary AND k.at <= i.indnkeyatts ORDER BY k.at"""
_INDEX = """
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %s AND a.attname = %s AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'
    ORDER BY i.indnatts, c.relname LIMIT 1"""
# A key to a partitioned table has one more entry for each partition, by which deleting there acts; a key of a
# partitioned table has one for each of its partitions, which says nothing new.
_REFERRING = """
    SELECT format('%%I.%%I', n.nspname, c.relname), k.conname, k.confdeltype::text,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid
                   AND i.indpred IS NULL AND i.indkey[0] = ANY (k.conkey))
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.confrelid = %s
      AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = k.conparentid AND p.confrelid = k.confrelid)
    ORDER BY 1, 2"""
_RULES = "SELECT rulename FROM pg_rewrite WHERE ev_class = %s AND ev_type = '4' ORDER BY 1"
# 8 is TRIGGER_TYPE_DELETE in PostgreSQL's pg_trigger.h; of the replica's own triggers none fires here.
_TRIGGERS = """
    SELECT tgname FROM pg_trigger
    WHERE tgrelid = %s AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 8 <> 0 ORDER BY 1"""
_HEIRS = "SELECT count(*) FROM pg_inherits WHERE inhparent = %s"
_POLICIES = "SELECT current_user WHERE row_security_active(%s::oid)"


@dataclass(frozen=True)
class Column:
    """A column; ``base`` is its type, or for a domain the type behind it."""

    name: str
    type: str
    generated: bool
    base: str


@dataclass(frozen=True)
class CleanupTable:
    """A table as the catalog has it."""

    oid: int
    schema: str
    name: str
    kind: str
    all_columns: tuple[Column, ...]
    key: tuple[str, ...]

    def __str__(self) -> str:
        """Name it as a person would."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Composable:
        """Its name in a query; no alias, as a legal hold may name the table."""
        return sql.Identifier(self.schema, self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """What is archived: a generated column follows from the others."""
        return tuple(column.name for column in self.all_columns if not column.generated)

    def column(self, name: str) -> Column | None:
        """Return a column, or None if there is none of this name."""
        return next((column for column in self.all_columns if column.name == name), None)

    def qualify(self, names: Sequence[str]) -> sql.Composable:
        """Return columns for a query in which others have columns too."""
        return sql.SQL(", ").join(sql.Identifier(self.name, name) for name in names)


def find_table(connection: psycopg.Connection, source: str) -> CleanupTable | None:
    """Given a table's name, with its schema or without, return the table; None if there is none."""
    row = connection.execute(_FIND, {"name": source}).fetchone()
    if row is None:
        return None
    oid, schema, name, kind, _ = row
    columns = tuple(Column(*found) for found in connection.execute(_COLUMNS, (oid,)).fetchall())
    key = tuple(name for (name,) in connection.execute(_KEY, (oid,)).fetchall())
    return CleanupTable(oid, schema, name, kind, columns, key)


def required_table(connection: psycopg.Connection, source: str) -> CleanupTable:
    """Return the table; raise ``SourceError`` if there is none, or its rows cannot be told apart."""
    table = find_table(connection, source)
    if table is None:
        raise SourceError(f"There is no table {source}: correct the rule's source in the profile.")
    if problem := _find_key_problem(table):
        raise SourceError(problem)
    return table


def list_sources(connection: psycopg.Connection) -> tuple[str, ...]:
    """Return the names of the application's tables, as a rule would write them."""
    return tuple(f"{found.schema}.{found.table}" for found in list_tables(connection))


def find_time_index(connection: psycopg.Connection, table: CleanupTable, column: str) -> str | None:
    """Return the name of an index that begins with the column, or None."""
    row = connection.execute(_INDEX, (table.oid, column)).fetchone()
    return str(row[0]) if row else None


def list_obstacles(connection: psycopg.Connection, table: CleanupTable) -> tuple[str, ...]:
    """Return why rows must not be deleted there, each as a sentence."""
    if table.kind != _ORDINARY:
        return (
            f"{table} is {_KINDS[table.kind]}: only ordinary tables, and single partitions, are cleaned.",
        )
    problem = _find_key_problem(table)
    referring = connection.execute(_REFERRING, (table.oid,)).fetchall()
    rules = connection.execute(_RULES, (table.oid,)).fetchall()
    return (
        *((problem,) if problem else ()),
        *_find_heirs(connection, table),
        *(
            f"Deleting from {table} {_ACTIONS[action]}, in {other} (foreign key {constraint}), and no "
            "archive has that: make it ON DELETE RESTRICT, and clean that table by a rule before this one."
            for other, constraint, action, _ in referring
            if action in _ACTIONS
        ),
        *(
            f"{table} has the rule {rule} for DELETE: something else than deleting would happen."
            for (rule,) in rules
        ),
    )


def list_cautions(connection: psycopg.Connection, table: CleanupTable) -> tuple[str, ...]:
    """Return what else happens when rows are deleted there, or hides rows from us, each as a sentence."""
    referring = connection.execute(_REFERRING, (table.oid,)).fetchall()
    triggers = connection.execute(_TRIGGERS, (table.oid,)).fetchall()
    policies = connection.execute(_POLICIES, (table.oid,)).fetchall()
    return (
        *(
            f"{other} has no index on its foreign key {constraint}: all of it is read for each row of "
            f"{table} that is deleted, so create one."
            for other, constraint, _, is_indexed in referring
            if not is_indexed
        ),
        *(
            f"{table} has the trigger {trigger} for DELETE: what it does, it does to all that goes, and a "
            "row that it keeps ends the run with an error."
            for (trigger,) in triggers
        ),
        *(
            f"{table} has row-level security: rows that its policies hide from {user} are not counted and "
            "never go."
            for (user,) in policies
        ),
    )


def has_policies(connection: psycopg.Connection, table: CleanupTable) -> bool:
    """Do policies of row-level security apply to us there?"""
    return bool(connection.execute(_POLICIES, (table.oid,)).fetchall())


def _find_heirs(connection: psycopg.Connection, table: CleanupTable) -> Iterator[str]:
    ((heirs,),) = connection.execute(_HEIRS, (table.oid,)).fetchall()
    if heirs:
        yield (
            f"What looks like rows of {table} is in {say_count(heirs, 'table')} that inherit from it, and "
            "nothing of those would go: name each of them in a rule of its own."
        )


def _find_key_problem(table: CleanupTable) -> str | None:
    if not table.key:
        return f"{table} has no primary key: its rows cannot be told apart, so give it one."
    if set(table.key) - set(table.columns):
        return f"{table} has a generated column in its primary key, which no archive holds."
    return None


def has_time(table: CleanupTable, name: str) -> bool:
    """Tell whether the column can say how old a row is."""
    column = table.column(name)
    return column is not None and column.base in _TIMES


def expired(table: CleanupTable, rule: CleanupRule, cutoff: datetime) -> sql.Composable:
    """Return the condition for what is older than the cutoff, which never is what has no end or no time.

    A time without a zone is taken for UTC; a day is older when all of it is, in UTC. Raise ``SourceError``
    if the column is no time.
    """
    column = table.column(rule.time_field)
    if column is None or column.base not in _TIMES:
        what = f"is {column.type}" if column else "does not exist"
        raise SourceError(
            f"{table}: the column {rule.time_field} {what}, and no date or timestamp: correct the rule's "
            "time_field in the profile."
        )
    moment: sql.Composable = sql.SQL("{}::timestamptz").format(sql.Literal(cutoff.isoformat()))
    if column.base != "timestamp with time zone":
        moment = sql.SQL("({} AT TIME ZONE 'UTC')::{}").format(moment, sql.SQL(column.base))
    return sql.SQL("{time} < {moment} AND isfinite({time})").format(
        time=sql.Identifier(table.name, rule.time_field), moment=moment
    )


def held(rule: CleanupRule) -> sql.Composable:
    """Return the condition for what the legal hold keeps; an unknown answer keeps nothing, as in WHERE."""
    if rule.legal_hold is None:
        return sql.SQL("FALSE")
    if not isinstance(rule.legal_hold, str):
        raise ConfigurationError(
            f"The legal hold of the rule {rule.name} is a MongoDB query, and the database is PostgreSQL: "
            "write an SQL condition."
        )
    # On a line of its own: a comment at its end must not take the parenthesis along.
    condition: Any = rule.legal_hold
    return sql.SQL("(({}\n) IS TRUE)").format(sql.SQL(condition))


def check_hold(connection: psycopg.Connection, table: CleanupTable, rule: CleanupRule) -> None:
    """Raise ``ConfigurationError`` if the rule's legal hold is no condition for this table."""
    query = sql.SQL("SELECT FROM ONLY {} WHERE {} LIMIT 0").format(table.identifier, held(rule))
    try:
        connection.execute(query)
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"The legal hold of the rule {rule.name} is no condition for {table} ({reason}): correct "
            "cleanup.rules in the profile."
        ) from None
