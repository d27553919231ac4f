"""Within which time a PostgreSQL server has to answer, also one that is stopped and keeps no limit itself."""

import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: of a statement, of its waiting for a lock, and after which the connection is cut.

    Limits of one transaction only leave nothing behind in a pooler that hands the session on.
    """

    statement: float
    lock: float
    silence: float
    of_transaction: bool = False


@contextmanager
def limited(connection: psycopg.Connection, limits: Limits) -> Generator[None]:
    """Keep what the block asks of the connection within limits; a cut raises psycopg's OperationalError."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        ending = threading.Timer(limits.silence, _cut, [wire])
        ending.start()
        try:
            connection.execute(
                "SELECT set_config('statement_timeout', %s, %s), set_config('lock_timeout', %s, %s)",
                [
                    f"{limits.statement * 1000:.0f}ms",
                    limits.of_transaction,
                    f"{limits.lock * 1000:.0f}ms",
                    limits.of_transaction,
                ],
            )
            yield
        finally:
            ending.cancel()
            ending.join()


def _cut(wire: socket.socket) -> None:
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
