"""The indexes of a service's database, whichever server it is on."""

from typing import Protocol

from tasks.environment_file import read_variable
from tasks.mongodb_indexes import MongodbIndexes
from tasks.postgresql_indexes import PostgresqlIndexes
from tasks.records.indexes import IndexFacts
from tasks.records.service import ServiceProfile


class IndexServer(Protocol):
    """A database as its indexes are seen. A source is a collection, or a table as a profile names it.

    Every method raises only errors of ours. Connections are opened and closed within each call.
    """

    def list_sources(self) -> tuple[str, ...]:
        """Return the sources that may have indexes, in order."""
        ...

    def list_indexes(self) -> tuple[IndexFacts, ...]:
        """Return every index, by source and name, with its size and uses where the server tells them."""
        ...


def open_index_server(profile: ServiceProfile) -> IndexServer:
    """Given a service, return the indexes of its database, as the application's own user sees them."""
    url = read_variable(profile, profile.database.url_variable)
    return MongodbIndexes(url) if profile.database.kind == "mongodb" else PostgresqlIndexes(url)
