"""What outage-triage does about what it finds: an application of a test's own is broken and comes back."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.variables import Variable

from deployments.sandbox import programs
from deployments.sandbox.node import PACKAGES
from deployments.sandbox.stack import Sandbox
from flows.control_service import control_service
from flows.outage_triage import outage_triage
from tasks.journal import list_open_journals
from tasks.kill_switch import VARIABLE
from tasks.process_manager import observe_application, start_application, stop_application
from tasks.records.remediation import PastRemedy
from tasks.remedies import read_remedies, record_remedy
from tests.runbooks.conftest import Children, Ledger, Ledgers, artifacts_of, completed, failed, wait_until
from tests.runbooks.walking import events, is_healthy

RUNBOOK = "outage-triage"
BROKEN = "process.exit(3);\n"
SLOW = """const { createServer } = require('http');
require('http').createServer = (answer) => createServer((...both) => setTimeout(() => answer(...both), 1300));
"""


@pytest.fixture(scope="module")
def operated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A small service whose application runs, and may be restarted and given its port back at once."""
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("remediation"), environment)
        ledger = maker.make("postgresql")
        ledger.operate(sandbox)
        ledger.change(application={"login": None})
        write_env(ledger, ledger.database.url)
        yield ledger
        maker.remove()


@pytest.fixture
def service(operated: Ledger) -> Iterator[Ledger]:
    """The service as it is when nobody broke anything: healthy, and without a past."""
    server = operated.application / "server.js"
    whole = server.read_text()
    allow(operated, "restart", "free-port")
    yield operated
    server.write_text(whole)
    write_env(operated, operated.database.url)
    (operated.folder / "state" / operated.name / "remedies.jsonl").unlink(missing_ok=True)
    (operated.folder / "state" / operated.name / "trail.jsonl").unlink(missing_ok=True)
    if not is_healthy(operated):
        stop_application.fn(operated.profile)
        start_application.fn(operated.profile)
        wait_until(lambda: is_healthy(operated))


@pytest.fixture
def kill_switch(prefect_server: None) -> Iterator[Callable[[Any], None]]:
    def turn_on(value: Any) -> None:
        Variable.set(VARIABLE, value, overwrite=True)

    yield turn_on
    with suppress(Exception), get_client(sync_client=True) as client:
        client.delete_variable_by_name(VARIABLE)


def write_env(ledger: Ledger, url: str) -> None:
    ledger.write_env(url)
    with (ledger.application / ".env").open("a") as file:
        file.write(f"JWT_SECRET={'s' * 64}\n")


def allow(ledger: Ledger, *remedies: str, **changed: Any) -> None:
    outage = {"remedies": list(remedies), "remedies_per_hour": 3, "healthy_for": "PT1S"}
    ledger.change(outage=outage | changed, application={"start_within": "PT10S"})


