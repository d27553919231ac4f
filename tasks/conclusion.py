"""How a runbook that cannot go on ends: Failed, with the one sentence as the state's message."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.states import Failed

from tasks.errors import RunbookError

P = ParamSpec("P")


def failing_in_one_sentence(body: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Make a flow's body end Failed with the sentence of a ``RunbookError``, and without a traceback.

    What is no ``RunbookError`` is a defect of ours and keeps its traceback.
    """

    @wraps(body)
    def conclude(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        try:
            return body(*args, **kwargs)
        except RunbookError as error:
            return Failed(message=str(error))

    return conclude
