"""Save a PostgreSQL database with pg_dump, decoding it with pg_restore while it streams into a backup set.

``pg_dump -Fc`` goes through zstd into the store and, at the same time, through ``pg_restore --data-only``,
whose output is hashed and counted table by table. So the hashes in the manifest are of what the official tool
finds in the very bytes that were stored, and the counts are compared with the server's own in the snapshot.
"""

import contextlib
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import DamagedSetError, SourceError
from tasks.postgresql import translated
from tasks.postgresql_catalog import count_rows, read_definitions
from tasks.postgresql_client import ClientProgram, find_client, running
from tasks.postgresql_copy_sections import CopySections
from tasks.postgresql_snapshot import LOCK_MILLISECONDS, PostgresqlSnapshot
from tasks.records.backup import PostgresqlContent, TableFacts
from tasks.retrying import is_transient
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import ZSTD

DUMP_KEY = "postgresql/database.dump.zst"


@task(
    task_run_name="save {snapshot.address.database}",
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def save_database(
    snapshot: PostgresqlSnapshot, client_directory: Path | None, location: SetLocation
) -> PostgresqlContent:
    """Given a held snapshot, save its database into the set; return what was saved.

    Raise ``UnreachableError`` if the server or the store went away (retried), ``SourceError`` if the dump is
    not the whole database.
    """
    started = time.monotonic()
    sections = CopySections()
    # Routines are read as they are now, not as of the snapshot: the later, the more may have changed.
    with translated(str(snapshot.address)):
        definitions = read_definitions(snapshot.connection)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="count") as counting:
        counts = counting.submit(count_rows, snapshot.connection)
        # Where the store fails nobody takes the rest: pg_dump must not stay, waiting and holding its locks.
        with contextlib.closing(_dump(snapshot, client_directory, sections)) as raw:
            dump = SetFolder(location).save(DUMP_KEY, raw, ZSTD)
        with translated(str(snapshot.address)):
            _compare_counts(snapshot, counts.result(), sections.tables)
    return PostgresqlContent(
        tables=tuple(sorted(sections.tables, key=lambda table: table.table)),
        definitions={**definitions, "sequence value": tuple(sorted(sections.sequence_values))},
        database=snapshot.address.database,
        server_version=snapshot.server_version,
        client_version=client_version(client_directory),
        dump=dump,
        seconds=time.monotonic() - started,
    )


def _dump(
    snapshot: PostgresqlSnapshot, client_directory: Path | None, sections: CopySections
) -> Generator[bytes]:
    """Yield pg_dump's archive; raise before the end if pg_dump or pg_restore found anything wrong."""
    command = [
        find_client("pg_dump", client_directory),
        "--format=custom",
        "--compress=0",
        # Whatever the database's own encoding is, names and rows are hashed in this one.
        "--encoding=UTF8",
        "--no-password",
        f"--lock-wait-timeout={LOCK_MILLISECONDS}",
        f"--snapshot={snapshot.snapshot_id}",
    ]
    with running(command, snapshot.address) as dump:
        yield from decode(dump.read(), client_directory, sections)


def decode(
    archive: Iterable[bytes], client_directory: Path | None, sections: CopySections
) -> Iterator[bytes]:
    """Yield an archive on while pg_restore decodes its data into the sections."""
    command = [find_client("pg_restore", client_directory), "--data-only", "--file=-"]
    with (
        running(command, stdin=subprocess.PIPE) as restore,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as reader,
    ):
        decoding = reader.submit(_feed, restore, sections)
        try:
            for chunk in archive:
                restore.write(chunk)
                yield chunk
        finally:
            # The reader ends when pg_restore does: never leave it waiting.
            restore.end_input()
        decoding.result()
    if not sections.close():
        raise DamagedSetError("The archive ends in the middle of a table.")


def _feed(restore: ClientProgram, sections: CopySections) -> None:
    try:
        for chunk in restore.read():
            sections.feed(chunk)
    except BaseException:
        # Whoever feeds pg_restore would wait for ever when nobody takes what it writes.
        restore.kill()
        raise


def _compare_counts(
    snapshot: PostgresqlSnapshot, counts: dict[str, int], saved: Iterable[TableFacts]
) -> None:
    found = {table.table: table.rows for table in saved}
    # An extension's configuration tables are in the dump as well, and are not ours to count.
    wrong = sorted(name for name, rows in counts.items() if found.get(name) != rows)
    if wrong:
        listed = "; ".join(
            f"{name}: {counts[name]} rows in the database, {found.get(name, 'none')} in the dump"
            for name in wrong
        )
        raise SourceError(f"{snapshot.address}: the dump is not the whole database ({listed}).")


def client_version(client_directory: Path | None) -> str:
    """Return pg_dump's version, such as ``18.6``."""
    with running([find_client("pg_dump", client_directory), "--version"]) as program:
        said = b"".join(program.read()).decode()
    return said.split()[2]


def read_archive(archive: Iterable[bytes], client_directory: Path | None) -> None:
    """Read an archive in full with pg_restore; raise ``DamagedSetError`` if it cannot be read to its end."""
    command = [find_client("pg_restore", client_directory), "--file=/dev/null"]
    with running(command, stdin=subprocess.PIPE) as restore:
        for chunk in archive:
            restore.write(chunk)
        restore.end_input()
        if (problem := restore.finish()) is not None:
            raise DamagedSetError(f"pg_restore cannot read the archive: {problem}")
