"""A lock that is given in the order in which it was asked for."""

import threading
from collections import deque


class Turns:
    """Threads take turns: whoever gives it back goes to the end of the queue.

    Python's own lock may go again and again to the thread that has just released it; one large collection
    would keep all small ones waiting.
    """

    def __init__(self) -> None:
        """Start with nobody's turn."""
        self._state = threading.Lock()
        self._taken = False
        self._queue: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        """Wait for our turn."""
        with self._state:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._queue.append(gate)
        gate.acquire()

    def __exit__(self, *_: object) -> None:
        """Let the next one go."""
        with self._state:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._taken = False
