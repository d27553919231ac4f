"""Connections that are cut when a request's head does not come: uvicorn itself would wait for ever."""

import asyncio
from collections.abc import Callable
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class _Impatient(H11Protocol):
    seconds: ClassVar[float]
    count_cut: ClassVar[Callable[[], None]]
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end()
        elif self._patience is None:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._patience = self.loop.call_later(self.seconds, self._cut)

    def _end(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _cut(self) -> None:
        self._patience = None
        # Whoever has sent nothing at all only holds a connection.
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if self.conn.trailing_data[0]:
                type(self).count_cut()
            self.transport.close()


def impatient(seconds: float, count_cut: Callable[[], None]) -> type[H11Protocol]:
    """Return uvicorn's protocol with a limit on how long a request's head may take."""
    return type("Impatient", (_Impatient,), {"seconds": seconds, "count_cut": staticmethod(count_cut)})
