"""Which failures are worth another try. The waiting and counting is Prefect's."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tasks.errors import UnreachableError


def is_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Is the failure one that may pass by itself? Prefect calls this before each retry."""
    del task, task_run
    return isinstance(state.result(raise_on_failure=False), UnreachableError)
