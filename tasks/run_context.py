"""What Prefect knows of the run we are in: when it was due, and who started it."""

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from pydantic import BaseModel, ConfigDict


class Run(BaseModel):
    """A run at its start. ``due`` is None unless a schedule made the run; times are aware, UTC."""

    model_config = ConfigDict(frozen=True)

    name: str
    due: datetime | None
    started: datetime


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_run() -> Run:
    """Return what Prefect knows of the run, and the time: a decision reads no clock."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    if flow_run is None:
        return Run(name="shell", due=None, started=datetime.now(UTC))
    due = flow_run.expected_start_time if flow_run.auto_scheduled else None
    return Run(name=flow_run.name, due=due, started=datetime.now(UTC))


@task(cache_policy=NO_CACHE, persist_result=False)
def read_clock() -> datetime:
    """Return the time, aware, UTC."""
    return datetime.now(UTC)
