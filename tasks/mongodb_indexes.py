"""The indexes of a MongoDB database."""

from tasks.mongodb import connect, database_of
from tasks.mongodb_index_listing import list_collections, list_indexes
from tasks.records.indexes import IndexFacts


class MongodbIndexes:
    """The indexes of the database that a URL names. Connections are opened and closed within each call."""

    def __init__(self, url: str) -> None:
        """Keep the URL; nothing is opened yet."""
        self._url, self._database = url, database_of(url)

    def list_sources(self) -> tuple[str, ...]:
        """Return the collections."""
        with connect(self._url) as client:
            return tuple(sorted(list_collections(client[self._database])))

    def list_indexes(self) -> tuple[IndexFacts, ...]:
        """Return every index of every collection."""
        with connect(self._url) as client:
            return list_indexes(client[self._database])
