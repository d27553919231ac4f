"""Restore a set's PostgreSQL dump into a scratch database and observe what came of it."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import sql

from tasks.credentials import resolve
from tasks.postgresql import connect, parse_url, translated
from tasks.postgresql_archive import restore_archive
from tasks.postgresql_catalog import read_definitions
from tasks.postgresql_client import find_client, running
from tasks.postgresql_copy_sections import CopySections
from tasks.postgresql_properties import DatabaseProperties, create_database, read_properties
from tasks.records.backup import PostgresqlContent, PostgresqlFacts
from tasks.records.section import Reference
from tasks.retrying import retried
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import ZSTD

# By these the server prints one and the same value, also where a definition holds it, in several ways.
_OF_VALUES: Final = frozenset({"bytea_output", "datestyle", "intervalstyle", "lc_monetary"})


@retried
def list_databases(admin_url: Reference) -> tuple[str, ...]:
    """Given the reference of an administrator's URL, return the names of the server's databases."""
    with connect(parse_url(resolve(admin_url))) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()
    return tuple(str(name) for (name,) in rows)


@retried
def drop_database(admin_url: Reference, scratch: str) -> None:
    """Given an administrator's reference and a scratch database, drop it; one that is gone is no error."""
    with connect(parse_url(resolve(admin_url))) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(scratch)))


@task(cache_policy=NO_CACHE, persist_result=False)
def restore_database(  # noqa: PLR0913, PLR0917  each names a thing of its own
    admin_url: Reference,
    real: str,
    scratch: str,
    content: PostgresqlContent,
    client_directory: Path | None,
    location: SetLocation,
) -> None:
    """Given a set's dump, make the scratch database and restore the dump into it, stopping at any error.

    It has the encoding, locale and tablespace of the real one, and prints values as that does: a constraint
    may hold by one locale and not by another. If there is none, it has the server's. Owners and privileges
    are left out: they are the server's, not the data's.
    """
    admin = resolve(admin_url)
    with connect(parse_url(admin)) as connection:
        found = read_properties(connection, real)
        properties = DatabaseProperties(connection.info.user)
        if found is not None:
            of_values = (one for one in found.settings if one[0] is None and one[1].lower() in _OF_VALUES)
            properties = replace(properties, options=found.options, settings=tuple(of_values))
        create_database(connection, scratch, properties)
    archive = SetFolder(location).load(content.dump.key, ZSTD)
    restore_archive(archive, parse_url(admin, scratch), client_directory, ["--no-owner", "--no-privileges"])


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_restored_database(
    admin_url: Reference, scratch: str, client_directory: Path | None
) -> PostgresqlFacts:
    """Given a scratch database, read it in full with pg_dump and return its facts."""
    # What the database's own settings say of time limits is for the application.
    address = parse_url(resolve(admin_url), scratch).with_options("-c statement_timeout=0")
    sections = CopySections()
    command = [find_client("pg_dump", client_directory), "--data-only", "--encoding=UTF8", "--no-password"]
    with running(command, address) as dump:
        for chunk in dump.read():
            sections.feed(chunk)
    with connect(address) as connection, translated(str(address)):
        connection.execute("SET search_path = ''")
        definitions = read_definitions(connection)
    return PostgresqlFacts(
        tables=tuple(sorted(sections.tables, key=lambda table: table.table)),
        definitions={**definitions, "sequence value": tuple(sorted(sections.sequence_values))},
    )
