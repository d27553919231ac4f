"""The alerts on disk: one thread commits together what came in together, synced before it counts."""

import sqlite3
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, Final, TypeVar

from tasks.errors import AccessDeniedError, UnreachableError
from tasks.host_folder import sync_folder

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alerts (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    summary TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    service TEXT NOT NULL,
    runbook TEXT NOT NULL,
    parameters TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    received_at REAL NOT NULL,
    last_seen_at REAL NOT NULL,
    resolved_at REAL,
    run_id TEXT,
    run_name TEXT,
    started_at REAL,
    told_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alerts_by_fingerprint ON alerts (fingerprint, starts_at);
CREATE INDEX IF NOT EXISTS alerts_by_state ON alerts (state, tries, received_at);
CREATE TABLE IF NOT EXISTS signatures (signature TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pulse (id INTEGER PRIMARY KEY, at REAL NOT NULL);
"""
# Whoever holds the database for longer gets our senders a 503, and they try again.
_LOCK_SECONDS: Final = 2.0
_AT_ONCE: Final = 500
_MOST_WAITING: Final = 10_000

_Done = TypeVar("_Done")
Job = Callable[[sqlite3.Connection], _Done]
_Waiting = tuple[Job[Any], "Future[Any]"]


class Store:
    """One writer, any number of readers."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, in a folder for our user only; raise a ``RunbookError`` if we cannot."""
        self.path = path
        self.commits = 0
        self._jobs: Queue[_Waiting | None] = Queue(_MOST_WAITING)
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(_connect(path)) as connection:
                connection.executescript(_SCHEMA)
            path.chmod(0o600)
            sync_folder(path.parent)
        except OSError as error:
            raise AccessDeniedError(
                f"{path.parent} cannot be used ({error.strerror}): correct state_directory."
            ) from None
        except sqlite3.Error as error:
            raise UnreachableError(f"{path} cannot be opened: {error}.") from None
        self._writer = threading.Thread(target=self._write, name="alerts-writer", daemon=True)
        self._writer.start()

    def submit(self, job: Job[_Done]) -> "Future[_Done]":
        """Given a job, return its outcome to come: set only after the job's transaction is on the disk.

        It is ``UnreachableError`` if nothing was kept, or what the job itself raised.
        """
        future: Future[_Done] = Future()
        try:
            self._jobs.put_nowait((job, future))
        except Full:
            future.set_exception(UnreachableError("Too many posts wait for the disk: try again in a while."))
        return future

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Open a connection to read with; raise ``UnreachableError`` if that does not go."""
        with opened_to_read(self.path) as connection:
            yield connection

    def close(self) -> None:
        """Write what waits, then end."""
        self._jobs.put(None)
        self._writer.join()

    def _write(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch = [first]
            with suppress(Empty):
                while len(batch) < _AT_ONCE:
                    following = self._jobs.get_nowait()
                    if following is None:
                        self._jobs.put(None)
                        break
                    batch.append(following)
            # A sender who has gone away is not waited for any more.
            self._commit([job for job in batch if job[1].set_running_or_notify_cancel()])
        self._disconnect()

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            self._connection = self._connection or _connect(self.path)
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [_attempt(self._connection, job) for job, _ in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            # The file may have been moved away or replaced: begin anew.
            self._disconnect()
            for _, future in batch:
                future.set_exception(UnreachableError(f"The alerts cannot be kept: {error}."))
            return
        self.commits += 1
        for (_, future), (done, raised) in zip(batch, outcomes, strict=True):
            if raised is None:
                future.set_result(done)
            else:
                future.set_exception(raised)

    def _disconnect(self) -> None:
        if self._connection is not None:
            # Closing takes back what was not committed.
            self._connection.close()
            self._connection = None


@contextmanager
def opened_to_read(path: Path) -> Generator[sqlite3.Connection]:
    """Open the file of the alerts to read, also while a receiver writes; raise ``UnreachableError``."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            yield connection
    except sqlite3.Error as error:
        raise UnreachableError(f"{path} cannot be read: {error}.") from None


def _connect(path: Path) -> sqlite3.Connection:
    # No transaction but those that are begun here.
    connection = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    # The log is synced at each commit: what was answered with 202 is there after a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _attempt(connection: sqlite3.Connection, job: Job[Any]) -> tuple[Any, BaseException | None]:
    """Do one job, so that its failure undoes nothing of the others."""
    connection.execute("SAVEPOINT job")
    try:
        done, raised = job(connection), None
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  it goes to whoever waits for the job
        connection.execute("ROLLBACK TO job")
        done, raised = None, error
    connection.execute("RELEASE job")
    return done, raised
