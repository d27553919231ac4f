"""A proxy before each application: `python tls_front.py CERTIFICATES LISTEN:TARGET:NAME...`.

It ends TLS with the certificate NAME.pem of the folder and passes the bytes on. A program of its own,
standard library only, so that it is up at once.
"""

import asyncio
import contextlib
import ssl
import sys
from functools import partial
from pathlib import Path

HOST = "127.0.0.1"
PIECE = 1 << 16
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def main(certificates: Path, fronts: list[str]) -> None:
    """Listen for every application until the process ends."""
    servers = []
    for front in fronts:
        listen, target, name = front.split(":")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / f"{name}.pem")
        servers.append(
            await asyncio.start_server(partial(_serve, int(target)), HOST, int(listen), ssl=context)
        )
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def _serve(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
    except OSError:
        writer.write(BAD_GATEWAY)
        writer.close()
        return
    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
