"""Processes that do harm as long as they live: `python -m deployments.sandbox.fault_helpers WHAT ...`.

Each says "ready" once it does. A URL with a password comes by the environment.
"""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

from deployments.sandbox.ports import HOST

URL = "FAULT_URL"


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
        """Keep quiet."""


def listen_as_a_stranger(port: str) -> None:
    """Serve something else on the application's port."""
    with HTTPServer((HOST, int(port)), _Stranger) as server:
        _ready()
        server.serve_forever()


def listen_and_never_answer(port: str) -> None:
    """Accept connections, as a server does that hangs or a firewall that swallows what comes after."""
    with socket.create_server((HOST, int(port))):
        _ready()
        signal.pause()


def lock_a_table(table: str) -> None:
    """Hold a table, as a migration does whose session somebody forgot to end."""
    with psycopg.connect(os.environ[URL], application_name="forgotten-migration") as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        _ready()
        signal.pause()


def hold_connections(number: str) -> None:
    """Hold connections within transactions, as a job does that leaks them."""
    with ExitStack() as stack:
        for _ in range(int(number)):
            connection = psycopg.connect(os.environ[URL], application_name="leaking-job")
            stack.enter_context(connection).execute("SELECT 1")
        _ready()
        signal.pause()


def _ready() -> None:
    print("ready", flush=True)


WHAT = {
    "stranger": listen_as_a_stranger,
    "black-hole": listen_and_never_answer,
    "lock": lock_a_table,
    "connections": hold_connections,
}


if __name__ == "__main__":
    WHAT[sys.argv[1]](*sys.argv[2:])
