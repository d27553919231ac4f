"""Restore one of our dumps with pg_restore while it streams from the store, with no disk of the worker's."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from tasks.errors import DamagedSetError, RunbookError, SourceError
from tasks.postgresql import Address
from tasks.postgresql_client import find_client, running

_FIRST_LOOK_BYTES = 1 << 20
_JOBS: Final = 2
# What is made here is worth nothing until all of it is there and checked: no commit need wait for the disk.
# The memory is that of the one who builds an index, of whom there are as many as jobs. What the database's
# own settings say of time limits and of writing is for the application.
RESTORING = (
    "-c synchronous_commit=off -c maintenance_work_mem=256MB"
    " -c statement_timeout=0 -c default_transaction_read_only=off"
)


def restore_archive(
    archive: Iterable[bytes], address: Address, client_directory: Path | None, options: Sequence[str] = ()
) -> None:
    """Given an archive's chunks and an empty database, restore it there, stopping at any error.

    Indexes, constraints and triggers come last, several at a time. Raise ``DamagedSetError`` if the archive
    does not restore.
    """
    pg_restore = find_client("pg_restore", client_directory)
    command = [pg_restore, "--exit-on-error", "--no-password", f"--dbname={address.database}", *options]
    # With one, no database can be dropped; and to drop it takes the publisher's slot from the real one's.
    command.append("--no-subscriptions")
    restoring = address.with_options(RESTORING)
    with tempfile.TemporaryFile() as head:
        with running(
            [*command, "--section=pre-data", "--section=data"], restoring, subprocess.PIPE
        ) as restore:
            for chunk in _keep_head(archive, head, pg_restore):
                restore.write(chunk)
            restore.end_input()
            _require(restore.finish())
        with running([*command, "--section=post-data", f"--jobs={_JOBS}", _path(head)], restoring) as restore:
            _require(restore.finish())


def _keep_head(archive: Iterable[bytes], head: IO[bytes], pg_restore: str) -> Iterator[bytes]:
    """Yield an archive on, keeping so much of its beginning as pg_restore needs to know what is in it.

    That is all that what comes after the data is made from. How long it is, only pg_restore can say.
    """
    size, next_look, complete = 0, _FIRST_LOOK_BYTES, False
    for chunk in archive:
        if not complete:
            size += head.write(chunk)
            head.flush()
            if size >= next_look:
                complete, next_look = _is_complete(head, pg_restore), 2 * size
        yield chunk


def _is_complete(head: IO[bytes], pg_restore: str) -> bool:
    with running([pg_restore, "--list", _path(head)]) as program, suppress(RunbookError):
        for _ in program.read():
            pass
        return True
    return False


def _path(file: IO[bytes]) -> str:
    """Return a path under which other programs find a file that has no name, so that a kill leaves none."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _require(problem: RunbookError | None) -> None:
    if isinstance(problem, SourceError):
        raise DamagedSetError(f"The dump does not restore: {problem}") from problem
    if problem is not None:
        # A server that is away or full says nothing of the dump.
        raise problem
