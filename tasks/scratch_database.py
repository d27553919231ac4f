"""A scratch database beside the real one: restored into, observed, dropped; the same for both servers."""

from typing import Protocol

from tasks import mongodb_restore, postgresql_restore
from tasks.environment_file import read_variable
from tasks.mongodb import database_of
from tasks.postgresql import parse_url
from tasks.records.backup import CollectionFacts, Manifest, PostgresqlFacts
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetLocation

RestoredFacts = tuple[CollectionFacts, ...] | PostgresqlFacts


class ScratchServer(Protocol):
    """The server of the real database, where scratch databases come and go."""

    real_database: str

    def list_databases(self) -> tuple[str, ...]:
        """Return the names of all databases on the server."""
        ...

    def restore(self, scratch: str, manifest: Manifest, location: SetLocation) -> None:
        """Make the scratch database and restore the set's database into it."""
        ...

    def observe(self, scratch: str, manifest: Manifest, location: SetLocation) -> RestoredFacts:
        """Read the scratch database in full and return its facts; only then may anything in it expire."""
        ...

    def drop(self, scratch: str) -> None:
        """Drop a scratch database; one that is gone is no error."""
        ...


class MongodbScratch:
    """Scratch databases on a MongoDB server."""

    def __init__(self, profile: ServiceProfile) -> None:
        """Learn the real database's name, so that nobody takes it for a scratch one."""
        self._admin_url = profile.database.admin_url
        self.real_database = database_of(read_variable(profile, profile.database.url_variable))

    def list_databases(self) -> tuple[str, ...]:
        """Return the names of all databases on the server."""
        return mongodb_restore.list_databases(self._admin_url)

    def restore(self, scratch: str, manifest: Manifest, location: SetLocation) -> None:
        """Restore every collection of the set into the scratch database."""
        if manifest.mongodb is not None:
            mongodb_restore.restore_collections(self._admin_url, scratch, manifest.mongodb, location)

    def observe(self, scratch: str, manifest: Manifest, location: SetLocation) -> RestoredFacts:
        """Read every collection of the scratch database."""
        if manifest.mongodb is None:
            return ()
        return mongodb_restore.observe_and_wake(self._admin_url, scratch, manifest.mongodb, location)

    def drop(self, scratch: str) -> None:
        """Drop the scratch database."""
        mongodb_restore.drop_database(self._admin_url, scratch)


class PostgresqlScratch:
    """Scratch databases on a PostgreSQL server."""

    def __init__(self, profile: ServiceProfile) -> None:
        """Learn the real database's name, so that nobody takes it for a scratch one."""
        self._admin_url = profile.database.admin_url
        self._client_directory = profile.database.client_directory
        self.real_database = parse_url(read_variable(profile, profile.database.url_variable)).database

    def list_databases(self) -> tuple[str, ...]:
        """Return the names of all databases on the server."""
        return postgresql_restore.list_databases(self._admin_url)

    def restore(self, scratch: str, manifest: Manifest, location: SetLocation) -> None:
        """Restore the set's dump into the scratch database."""
        if manifest.postgresql is not None:
            postgresql_restore.restore_database(
                self._admin_url,
                self.real_database,
                scratch,
                manifest.postgresql,
                self._client_directory,
                location,
            )

    def observe(self, scratch: str, manifest: Manifest, location: SetLocation) -> RestoredFacts:
        """Read every table and definition of the scratch database; no row expires by itself."""
        del manifest, location
        return postgresql_restore.observe_restored_database(self._admin_url, scratch, self._client_directory)

    def drop(self, scratch: str) -> None:
        """Drop the scratch database."""
        postgresql_restore.drop_database(self._admin_url, scratch)


def open_scratch_server(profile: ServiceProfile) -> ScratchServer:
    """Given a service, return the server that its real database is on."""
    return MongodbScratch(profile) if profile.database.kind == "mongodb" else PostgresqlScratch(profile)
