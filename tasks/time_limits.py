"""Stop waiting for what has no time limit of its own: a silent name server, a server that dribbles."""

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import TypeVar

from tasks.reaching import in_background

T = TypeVar("T")


def run_together(acts: Sequence[Callable[[], T]], seconds: float) -> list[T | None]:
    """Run all acts at once; return what each returned, in order, and None for one that takes longer.

    Such an act is left to itself: its thread does not keep the process from ending. What an act raises is
    raised here.
    """
    coming = [in_background(act) for act in acts]
    wait(coming, timeout=seconds)
    return [one.result() if one.done() else None for one in coming]
