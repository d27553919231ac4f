"""restart-service and control-service under a real application: what was asked for is so, and is proven."""

from typing import Any, cast

import psutil
import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox.stack import Sandbox
from flows.control_service import control_service
from flows.restart_service import restart_service
from tasks.journal import list_open_journals
from tasks.process_manager import observe_application, stop_application
from tests.runbooks.conftest import Children, Ledger, Ledgers, artifacts_of, completed, failed
from tests.runbooks.walking import events, is_healthy, steps_of_the_newest_run

SECRET = "correct-horse-7-battery"
BROKEN = f"console.error('the key is {SECRET}'); process.exit(3);\n"
GRACEFUL = ["began", "restarting gracefully", "proven", "closed"]
HARD = ["began", "restarting hard", "proven", "closed"]


@pytest.fixture
def operated(ledgers: Ledgers, sandbox: Sandbox) -> Ledger:
    ledger = ledgers.make("postgresql")
    ledger.operate(sandbox)
    with (ledger.application / ".env").open("a") as file:
        file.write(f"API_KEY={SECRET}\n")
    return ledger


def restart(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", restart_service(ledger.name, **parameters, return_state=True))


def control(ledger: Ledger, action: Any, **parameters: Any) -> State[Any]:
    return cast("State[Any]", control_service(ledger.name, action, **parameters, return_state=True))


def pids(ledger: Ledger) -> set[int | None]:
    return {instance.pid for instance in observe_application.fn(ledger.profile).instances}


# --- Restarts ---


def test_a_restart_of_either_kind_puts_a_new_process_there_and_says_how_long_nobody_was_served(
    operated: Ledger,
) -> None:
    first = pids(operated)
    state = restart(operated)
    said = completed(state)
    name = operated.profile.application.process_name
    assert said.startswith(f"ledger: {name} is restarted (graceful), it did not answer for ")
    assert said.endswith("; it is healthy, and its log says so.")
    second = pids(operated)
    assert not first & second
    assert steps_of_the_newest_run(operated) == GRACEFUL
    assert "it did not answer for" in artifacts_of(state)["restart-service-done-ledger"]

    assert "is restarted (hard), it did not answer for " in completed(restart(operated, how="hard"))
    assert not second & pids(operated)
    assert steps_of_the_newest_run(operated) == HARD
    assert events(operated) == ["began", "finished"] * 2
    assert is_healthy(operated)


def test_a_dry_run_shows_the_plan_and_leaves_every_process_as_it_is(operated: Ledger) -> None:
    before = pids(operated)
    state = restart(operated, dry_run=True)
    assert "nothing was done" in completed(state)
    assert "gracefully" in artifacts_of(state)["restart-service-plan-ledger"]
    assert "nothing was done" in completed(control(operated, "stop", dry_run=True))
    assert pids(operated) == before


def test_an_application_that_was_stopped_is_started(operated: Ledger) -> None:
    stop_application.fn(operated.profile)
    assert " is started, it did not answer for " in completed(restart(operated))
    assert is_healthy(operated)


def test_one_that_does_not_come_back_ends_in_its_last_words_without_its_secrets(operated: Ledger) -> None:
    operated.change(application={"start_within": "PT2S"})
    (operated.application / "server.js").write_text(BROKEN)
    said = failed(restart(operated))
    assert "was not healthy within 2 s" in said
    assert "Its last words: " in said
    assert "the key is ***" in said
    assert SECRET not in said
    assert said.endswith("A person has to look at it.")
    assert steps_of_the_newest_run(operated) == [
        "began",
        "restarting gracefully",
        "restarting hard",
        "closed",
    ]
    assert list_open_journals(operated.profile) == ()
    assert events(operated) == ["began", "failed"]


def test_one_that_serves_without_its_start_up_line_is_not_restarted_once_more(operated: Ledger) -> None:
    operated.change(application={"start_within": "PT2S", "started_line": "Never said"})
    said = failed(restart(operated))
    assert "is healthy, but its log did not say 'Never said' within 2 s" in said
    assert "The application still serves, so it was not restarted hard" in said
    assert steps_of_the_newest_run(operated) == ["began", "restarting gracefully", "closed"]
    assert is_healthy(operated)


def test_one_that_hangs_is_healthy_again(operated: Ledger) -> None:
    (pid,) = pids(operated)
    psutil.Process(cast("int", pid)).suspend()
    operated.change(application={"start_within": "PT15S"})
    assert "it is healthy" in completed(restart(operated))
    assert is_healthy(operated)


# --- Killed ---


@pytest.mark.timeout(300)
def test_killed_at_any_step_the_next_run_leaves_an_application_that_serves(
    operated: Ledger, children: Children
) -> None:
    hard = {"service": operated.name, "how": "hard"}
    orders: list[dict[str, Any]] = [
        {"kill_after_step": "restarting gracefully"},
        # Between stop and start.
        {"kill_when_called": "tasks.process_manager:_end", "parameters": hard},
        {"kill_after_step": "proven"},
    ]
    for order in orders:
        assert children.start(operated, "restart_service", **order).wait() is None, order
        assert list_open_journals(operated.profile) == ("restart-service",)
        assert "killed" in failed(restart(operated, dry_run=True))
        completed(restart(operated))
        assert list_open_journals(operated.profile) == ()
        assert is_healthy(operated), order


# --- Starts and stops ---


def test_a_service_is_stopped_and_started_as_often_as_one_likes(operated: Ledger) -> None:
    assert completed(control(operated, "stop")).endswith("is stopped, and no process of it is left.")
    assert pids(operated) == {None}
    assert completed(control(operated, "stop")).endswith("so there is nothing to do.")
    assert "runs and is healthy" in completed(control(operated, "start"))
    assert completed(control(operated, "start")).endswith("so there is nothing to do.")
    assert is_healthy(operated)
    assert events(operated) == ["began", "finished"] * 2


def test_one_that_cannot_be_started_is_stopped_again(operated: Ledger) -> None:
    stop_application.fn(operated.profile)
    operated.change(application={"start_within": "PT2S"})
    (operated.application / "server.js").write_text("setInterval(() => {}, 1000); process.send('ready');\n")
    said = failed(control(operated, "start"))
    assert "was not healthy within 2 s" in said
    assert said.endswith("It is stopped again, as before.")
    assert observe_application.fn(operated.profile).stopped


def test_a_stop_that_was_killed_is_finished_by_the_next_run(operated: Ledger, children: Children) -> None:
    stopping: dict[str, Any] = {"parameters": {"service": operated.name, "action": "stop"}}
    assert children.start(operated, "control_service", kill_after_step="stopping", **stopping).wait() is None
    assert is_healthy(operated)
    completed(control(operated, "stop"))
    assert observe_application.fn(operated.profile).stopped
    assert events(operated) == ["began", "settled"]
