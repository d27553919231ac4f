"""What Prefect knows of the run we are in: when it was due, and who or what started it."""

import getpass
import os
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from pydantic import BaseModel, ConfigDict


class Run(BaseModel):
    """A run at its start. ``due`` is None unless a schedule made the run; times are aware, UTC.

    ``deployed`` is False for a run from a shell, which no Prefect UI can answer.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    due: datetime | None
    started: datetime
    first_started: datetime | None = None
    """When a run began that begins anew, after it waited for a person."""
    started_by: str
    deployed: bool


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_run() -> Run:
    """Return what Prefect knows of the run, and the time: a decision reads no clock."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    now = datetime.now(UTC)
    if flow_run is None:
        return Run(name="shell", due=None, started=now, started_by=_name_shell_user(), deployed=False)
    return Run(
        name=flow_run.name,
        due=flow_run.expected_start_time if flow_run.auto_scheduled else None,
        started=now,
        first_started=flow_run.start_time,
        started_by=_say_who(flow_run),
        deployed=flow_run.deployment_id is not None,
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def read_clock() -> datetime:
    """Return the time, aware, UTC."""
    return datetime.now(UTC)


def _say_who(flow_run: FlowRun) -> str:
    """Say who or what started the run; one server password for all hides the person behind the UI."""
    if flow_run.deployment_id is None:
        return _name_shell_user()
    if flow_run.auto_scheduled:
        return "a schedule"
    if flow_run.created_by is not None and flow_run.created_by.display_value:
        return str(flow_run.created_by.display_value)
    if flow_run.parent_task_run_id is not None:
        return "another run"
    return "somebody through Prefect's UI or API"


def _name_shell_user() -> str:
    user = getpass.getuser()
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} (as {user}) at the shell" if behind and behind != user else f"{user} at the shell"
