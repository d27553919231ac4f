"""Wait for what takes a provider a moment: a new credential is not known everywhere at once."""

import time
from collections.abc import Callable
from typing import Final

_POLL_SECONDS: Final = 0.25


def comes_true(question: Callable[[], bool], seconds: float) -> bool:
    """Given a question, ask until the answer is yes; return whether it was within so many seconds."""
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() + _POLL_SECONDS > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
