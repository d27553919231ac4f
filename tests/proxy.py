"""A way to a real server that a test can cut."""

import threading
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR, create_connection, create_server, socket


class Proxy:
    """A TCP proxy in front of a server, whose ``on_data`` may cut a connection or take the server away.

    ``on_data(data, from_client)`` sees every piece and returns False to cut the connection it came by.
    """

    def __init__(self, target: tuple[str, int], on_data: Callable[[bytes, bool], bool]) -> None:
        self._target, self._on_data = target, on_data
        self._listener = create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                for source, sink, from_client in ((client, server, True), (server, client, False)):
                    pump = threading.Thread(target=self._pump, args=(source, sink, from_client), daemon=True)
                    pump.start()

    def _pump(self, source: socket, sink: socket, from_client: bool) -> None:
        with suppress(OSError):
            while (data := source.recv(1 << 16)) and self._on_data(data, from_client):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
