"""Stop waiting for what has no time limit of its own: a silent name server, a server that dribbles."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def run_together(acts: Sequence[Callable[[], T]], seconds: float) -> list[T | None]:
    """Run all acts at once; return what each returned, in order, and None for one that takes longer.

    Such an act is left to itself: its thread does not keep the process from ending. What an act raises is
    raised here.
    """
    begun = [_begin(act) for act in acts]
    wait(begun, timeout=seconds)
    return [future.result() if future.done() else None for future in begun]


def _begin(act: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:  # noqa: BLE001  # raised by result(), in the caller's thread
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
