"""Which failures are worth another try, and how often. The waiting and counting is Prefect's."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tasks.errors import UnreachableError


def is_transient(tried: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Is the failure one that may pass by itself? Prefect calls this before each retry."""
    del tried, task_run
    return isinstance(state.result(raise_on_failure=False), UnreachableError)


# A decorator: the task, tried three times, of which nothing is kept.
retried = task(
    retries=2,
    retry_delay_seconds=3,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
