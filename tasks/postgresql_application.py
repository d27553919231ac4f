"""The application's own database by its own URL, within limits; its tables where Prisma's URL places them."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

from tasks import postgresql
from tasks.errors import ConfigurationError
from tasks.postgresql_limits import Limits, limited

LIMITS: Final = Limits(statement=8.0, lock=3.0, silence=10.0)
# Folders of the schema's path are looked through, as the application's own queries do.
_COLUMNS: Final = """
SELECT attname, atttypid::regtype::text FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped
"""


@contextmanager
def connect_as_application(url: str, limits: Limits = LIMITS) -> Generator[psycopg.Connection]:
    """Given the application's URL, open a connection that sees its tables, in UTC; errors leave as ours."""
    address = postgresql.parse_url(url).with_options("-c timezone=UTC")
    # Prisma's word for where its tables are.
    schema = parse_qs(urlsplit(url).query).get("schema", ["public"])[0]
    if schema.isidentifier():
        address = address.with_options(f"-c search_path={schema}")
    with postgresql.connect(address) as connection, limited(connection, limits):
        yield connection


def list_columns(connection: psycopg.Connection, table: str) -> dict[str, str]:
    """Given a table, return the type of each of its columns; nothing where there is no such table."""
    return dict(connection.execute(_COLUMNS, [table]).fetchall())


class Columns:
    """A table's columns as a profile names them: a dot leads into a JSON column."""

    def __init__(self, connection: psycopg.Connection, table: str, section: str) -> None:
        """Read the table's columns; ``section`` is the profile's, for the sentence of what is missing.

        Raise ``ConfigurationError`` if there is no such table.
        """
        self._table, self._section = table, section
        self.types = list_columns(connection, table)
        if not self.types:
            raise ConfigurationError(
                f"The application's database has no table {table}: correct {section}.source in the profile."
            )

    def expression(self, field: str | None) -> sql.Composable:
        """Given a field, return what selects it as it is, or the text of what a JSON column holds there.

        Raise ``ConfigurationError`` if there is no such column.
        """
        if field is None:
            return sql.SQL("NULL")
        column, *path = [field] if field in self.types else field.split(".")
        kind = self.types.get(column)
        if kind is None or (path and kind not in {"json", "jsonb"}):
            what = "JSON column" if kind is not None else "column"
            raise ConfigurationError(
                f"The table {self._table} of the application's database has no {what} {column}, which "
                f"{self._section} names: correct it in the profile."
            )
        if not path:
            return sql.Identifier(column)
        keys = sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, path)))
        return sql.SQL("({} #>> {})").format(sql.Identifier(column), keys)
