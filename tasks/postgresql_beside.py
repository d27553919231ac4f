"""Restore a set's PostgreSQL dump beside the real database, into one that can take its place."""

from pathlib import Path

import psycopg
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.credentials import resolve
from tasks.errors import ConfigurationError
from tasks.postgresql import connect, connect_away_from, parse_url
from tasks.postgresql_archive import RESTORING, restore_archive
from tasks.postgresql_properties import DatabaseProperties, create_database, read_properties
from tasks.records.backup import PostgresqlContent
from tasks.records.section import Reference
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import ZSTD


@task(cache_policy=NO_CACHE, persist_result=False)
def restore_beside(  # noqa: PLR0913, PLR0917  each names a thing of its own
    admin_url: Reference,
    real: str,
    beside: str,
    owner: str,
    content: PostgresqlContent,
    client_directory: Path | None,
    location: SetLocation,
) -> None:
    """Given a set's dump, make the database ``beside`` like the real one and restore the dump into it.

    Like it in encoding, locale, owner, privileges, limit and settings; if there is no real one, it is the
    owner's and has the server's defaults. Everything in it gets its owner and privileges from the dump. Raise
    ``ConfigurationError`` if a role is missing, ``DamagedSetError`` if the dump does not restore.
    """
    admin = resolve(admin_url)
    with connect_away_from(admin, {real, beside}) as connection:
        properties = read_properties(connection, real) or DatabaseProperties(owner=owner)
        try:
            create_database(connection, beside, properties)
        except psycopg.errors.UndefinedObject as error:
            raise ConfigurationError(
                f"{beside} cannot be made like {real}: {error.diag.message_primary}: create it first."
            ) from None
    address = parse_url(admin, beside)
    restore_archive(SetFolder(location).load(content.dump.key, ZSTD), address, client_directory)
    with connect(address.with_options(RESTORING)) as connection:
        # A database without statistics answers as slowly as if its indexes were missing.
        connection.execute("ANALYZE")