def triage(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", outage_triage(ledger.name, **parameters, return_state=True))


def control(ledger: Ledger, action: Any) -> State[Any]:
    return cast("State[Any]", control_service(ledger.name, action, return_state=True))


def stop(ledger: Ledger) -> None:
    stop_application.fn(ledger.profile)
    assert not is_healthy(ledger)


def past(ledger: Ledger) -> list[tuple[str, str]]:
    return [(remedy.remedy, remedy.outcome) for remedy in read_remedies.fn(ledger.profile)]


def report(ledger: Ledger, state: State[Any]) -> str:
    return artifacts_of(state)[f"outage-triage-diagnosis-{ledger.name}"]


# --- It comes back


def test_a_stopped_application_is_started_and_stays_healthy(service: Ledger) -> None:
    stop(service)
    state = triage(service)
    assert "healthy again" in completed(state)
    assert is_healthy(service)
    assert past(service) == [("restart", "healthy again")]
    assert events(service) == ["began", "finished"]
    assert "healthy again" in report(service, state).splitlines()[0]


def test_what_a_person_stopped_stays_stopped_until_a_person_starts_it(service: Ledger) -> None:
    completed(control(service, "stop"))
    message = failed(triage(service))
    assert "It was stopped on purpose at " in message
    assert "start it with control-service" in message
    assert not is_healthy(service)
    assert past(service) == []
    completed(control(service, "start"))
    stop(service)
    assert "healthy again" in completed(triage(service))


def test_an_application_that_hangs_is_restarted(service: Ledger) -> None:
    (before,) = observe_application.fn(service.profile).instances
    assert before.pid is not None
    os.kill(before.pid, signal.SIGSTOP)
    try:
        completed(triage(service))
    finally:
        with suppress(ProcessLookupError):
            os.kill(before.pid, signal.SIGCONT)
    assert is_healthy(service)
    assert past(service) == [("restart", "healthy again")]


def test_a_restart_after_which_it_answers_too_slowly_is_no_success_and_people_are_needed(
    service: Ledger,
) -> None:
    allow(service, "restart", slow_after="PT1S")
    server = service.application / "server.js"
    server.write_text(SLOW + server.read_text())
    (before,) = observe_application.fn(service.profile).instances
    assert before.pid is not None
    os.kill(before.pid, signal.SIGSTOP)
    message = failed(triage(service))
    assert "what was done did not help: none of its answers took less than 1." in message
    assert past(service) == [("restart", "not healthy")]


@pytest.fixture
def left_behind(service: Ledger) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the application that nobody manages any more keeps its port and serves nobody."""
    stop(service)
    write_env(service, service.database.url.replace(service.database.name, "elsewhere"))
    port = str(httpx.URL(service.profile.application.health_url).port)
    environment = {**os.environ, "PORT": port, "NODE_PATH": str(PACKAGES)}
    process = subprocess.Popen([programs.node(), "server.js"], cwd=service.application, env=environment)
    wait_until(lambda: answers(service))
    write_env(service, service.database.url)
    yield process
    process.kill()
    process.wait()


def answers(ledger: Ledger) -> bool:
    try:
        return httpx.get(ledger.profile.application.health_url, timeout=5).status_code == 503
    except httpx.HTTPError:
        return False


def test_a_process_that_was_left_behind_gives_the_port_back(
    service: Ledger, left_behind: subprocess.Popen[bytes]
) -> None:
    completed(triage(service))
    assert left_behind.poll() is not None
    assert is_healthy(service)
    assert past(service) == [("free-port", "healthy again"), ("restart", "healthy again")]


def test_a_healthy_service_is_left_alone(service: Ledger) -> None:
    completed(triage(service))
    assert past(service) == []


# --- It is refused


def test_a_dry_run_shows_the_plan_and_does_nothing(service: Ledger) -> None:
    stop(service)
    state = triage(service, dry_run=True)
    assert not state.is_completed()
    assert "Restart ledger" in artifacts_of(state)[f"outage-triage-plan-{service.name}"]
    assert not is_healthy(service)
    assert past(service) == []


def test_the_kill_switch_keeps_everything_as_it_is(
    service: Ledger, kill_switch: Callable[[Any], None]
) -> None:
    stop(service)
    kill_switch({service.name: "Ada migrates the database"})
    state = triage(service)
    assert "Ada migrates the database" in failed(state)
    assert "Ada migrates the database" in report(service, state)
    assert not is_healthy(service)
    assert past(service) == []


def test_the_kill_switch_is_asked_again_before_each_act(
    service: Ledger, children: Children, kill_switch: Callable[[Any], None]
) -> None:
    stop(service)
    run = children.start(service, "outage_triage", pause_when_called="flows.remediating:_apply")
    wait_until(lambda: run.is_paused, 60)
    kill_switch("everybody stops")
    run.go_on()
    ended = run.wait()
    assert ended is not None
    assert ended["type"] == "FAILED"
    assert "everybody stops" in ended["message"]
    assert not is_healthy(service)
    assert past(service) == []
    assert list_open_journals(service.profile) == ()


def test_a_spent_budget_leaves_it_to_people(service: Ledger) -> None:
    allow(service, "restart", remedies_per_hour=1)
    stop(service)
    record_remedy.fn(service.profile, before(minutes=10))
    assert "The next is possible at" in failed(triage(service))
    assert not is_healthy(service)
    assert len(past(service)) == 1


def before(minutes: int) -> PastRemedy:
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    return PastRemedy(at=at, run="r", remedy="restart", fingerprint="other", outcome="healthy again")


# --- It waits for a person


def deploy() -> UUID:
    """Make a run of a deployment, as an alert does."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name(RUNBOOK)
        name = f"{RUNBOOK}-{datetime.now(UTC).timestamp()}"
        deployment = client.create_deployment(flow_id, name=name, enforce_parameter_schema=False)
        return client.create_flow_run_from_deployment(deployment).id


def go_on(ledger: Ledger, run_id: UUID) -> State[Any]:
    """Run it as a worker would, as far as it goes."""
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run_id)
    parameters = {"service": ledger.name, "dry_run": False}
    try:
        return cast("State[Any]", run_flow(outage_triage, flow_run, parameters, return_type="state"))
    except Pause as pause:
        return cast("State[Any]", pause.state)


