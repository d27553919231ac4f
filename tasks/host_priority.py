"""Let the application and its database go first where a runbook computes for long on their host."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

_NICENESS: Final = 15


@contextmanager
def going_last() -> Generator[None]:
    """Let the calling thread, and what it starts meanwhile, have a core when nobody else wants it.

    Linux counts niceness a thread. Who is not root may not take it back: the rest of such a run goes last as
    well. Where there is no niceness nothing happens.
    """
    if not hasattr(os, "setpriority"):
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(before, _NICENESS))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
