"""The watch against the sandbox's store and a Prefect server: it sees, ends, tells once, and calls."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Completed, Pending, Running

from deployments.dead_runs import SILENT, STUCK
from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.stack import Sandbox
from deployments.watch.__main__ import main
from deployments.watch.complaints import Complaint
from deployments.watch.engine import SILENCE, Engine, end_silent, end_stuck
from deployments.watch.memory import Memory, read_memory, write_memory
from deployments.watch.telling import call_heartbeat
from tasks.profiles import SERVICES_VARIABLE

NOW = datetime(2026, 3, 10, 9, tzinfo=UTC)
NO_SERVER = "http://127.0.0.1:1/api"


@flow(name="watched")
def watched(service: str) -> None:
    """Stand for a runbook."""


class Watched:
    """A service of the sandbox that nobody else watches."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.services = folder / "services"
        self.services.mkdir()
        document = yaml.safe_load((sandbox.state / "services" / "invoice.yaml").read_text(encoding="utf-8"))
        document["state_directory"] = str(folder / "host")
        document["backup"]["destination"]["url"] += "/watched"
        (self.services / "invoice.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def count_told(self) -> int:
        return sum(len(self.sandbox.vendors.read_kept(name)) for name in ("pager", "sendgrid"))


@pytest.fixture
def service(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    made = Watched(sandbox, tmp_path)
    monkeypatch.setenv(SERVICES_VARIABLE, str(made.services))
    return made


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as connected:
        yield connected


@pytest.fixture
def engine(prefect_server: None) -> Iterator[Engine]:
    with Engine({"PREFECT_API_URL": PREFECT_API_URL.value()}) as found:
        yield found


def make_run(client: SyncPrefectClient, state: State[Any]) -> UUID:
    return client.create_flow_run(watched, parameters={"service": "invoice"}, state=state).id


def only(engine: Engine, run_id: UUID) -> list[Any]:
    return [run for run in engine.list_runs() if run["id"] == str(run_id)]


def test_a_store_without_a_set_is_told_once_an_hour_and_each_time_by_the_exit_code(
    service: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    before = service.count_told()

    assert main(["backups"]) == 1
    assert "invoice: There is no backup set: run nightly-backup/invoice." in capsys.readouterr().err
    told = service.count_told()
    assert told > before

    assert main(["backups"]) == 1
    assert service.count_told() == told


def test_a_memory_that_cannot_be_kept_keeps_nobody_from_being_told(
    service: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk; what takes the file's place stands for that, which root could write all the same."""
    (tmp_path / "host/invoice").mkdir(mode=0o700, parents=True)
    (tmp_path / "host/invoice/watch-backups.json").mkdir()
    other = yaml.safe_load((service.services / "invoice.yaml").read_text(encoding="utf-8")) | {
        "name": "other"
    }
    (service.services / "other.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")

    assert main(["backups"]) == 1

    said = capsys.readouterr().err
    assert "invoice: There is no backup set" in said
    assert "watch-backups.json could not be written" in said
    assert "other: There is no backup set" in said


def test_a_schedule_that_never_comes_is_told_and_the_store_is_looked_at_all_the_same(
    service: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    path = service.services / "invoice.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    profile["backup"]["schedule"] = "0 2 30 2 *"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")

    assert main(["backups"]) == 1

    said = capsys.readouterr().err
    assert "invoice: backup.schedule is '0 2 30 2 *', which never comes" in said
    assert "invoice: There is no backup set" in said


def test_a_server_that_is_away_is_told_to_the_first_level(
    service: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NO_SERVER)
    before = service.count_told()
    assert main(["engine"]) == 1
    assert "Prefect's server does not answer (ConnectError)" in capsys.readouterr().err
    assert service.count_told() > before


def test_a_queue_that_no_worker_polls_is_told(engine: Engine, client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="operations", type="process"), overwrite=True)
    assert "No worker polls the queue 'nobody'" in engine.find_unpolled(["nobody"], NOW)["nobody"].sentence


def test_a_run_that_stays_pending_is_ended_and_a_young_one_is_not(
    engine: Engine, client: SyncPrefectClient
) -> None:
    run_id = make_run(client, Pending(name="Submitting"))
    now = datetime.now(UTC)

    assert end_stuck(engine, only(engine, run_id), now) == []
    ((service, complaint),) = end_stuck(engine, only(engine, run_id), now + STUCK + timedelta(minutes=1))

    assert service == "invoice"
    assert "never got going and was ended" in complaint.sentence
    state = client.read_flow_run(run_id).state
    assert state is not None
    assert state.name == "Crashed"
    assert only(engine, run_id) == []


def test_a_run_that_died_before_its_first_heartbeat_is_ended_where_others_are_heard_of(
    client: SyncPrefectClient,
) -> None:
    run_id = make_run(client, Running())
    now = datetime.now(UTC) + timedelta(minutes=5)
    with Heard({"PREFECT_API_URL": PREFECT_API_URL.value()}) as engine:
        assert end_silent(engine, only(engine, run_id), now) == []
        engine.expected = True
        assert end_silent(engine, only(engine, run_id), now)


def test_only_a_run_of_a_deployment_is_expected_to_be_heard_of(
    engine: Engine, client: SyncPrefectClient
) -> None:
    """That no run of its service was heard of, as without the setting for workers, says nothing of it."""
    (run,) = only(engine, make_run(client, Running()))
    long_ago = datetime.now(UTC) - timedelta(days=1)
    assert not engine.expects_heartbeat(run, long_ago)
    assert not engine.expects_heartbeat(run | {"deployment_id": "x"}, long_ago)


def test_a_run_that_is_never_done_with_being_cancelled_is_cancelled(client: SyncPrefectClient) -> None:
    """Prefect takes no other end of it."""
    run_id = make_run(client, Running())
    client.set_flow_run_state(run_id, Cancelling())
    now = datetime.now(UTC) + timedelta(minutes=5)
    with Heard({"PREFECT_API_URL": PREFECT_API_URL.value()}) as engine:
        engine.last = now - SILENCE - timedelta(seconds=5)
        assert end_silent(engine, only(engine, run_id), now)
    state = client.read_flow_run(run_id).state
    assert state is not None
    assert state.name == "Cancelled"


def test_a_run_that_the_server_doubts_is_judged_by_its_heartbeats_alone(client: SyncPrefectClient) -> None:
    run_id = make_run(client, Running())
    client.set_flow_run_state(run_id, Running(name=SILENT))
    now = datetime.now(UTC)
    with Heard({"PREFECT_API_URL": PREFECT_API_URL.value()}) as engine:
        engine.last = now
        assert end_silent(engine, only(engine, run_id), now) == []
        engine.last = now - SILENCE - timedelta(seconds=5)
        assert end_silent(engine, only(engine, run_id), now)


def test_a_run_that_ended_while_it_was_looked_at_stays_as_it_ended(
    engine: Engine, client: SyncPrefectClient
) -> None:
    run_id = make_run(client, Pending())
    seen = only(engine, run_id)
    client.set_flow_run_state(run_id, Completed(), force=True)
    assert end_stuck(engine, seen, datetime.now(UTC) + timedelta(hours=1)) == []
    state = client.read_flow_run(run_id).state
    assert state is not None
    assert state.name == "Completed"


class Heard(Engine):
    """An engine that heard of a run when it is told to have."""

    last: datetime | None = None
    expected = False

    def find_alive(self, runs: Any, since: datetime) -> frozenset[str]:
        heard = self.last is not None and self.last >= since
        return frozenset(run["id"] for run in runs) if heard else frozenset()

    def expects_heartbeat(self, run: Any, since: datetime) -> bool:
        return self.expected


@pytest.mark.parametrize(
    ("heard", "ended"),
    [(None, False), (timedelta(seconds=30), False), (SILENCE + timedelta(seconds=5), True)],
    ids=["never", "lately", "not any more"],
)
def test_only_a_run_that_was_heard_of_and_is_no_more_is_ended(
    client: SyncPrefectClient, heard: timedelta | None, ended: bool
) -> None:
    run_id = make_run(client, Running())
    now = datetime.now(UTC) + timedelta(minutes=5)
    with Heard({"PREFECT_API_URL": PREFECT_API_URL.value()}) as engine:
        engine.last = None if heard is None else now - heard
        assert bool(end_silent(engine, only(engine, run_id), now)) is ended
        assert (only(engine, run_id) == []) is ended


def test_a_server_that_has_just_come_back_is_not_believed_about_heartbeats_yet() -> None:
    memory = Memory()
    assert memory.note_answer(NOW, answers=True) == timedelta(0)
    assert memory.note_answer(NOW + timedelta(minutes=2), answers=True) == timedelta(minutes=2)
    memory.note_answer(NOW + timedelta(minutes=3), answers=False)
    assert memory.note_answer(NOW + timedelta(minutes=4), answers=True) == timedelta(0)
    assert memory.note_answer(NOW + timedelta(hours=4), answers=True) == timedelta(0)


def test_a_sentence_of_which_only_figures_changed_is_the_same_thing() -> None:
    first, later = (Complaint.of(f"The newest set, x, is {age} old.") for age in ("23 h", "1 day 5 h"))
    other = Complaint.of("The newest set, x, was never read back.")
    memory = Memory()
    memory.remember([first], NOW)
    assert memory.choose_new([later, other], NOW + timedelta(minutes=59)) == [other]
    assert memory.choose_new([later], NOW + timedelta(hours=1)) == [later]


def test_a_memory_is_kept_and_a_damaged_one_tells_once_more(tmp_path: Path) -> None:
    path = tmp_path / "watch-engine.json"
    memory = Memory()
    memory.remember([Complaint("a", "A.")], NOW)
    write_memory(path, memory)
    assert read_memory(path) == memory
    path.write_text("{", encoding="utf-8")
    assert read_memory(path) == Memory()


def test_a_heartbeat_that_is_not_taken_is_told(endpoints: Endpoints) -> None:
    assert call_heartbeat(endpoints.invoice_health) is None
    assert call_heartbeat(f"{endpoints.invoice_health}/nothing-is-here") is not None
    assert "was not reached" in (call_heartbeat("http://127.0.0.1:1/") or "")
