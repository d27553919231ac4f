"""What Prefect knows of a service's runs: when they were due by its own schedules, and what became of them.

The times come from Prefect's own reading of a schedule, the one by which its scheduler makes runs.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.server.schemas import schedules as server_schedules
from pydantic import TypeAdapter

from tasks.errors import ConfigurationError, UnreachableError
from tasks.escalation_runs import has_server
from tasks.log_masking import mask
from tasks.prefect_server import asking_prefect
from tasks.records.figures import shorten
from tasks.records.last_night import DueRunbook, SeenRun, SeenRuns
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

_MANAGED: Final = "managed"
_CLEANUP: Final = "audit-log-cleanup"
_PAGE: Final = 200
_MOST: Final = 10_000
# Prefect reads at most a thousand moments at once: in a quarter of a day there are fewer by any cron.
_AT_ONCE: Final = timedelta(hours=6)
# A schedule that has nothing due in so many days is for people to look at.
_LOOKED_BACK: Final = timedelta(days=8)
_LONGEST_MESSAGE: Final = 300
_Found = TypeVar("_Found")
_SCHEDULE: TypeAdapter[Any] = TypeAdapter(server_schedules.SCHEDULE_TYPES)


@retried
def observe_runs(profile: ServiceProfile, since: datetime, now: datetime) -> SeenRuns:
    """Given a service and some hours, return what was due in them, and the runs.

    Raise ``UnreachableError`` if the Prefect server does not answer, or this process knows none.
    """
    if not has_server():
        raise UnreachableError("No Prefect server is known here: set PREFECT_API_URL.")
    wanted = DeploymentFilter.model_validate({"tags": {"all_": [_MANAGED, profile.name]}})
    with asking_prefect() as client:
        deployments = _read_pages(partial(client.read_deployments, deployment_filter=wanted))
        flows = {
            flow.id: flow.name for flow in _read_pages(partial(client.read_flows, deployment_filter=wanted))
        }
        names = {found.id: flows.get(found.flow_id, "") for found in deployments}
        runs = _read_runs(client, names, since, now)
        cleaned_at = _find_cleaned(client, [key for key, name in names.items() if name == _CLEANUP])
    return SeenRuns(
        runbooks=tuple(
            _expect(names[found.id], schedule, found, since, now)
            for found in deployments
            for schedule in found.schedules
        ),
        runs=tuple(_describe(names, run) for run in runs[:_MOST]),
        cleaned_at=cleaned_at,
        is_whole=len(runs) <= _MOST,
    )


def list_due_backups(profile: ServiceProfile, until: datetime) -> tuple[datetime, ...]:
    """Given a service, return when its backup was due in the days before a moment.

    Raise ``ConfigurationError`` if its schedule never comes, such as on the 30th of February.
    """
    schedule = {"cron": profile.backup.schedule, "timezone": profile.time_zone}
    try:
        return list_due(schedule, until - _LOOKED_BACK, until)
    except ValueError:
        raise ConfigurationError(
            f"backup.schedule is '{profile.backup.schedule}', which never comes: correct it in the profile "
            f"of {profile.name}."
        ) from None


def list_due(schedule: object, since: datetime, until: datetime) -> tuple[datetime, ...]:
    """Given a schedule of Prefect's client, return its moments from ``since`` to before ``until``."""
    reader = _SCHEDULE.validate_python(schedule)
    found: set[datetime] = set()
    start = since
    while start < until:
        end = min(start + _AT_ONCE, until)
        found |= set(asyncio.run(reader.get_dates(start=start, end=end)))
        start = end
    return tuple(datetime.fromisoformat(moment.isoformat()) for moment in sorted(found) if moment < until)


def _expect(
    runbook: str, schedule: DeploymentSchedule, deployment: DeploymentResponse, since: datetime, now: datetime
) -> DueRunbook:
    # What was deployed an hour ago missed nothing last night.
    begins = max(since, deployment.created) if deployment.created is not None else since
    due = list_due(schedule.schedule.model_dump(), begins, now)
    return DueRunbook(runbook=runbook, paused=deployment.paused or not schedule.active, due=due)


def _read_runs(
    client: SyncPrefectClient, deployments: Iterable[UUID], since: datetime, now: datetime
) -> list[FlowRun]:
    """Return the runs, each once, and at most a page more than are wanted."""
    if not (ids := [str(key) for key in deployments]):
        return []
    times = {"after_": since.isoformat(), "before_": now.isoformat()}
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": ids}, "expected_start_time": times})
    # Many runs have one time: in the order of their times, one might be on no page, or on two.
    read = partial(client.read_flow_runs, flow_run_filter=wanted, sort=FlowRunSort.ID_DESC)
    return list({run.id: run for run in _read_pages(read)}.values())


def _read_pages(read: Callable[..., list[_Found]]) -> list[_Found]:
    found: list[_Found] = []
    while len(found) <= _MOST:
        page = read(limit=_PAGE, offset=len(found))
        found += page
        if len(page) < _PAGE:
            break
    return found


def _find_cleaned(client: SyncPrefectClient, deployments: list[UUID]) -> datetime | None:
    if not deployments:
        return None
    wanted = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": [str(key) for key in deployments]},
            "state": {"type": {"any_": ["COMPLETED"]}},
        }
    )
    newest = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.END_TIME_DESC, limit=_PAGE)
    return next((run.end_time for run in newest if not run.parameters.get("dry_run")), None)


def _describe(names: dict[UUID, str], run: FlowRun) -> SeenRun:
    state, key = run.state, run.deployment_id
    return SeenRun(
        runbook=names.get(key, "") if key is not None else "",
        due=run.expected_start_time if run.auto_scheduled else None,
        state=state.type.value if state is not None else "PENDING",
        state_name=(state.name if state is not None else None) or "Pending",
        message=shorten(
            mask((state.message if state is not None else None) or "", frozenset()), _LONGEST_MESSAGE
        ),
        started=run.start_time,
    )
