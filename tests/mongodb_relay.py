"""A relay before a MongoDB server, by which that says more of itself than it does."""

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, create_connection, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

import bson

# https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
_HEADER = struct.Struct("<iiii")
_MESSAGE = 2013
# The header, the flags and the kind of the section, which in an answer is a single document.
_BEFORE_DOCUMENT = 21

# An address at which nobody listens.
NOBODY = "127.0.0.1:9"

Document = dict[str, Any]


def add_member_away(said: Document) -> Document:
    """Let a server have a second member, which does not answer, and a compact."""
    if "hosts" in said:
        return said | {"hosts": [*said["hosts"], NOBODY]}
    if "listCommands" in said.get("errmsg", ""):
        return {"commands": {"compact": {}}, "ok": 1.0}
    return said


@contextmanager
def relay_to_mongodb(url: str, alter: Callable[[Document], Document]) -> Iterator[str]:
    """Yield the URL of a relay that passes on everything, the server's answers as ``alter`` makes them."""
    place = urlsplit(url)

    class Relay(BaseRequestHandler):
        def handle(self) -> None:
            with create_connection((place.hostname or "127.0.0.1", place.port or 27017)) as server:
                threading.Thread(target=_pass_on, args=(self.request, server), daemon=True).start()
                _pass_on_altered(server, self.request, alter)

    with ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        relay.daemon_threads = True
        threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
        login = place.netloc.rpartition("@")[0]
        yield place._replace(netloc=f"{login}@127.0.0.1:{relay.server_address[1]}").geturl()
        relay.shutdown()


def _pass_on(source: socket, sink: socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(SHUT_RDWR)


def _pass_on_altered(source: socket, sink: socket, alter: Callable[[Document], Document]) -> None:
    with suppress(OSError), source.makefile("rb") as answers:
        while header := answers.read(_HEADER.size):
            length, number, to, kind = _HEADER.unpack(header)
            message = header + answers.read(length - _HEADER.size)
            if kind == _MESSAGE:
                document = bson.encode(alter(bson.decode(message[_BEFORE_DOCUMENT:])))
                body = message[_HEADER.size : _BEFORE_DOCUMENT] + document
                message = _HEADER.pack(_HEADER.size + len(body), number, to, kind) + body
            sink.sendall(message)
        sink.shutdown(SHUT_RDWR)
