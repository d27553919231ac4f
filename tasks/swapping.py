"""A new database restored beside the real one and put in its place; the same for both servers."""

from typing import Protocol

from tasks import (
    database_identity,
    mongodb_integrity,
    mongodb_restore,
    mongodb_swap,
    postgresql_beside,
    postgresql_integrity,
    postgresql_replication,
    postgresql_restore,
    postgresql_swap,
)
from tasks.environment_file import read_variable
from tasks.journal import Journal
from tasks.mongodb import database_of
from tasks.postgresql import parse_url
from tasks.records.backup import Manifest
from tasks.records.replication import NOT_REPLICATED, Replication
from tasks.records.service import ServiceProfile
from tasks.scratch_database import RestoredFacts
from tasks.set_folder import SetLocation


class SwapServer(Protocol):
    """The server of the real database, whose name is ``real``."""

    real: str

    def identify(self) -> str:
        """Say which database the real one's name stands for now."""
        ...

    def list_databases(self) -> tuple[str, ...]:
        """Return the names of all databases on the server."""
        ...

    def observe_replication(self) -> Replication:
        """Name what follows the real database, and what the real database follows."""
        ...

    def restore_beside(self, beside: str, manifest: Manifest, location: SetLocation) -> None:
        """Make a database that can take the real one's place, and restore the set into it."""
        ...

    def observe(self, database: str) -> RestoredFacts:
        """Read a database in full and return its facts."""
        ...

    def observe_moved(self, manifest: Manifest, location: SetLocation) -> RestoredFacts | None:
        """Read what was copied into the real database, and let it expire from now on; None if nothing was."""
        ...

    def examine(self) -> tuple[str, ...]:
        """Say what of the real database is damaged; nothing where it is sound."""
        ...

    def swap_in(self, beside: str, aside: str, journal: Journal) -> None:
        """Put the real database aside and the one beside in its place; killed, it can be called again."""
        ...

    def swap_back(self, beside: str, aside: str, journal: Journal) -> None:
        """Undo a swap, however far it came."""
        ...

    def drop(self, database: str) -> None:
        """Drop a database that a restore made; one that is gone is no error."""
        ...


class MongodbSwap:
    """Collections move one by one: a MongoDB database has no name of its own to change."""

    def __init__(self, profile: ServiceProfile) -> None:
        """Learn the real database's name from the application's own URL."""
        self._admin_url = profile.database.admin_url
        self.real = database_of(read_variable(profile, profile.database.url_variable))

    def identify(self) -> str:
        """Return a fingerprint of the collections' identities."""
        return database_identity.identify_mongodb(self._admin_url, self.real)

    def list_databases(self) -> tuple[str, ...]:
        """Return the names of all databases on the server."""
        return mongodb_restore.list_databases(self._admin_url)

    def observe_replication(self) -> Replication:
        """Return nothing: MongoDB replicates whole servers."""
        return NOT_REPLICATED

    def restore_beside(self, beside: str, manifest: Manifest, location: SetLocation) -> None:
        """Restore every collection of the set."""
        if manifest.mongodb is not None:
            mongodb_restore.restore_collections(self._admin_url, beside, manifest.mongodb, location)

    def observe(self, database: str) -> RestoredFacts:
        """Read every collection."""
        return mongodb_restore.observe_restored_collections(self._admin_url, database)

    def observe_moved(self, manifest: Manifest, location: SetLocation) -> RestoredFacts | None:
        """Read every collection again, where its copy is."""
        if manifest.mongodb is None:
            return None
        return mongodb_restore.observe_and_wake(self._admin_url, self.real, manifest.mongodb, location)

    def examine(self) -> tuple[str, ...]:
        """Let the server validate every collection, and read all of it."""
        return mongodb_integrity.examine_collections(self._admin_url, self.real)

    def swap_in(self, beside: str, aside: str, journal: Journal) -> None:
        """Move the old collections aside and the new ones in."""
        mongodb_swap.swap_in(self._admin_url, self.real, beside, aside, journal)

    def swap_back(self, beside: str, aside: str, journal: Journal) -> None:
        """Move the new collections out and the old ones back."""
        mongodb_swap.swap_back(self._admin_url, self.real, beside, aside, journal)

    def drop(self, database: str) -> None:
        """Drop a database, and what should have been put into it but stayed in the real one."""
        mongodb_restore.drop_database(self._admin_url, database)
        mongodb_swap.drop_left_in_place(self._admin_url, self.real, database)


class PostgresqlSwap:
    """Databases change names, both in one transaction."""

    def __init__(self, profile: ServiceProfile) -> None:
        """Learn the real database's name and the application's role from the application's own URL."""
        self._admin_url = profile.database.admin_url
        self._client_directory = profile.database.client_directory
        address = parse_url(read_variable(profile, profile.database.url_variable))
        self.real, self._owner = address.database, address.user

    def identify(self) -> str:
        """Return the database's object id."""
        return database_identity.identify_postgresql(self._admin_url, self.real)

    def list_databases(self) -> tuple[str, ...]:
        """Return the names of all databases on the server."""
        return postgresql_restore.list_databases(self._admin_url)

    def observe_replication(self) -> Replication:
        """Name the database's logical slots and subscriptions."""
        return postgresql_replication.observe_replication(self._admin_url, self.real)

    def restore_beside(self, beside: str, manifest: Manifest, location: SetLocation) -> None:
        """Restore the set's dump, with owners and privileges, into a database made like the real one."""
        if manifest.postgresql is not None:
            postgresql_beside.restore_beside(
                self._admin_url,
                self.real,
                beside,
                self._owner,
                manifest.postgresql,
                self._client_directory,
                location,
            )

    def observe(self, database: str) -> RestoredFacts:
        """Read every table and definition."""
        return postgresql_restore.observe_restored_database(self._admin_url, database, self._client_directory)

    def observe_moved(self, manifest: Manifest, location: SetLocation) -> RestoredFacts | None:
        """Return nothing: it is the very database that was compared."""
        del manifest, location
        return None

    def examine(self) -> tuple[str, ...]:
        """Let amcheck look at every table and index, and read all of it."""
        return postgresql_integrity.examine_database(self._admin_url, self.real, self._client_directory)

    def swap_in(self, beside: str, aside: str, journal: Journal) -> None:
        """Rename both."""
        postgresql_swap.swap_in(self._admin_url, self.real, beside, aside, journal)

    def swap_back(self, beside: str, aside: str, journal: Journal) -> None:
        """Rename both back."""
        postgresql_swap.swap_back(self._admin_url, self.real, beside, aside, journal)

    def drop(self, database: str) -> None:
        """Drop a database."""
        postgresql_restore.drop_database(self._admin_url, database)


def open_swap_server(profile: ServiceProfile) -> SwapServer:
    """Given a service, return the server that its real database is on."""
    return MongodbSwap(profile) if profile.database.kind == "mongodb" else PostgresqlSwap(profile)
