"""What was due while the sandbox was down, on a Prefect server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect.client.base import PrefectHttpxSyncClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry, Running, Scheduled

from deployments.sandbox.overdue_runs import PAGE, delete_overdue_runs

HOUR = timedelta(hours=1)


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as connected:
        yield connected


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def deployment(client: SyncPrefectClient, now: datetime) -> Iterator[UUID]:
    """A deployment with runs that its schedule made: in the past, each hour, and to come."""
    schedule = DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=HOUR, anchor_date=now + HOUR / 2), active=True
    )
    flow = client.create_flow_from_name("collect-metrics")
    made = client.create_deployment(flow, name="yesterday", schedules=[schedule])
    for begin, end in ((now - (PAGE + 10) * HOUR, now), (now, now + 3 * HOUR)):
        times = {"start_time": begin.isoformat(), "end_time": end.isoformat(), "min_runs": PAGE + 10}
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json=times)
    yield made
    client.delete_deployment(made)


def runs_of(client: SyncPrefectClient, deployment: UUID, before: datetime) -> set[UUID]:
    wanted = {
        "deployment_id": {"any_": [str(deployment)]},
        "expected_start_time": {"before_": before.isoformat()},
    }
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), limit=200)
    return {run.id for run in found}


def test_what_schedules_missed_is_deleted_and_what_began_or_was_asked_for_or_is_to_come_stays(
    client: SyncPrefectClient, deployment: UUID, now: datetime
) -> None:
    missed, tomorrow = runs_of(client, deployment, now), now + timedelta(days=1)
    to_come = runs_of(client, deployment, tomorrow) - missed
    assert len(missed) >= PAGE + 9
    assert to_come
    tried_again, *missed_wholly = sorted(missed)
    client.set_flow_run_state(tried_again, Running(), force=True)
    client.set_flow_run_state(tried_again, AwaitingRetry(scheduled_time=now - HOUR), force=True)
    asked_for = client.create_flow_run_from_deployment(
        deployment, state=Scheduled(scheduled_time=now - 2 * HOUR)
    ).id

    # Prefect's own client: this server keeps all in SQLite, and asks to be asked again while that is locked.
    with PrefectHttpxSyncClient(base_url=PREFECT_API_URL.value(), timeout=30) as api:
        # Others may have left some on this server.
        assert delete_overdue_runs(api) >= len(missed_wholly)
        assert delete_overdue_runs(api) == 0

    assert runs_of(client, deployment, tomorrow) >= {tried_again, asked_for, *to_come}
    assert not runs_of(client, deployment, tomorrow) & set(missed_wholly)
