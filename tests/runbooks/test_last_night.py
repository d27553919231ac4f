"""A morning's page over real deployments, schedules and runs of a Prefect server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Running

from flows.decisions.last_night import judge_times
from flows.last_night import last_night
from tasks import prefect_runs
from tasks.errors import UnreachableError
from tasks.escalations import begin_escalation, name_escalation
from tasks.journal import open_journal
from tasks.prefect_runs import list_due, observe_runs
from tasks.records.escalation import Opening
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed

NOW = datetime.now(UTC)
TOMORROW = NOW + timedelta(days=1)
DUE = (NOW + timedelta(hours=12)).replace(minute=0, second=0, microsecond=0)
SECRET = "api_key=sk_live_4242424242424242"
CRON = f"0 {DUE.hour} * * *"


class Engine:
    """Deployments of a service of this test's own, and their runs."""

    def __init__(self, client: SyncPrefectClient, ledger: Ledger) -> None:
        self.client, self.ledger = client, ledger
        self.made: list[UUID] = []

    def deploy(self, runbook: str, schedule: CronSchedule | IntervalSchedule, *, active: bool = True) -> UUID:
        made = self.client.create_deployment(
            self.client.create_flow_from_name(runbook),
            name=self.ledger.name,
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=active)],
            tags=["managed", self.ledger.name],
            enforce_parameter_schema=False,
        )
        self.made.append(made)
        return made

    def due_tomorrow(self, runbook: str, *states: State[Any], active: bool = True) -> None:
        """Deploy a runbook, let the server make its run of tomorrow, and bring that into these states."""
        made = self.deploy(runbook, CronSchedule(cron=CRON, timezone="UTC"), active=active)
        times = {"start_time": NOW.isoformat(), "end_time": TOMORROW.isoformat(), "max_runs": 1}
        self.client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json=times)
        wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [str(made)]}})
        found = self.client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
        for state in states:
            self.client.set_flow_run_state(found[0].id, state, force=True)

    def remove(self) -> None:
        for made in self.made:
            self.client.delete_deployment(made)


@pytest.fixture
def engine(ledgers: Ledgers) -> Iterator[Engine]:
    with get_client(sync_client=True) as client:
        made = Engine(client, ledgers.make("postgresql"))
        yield made
        made.remove()


def look(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", last_night(ledger.name, **parameters, return_state=True))


def test_prefects_own_reading_of_a_schedule_is_used_across_a_change_of_the_clocks() -> None:
    since = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    schedule = CronSchedule(cron="0 3 * * *", timezone="Europe/Berlin").model_dump()
    assert list_due(schedule, since, since + timedelta(days=2)) == (
        datetime(2026, 10, 25, 2, 0, tzinfo=UTC),
        datetime(2026, 10, 26, 2, 0, tzinfo=UTC),
    )
    minutely = CronSchedule(cron="* * * * *", timezone="UTC").model_dump()
    assert len(list_due(minutely, since, since + timedelta(days=1))) == 1440
    hourly = IntervalSchedule(interval=timedelta(hours=1), anchor_date=since).model_dump()
    assert len(list_due(hourly, since, since + timedelta(hours=3))) == 3


def test_each_run_of_real_schedules_is_found_once_and_judged(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs, "_PAGE", 2)
    engine.due_tomorrow("nightly-backup", Running(), Completed(message="32 sets."))
    engine.due_tomorrow("check-backups", Running(), Crashed(message=f"killed with {SECRET}"))
    engine.due_tomorrow("audit-log-cleanup")
    engine.due_tomorrow("restore-drill", active=False)
    engine.due_tomorrow("health-check", Cancelled(name="Skipped", message="It was late."))

    seen = observe_runs.fn(engine.ledger.profile, NOW, TOMORROW)

    found = {
        judged.runbook: (judged.due, judged.verdict)
        for judged in judge_times(seen, timedelta(hours=2), TOMORROW)
    }
    assert found == {
        "nightly-backup": (DUE, "ran"),
        "check-backups": (DUE, "failed"),
        "audit-log-cleanup": (DUE, "late"),
        "restore-drill": (DUE, "paused"),
        "health-check": (DUE, "skipped"),
    }
    assert (seen.is_whole, seen.cleaned_at, len(seen.runs)) == (True, None, 4)
    assert "sk_live" not in seen.model_dump_json()
    monkeypatch.setattr(prefect_runs, "_PAGE", 200)
    monkeypatch.setattr(prefect_runs, "_MOST", 3)
    assert not observe_runs.fn(engine.ledger.profile, NOW, TOMORROW).is_whole


def test_the_newest_cleanup_is_one_that_deleted(engine: Engine) -> None:
    deployed = engine.deploy("audit-log-cleanup", CronSchedule(cron=CRON, timezone="UTC"))
    ends = []
    for dry_run in (False, True):
        made = engine.client.create_flow_run_from_deployment(deployed, parameters={"dry_run": dry_run})
        states: tuple[State[Any], ...] = (Running(), Completed())
        for state in states:
            engine.client.set_flow_run_state(made.id, state, force=True)
        ends.append(engine.client.read_flow_run(made.id).end_time)
    assert observe_runs.fn(engine.ledger.profile, NOW, TOMORROW).cleaned_at == ends[0]


def test_without_a_prefect_server_nobody_says_that_nothing_ran(engine: Engine) -> None:
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(UnreachableError, match="PREFECT_API_URL"),
    ):
        observe_runs.fn(engine.ledger.profile, NOW, TOMORROW)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(UnreachableError, match=r"did not take what was asked of it \(ConnectError\)"),
    ):
        observe_runs.fn(engine.ledger.profile, NOW, TOMORROW)


def test_a_night_that_went_wrong_is_on_the_page_and_in_the_file_of_the_host(engine: Engine) -> None:
    ledger = engine.ledger
    # Nobody makes a run of these moments, which are over.
    engine.deploy("check-backups", IntervalSchedule(interval=timedelta(milliseconds=50)))
    profile = ledger.profile
    opening = Opening(id=name_escalation(NOW), service="ledger", at=NOW, reason="It is down.", was_down=True)
    begin_escalation.fn(profile, opening, "team")
    open_journal(profile, "restore-database").write("began")
    (ledger.services / "wrong.yaml").write_text("name: [")
    neighbour = {**ledger.settings, "name": "neighbour", "title": "A neighbour"}
    (ledger.services / "neighbour.yaml").write_text(yaml.safe_dump(neighbour))
    (profile.state_directory / "neighbour").mkdir(mode=0o700)

    state = look(ledger)

    message = failed(state)
    assert message.startswith("ledger: not well: escalation open since ")
    assert "restore-database half done; backups cannot be relied on" in message
    assert "check-backups missed, " in message
    (page,) = artifacts_of(state).values()
    assert "There is no backup set: run nightly-backup/ledger." in page
    html = (profile.state_directory / "last-night.html").read_text(encoding="utf-8")
    assert "Look at A small service, A neighbour, wrong." in html
    assert "restore-database</b> half done" in html
    assert "<b>profile</b> not usable" in html
    assert "hours is 0: give 1 to 168." in failed(look(ledger, hours=0))


def test_a_good_night_is_completed(engine: Engine) -> None:
    engine.deploy("check-backups", CronSchedule(cron=CRON, timezone="UTC"))
    engine.ledger.must_back_up()
    completed(engine.ledger.drill())
    state = look(engine.ledger)
    assert completed(state) == "ledger: all is well."
    assert set(artifacts_of(state)) == {"last-night-night-ledger"}
    html = (engine.ledger.profile.state_directory / "last-night.html").read_text(encoding="utf-8")
    assert "All is well." in html