def answer(run_id: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run_id, run_input={"decision": "approve", "name": "Ada"})


@pytest.fixture
def called(service: Ledger) -> Iterator[Callable[[], list[str]]]:
    """Why people were called for the service, which has somebody to call."""
    level = {"name": "team", "contacts": ["Team"], "acknowledge_within": "PT30M"}
    people: dict[str, Any] = {"contacts": [{"name": "Team", "email": "team@example.com"}]}
    service.change(**people, escalation={"levels": [level]})
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("escalate")
        deployment = client.create_deployment(flow_id, name=service.name, enforce_parameter_schema=False)
        wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [str(deployment)]}})
        before = {run.id for run in client.read_flow_runs(flow_run_filter=wanted)}

        def read() -> list[str]:
            runs = client.read_flow_runs(flow_run_filter=wanted)
            return [str(run.parameters["reason"]) for run in runs if run.id not in before]

        yield read
    service.change(escalation={"levels": []})


def test_what_the_profile_does_not_allow_waits_for_approval_and_is_done_then(
    service: Ledger, called: Callable[[], list[str]]
) -> None:
    """Somebody is called once, for the approval."""
    allow(service)
    stop(service)
    run_id = deploy()
    assert go_on(service, run_id).name == "Suspended"
    assert past(service) == []
    (reason,) = called()
    assert reason.startswith("A triage knows what to do and waits for your approval in the Prefect UI: ")
    answer(run_id)
    assert "healthy again" in completed(go_on(service, run_id))
    assert len(called()) == 1
    assert past(service) == [("restart", "healthy again")]
    assert events(service) == ["approved", "began", "finished"]


def test_nothing_is_done_when_something_else_is_wrong_than_was_approved(
    service: Ledger, left_behind: subprocess.Popen[bytes]
) -> None:
    allow(service)
    run_id = deploy()
    assert go_on(service, run_id).name == "Suspended"
    left_behind.kill()
    left_behind.wait()
    answer(run_id)
    assert "is not what was approved" in failed(go_on(service, run_id))
    assert not is_healthy(service)
    assert past(service) == []


# --- It is killed, raced, or does not help


def test_killed_in_the_middle_it_is_finished_by_the_next_run_and_counts(
    service: Ledger, children: Children
) -> None:
    stop(service)
    killed = children.start(service, "outage_triage", kill_when_called="flows.remediating:restart")
    assert killed.wait() is None
    assert past(service) == [("restart", "begun")]
    completed(triage(service))
    assert is_healthy(service)
    assert past(service) == [("restart", "healthy again")]
    assert list_open_journals(service.profile) == ()
    assert events(service) == ["began", "settled"]


def test_the_second_of_two_at_once_finds_it_healthy_and_does_nothing(
    service: Ledger, children: Children
) -> None:
    stop(service)
    second = children.start(service, "outage_triage", pause_when_called="flows.remediating:approve")
    wait_until(lambda: second.is_paused, 60)
    completed(triage(service))
    second.go_on()
    ended = second.wait()
    assert ended is not None
    assert ended["type"] == "COMPLETED", ended
    assert "healthy by now" in ended["message"]
    assert past(service) == [("restart", "healthy again")]
    assert events(service) == ["began", "finished", "began", "finished"]


def test_what_does_not_come_back_is_stopped_again_and_left_to_people(service: Ledger) -> None:
    allow(service, "restart")
    service.change(application={"start_within": "PT2S"})
    stop(service)
    (service.application / "server.js").write_text(BROKEN)
    state = triage(service)
    said = failed(state)
    assert "is stopped again, as it was found" in said
    assert "People are needed" in said
    assert "is stopped again" in report(service, state)
    assert observe_application.fn(service.profile).stopped
    assert past(service) == [("restart", "undone")]
    assert list_open_journals(service.profile) == ()
    assert events(service) == ["began", "failed"]

    assert "did not help" in failed(triage(service))
    assert past(service) == [("restart", "undone")]
