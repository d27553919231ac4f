"""The indexes of a PostgreSQL database."""

from tasks.postgresql import connect, parse_url
from tasks.postgresql_index_listing import list_indexes, list_tables
from tasks.records.indexes import IndexFacts


class PostgresqlIndexes:
    """The indexes of the database that a URL names. Connections are opened and closed within each call."""

    def __init__(self, url: str) -> None:
        """Keep the address; nothing is opened yet."""
        self._address = parse_url(url)

    def list_sources(self) -> tuple[str, ...]:
        """Return the tables."""
        with connect(self._address) as connection:
            return list_tables(connection)

    def list_indexes(self) -> tuple[IndexFacts, ...]:
        """Return every index of every table."""
        with connect(self._address) as connection:
            return list_indexes(connection)
