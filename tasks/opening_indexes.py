"""The indexes of a service's database, whichever server it is on."""

from typing import Protocol

from tasks.environment_file import read_variable
from tasks.mongodb_indexes import MongodbIndexes
from tasks.postgresql_indexes import PostgresqlIndexes
from tasks.records.data_care import RecommendedIndex
from tasks.records.indexes import BuildFacts, IndexFacts
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

    def examine(self, wanted: RecommendedIndex) -> BuildFacts:
        """Given an index that is missing on a source that is there, return what its build would meet."""
        ...

    def build(self, index: IndexFacts) -> None:
        """Build an index by source, name, keys and uniqueness; one that fails leaves nothing.

        One that is given as not valid is built again in its place. Nobody's reading or writing is held up.
        Raise ``UnreachableError`` if the server went away: it may still be at work, ``clear`` waits for that.
        """
        ...

    def drop(self, index: IndexFacts) -> None:
        """Drop an index without holding anybody up; one that is gone is no error."""
        ...

    def clear(self, index: IndexFacts) -> bool:
        """Wait until nobody builds this index any more, and drop what a failed build of it left.

        One that was left before is given as not valid, and stays. Return whether it is there and valid.
        """
        ...

    def read_progress(self, index: IndexFacts) -> str | None:
        """Return how far the build is, in words; None where that cannot be known."""
        ...

    def explain(self, index: IndexFacts) -> str | None:
        """Return the index that a query by this one's keys uses, "" for none; None if that is not told."""
        ...


def open_index_server(profile: ServiceProfile) -> IndexServer:
    """Given a service, return the indexes of its database, as the application's own user sees them."""
    url = read_variable(profile, profile.database.url_variable)
    return MongodbIndexes(url) if profile.database.kind == "mongodb" else PostgresqlIndexes(url)
