"""How a runbook ends: one that cannot go on as Failed, with the one sentence as the state's message."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, ParamSpec

from prefect.client.schemas.objects import State
from prefect.states import Failed

from tasks.errors import RunbookError

P = ParamSpec("P")
_held: Final[ContextVar[ExitStack]] = ContextVar("held until the run ends")


def failing_in_one_sentence(body: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Make a flow's body end Failed with the sentence of a ``RunbookError``, and without a traceback.

    What is no ``RunbookError`` is a defect of ours and keeps its traceback.
    """

    @wraps(body)
    def conclude(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        try:
            with ExitStack() as held:
                _held.set(held)
                return body(*args, **kwargs)
        except RunbookError as error:
            return Failed(message=str(error))

    return conclude


def hold_until_the_end(held: AbstractContextManager[object]) -> None:
    """Enter a context that is left when the run ends, however it does."""
    _held.get().enter_context(held)
