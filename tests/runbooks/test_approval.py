"""A plan waits for a person: what the run holds meanwhile, and what each answer does.

The runbook here changes one file. It is a deployed run as a worker makes it, in this process.
"""

import os
import pty
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast
from uuid import UUID

import pytest
import yaml
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Completed

from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.mutation import mutating
from tasks.profiles import SERVICES_VARIABLE, load_service
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.run_context import observe_run
from tasks.service_lock import hold_service
from tasks.trail import check_trail
from tests.runbooks.conftest import completed, failed, wait_until

PROFILE = Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml"
# A profile takes no name but those of runbooks that ask.
RUNBOOK = "restart-service"


@task(cache_policy=NO_CACHE, persist_result=False)
def observe(folder: Path) -> str:
    return (folder / "observed").read_text()


@flow(name=RUNBOOK)
@failing_in_one_sentence
def write_a_word(service: str, folder: Path) -> State[Any]:
    """Write what was observed into a file, once somebody agrees."""
    profile = load_service(service)
    run = observe_run()
    word = observe(folder)
    plan = remember_plan(
        RunbookPlan(
            runbook=RUNBOOK,
            service=service,
            summary=f"the word {word} is written",
            acts=(PlannedAct(what=word, why="somebody wants it | so", undo="write the old one"),),
            rests_on={"word": word},
        )
    )
    publish_runbook_plan(plan)
    approve(profile, plan, run)
    with mutating(profile, run, plan) as journal:
        (folder / "written").write_text(plan.acts[0].what)
        journal.close("written")
    return Completed(message=f"{service}: {plan.summary}.")


class Desk:
    """A service whose one runbook needs an approval, and what is done with a run of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "store").mkdir()
        self.observe("first")
        self.change(expires_after="PT1H")

    def change(self, **approval: Any) -> None:
        document = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
        document["state_directory"] = str(self.folder / "state")
        document["backup"]["destination"] = {"url": (self.folder / "store").as_uri()}
        document["approval"] = {"required_for": [RUNBOOK], **approval}
        (self.folder / "invoice.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def observe(self, word: str) -> None:
        (self.folder / "observed").write_text(word)

    @property
    def written(self) -> str | None:
        file = self.folder / "written"
        return file.read_text() if file.exists() else None

    @property
    def parameters(self) -> dict[str, Any]:
        return {"service": "invoice", "folder": self.folder}

    def deploy(self) -> UUID:
        """Make a run of a deployment, as the UI's button does."""
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow_from_name(RUNBOOK)
            name = f"{RUNBOOK}-{time.monotonic_ns()}"
            deployment = client.create_deployment(flow_id, name=name, enforce_parameter_schema=False)
            return client.create_flow_run_from_deployment(deployment).id

    def go_on(self, run_id: UUID) -> State[Any]:
        """Run it as a worker would, as far as it goes."""
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(run_id)
        try:
            state = run_flow(write_a_word, flow_run, self.parameters, return_type="state")
        except Pause as pause:
            # A worker's process ends here.
            state = pause.state
        return cast("State[Any]", state)

    def answer(self, run_id: UUID, **form: str) -> Any:
        with get_client(sync_client=True) as client:
            return client.resume_flow_run(run_id, run_input=form)

    def trail(self) -> list[tuple[str, str]]:
        found = check_trail.fn(load_service.fn("invoice"))
        assert found.findings == ()
        return [(line.event, line.outcome) for line in found.lines]


def state_of(run_id: UUID) -> State[Any]:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    assert state is not None
    return state


def has_failed(run_id: UUID) -> bool:
    return state_of(run_id).is_failed()


@pytest.fixture
def desk(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    return Desk(tmp_path)


@pytest.fixture
def waiting(desk: Desk) -> UUID:
    """A run that waits for its answer."""
    run_id = desk.deploy()
    state = desk.go_on(run_id)
    assert (state.type.value, state.name) == ("PAUSED", "Suspended")
    return run_id


def test_a_waiting_run_is_suspended_and_holds_neither_the_service_nor_a_process(
    desk: Desk, waiting: UUID
) -> None:
    """That ``go_on`` has returned is the freed process."""
    state = state_of(waiting)
    assert (state.type.value, state.name) == ("PAUSED", "Suspended")
    assert desk.written is None
    assert desk.trail() == []

    @flow
    def hold_it() -> None:
        with hold_service(load_service("invoice"), purpose="other", holder="other", wait=timedelta(0)):
            pass

    hold_it()


def test_the_form_shows_the_plan_and_says_no_unless_somebody_says_yes(desk: Desk, waiting: UUID) -> None:
    state = state_of(waiting)
    keyset = state.state_details.run_input_keyset
    assert keyset is not None
    with get_client(sync_client=True) as client:
        description = client.read_flow_run_input(waiting, keyset["description"])
        schema = client.read_flow_run_input(waiting, keyset["schema"])
    assert f"Plan: {RUNBOOK} of invoice" in description
    assert "the word first is written" in description
    assert "No answer by the time this wait ends is a no." in description
    assert '"reject"' in schema.replace(" ", "").split('"default":')[1]
    assert '"required"' not in schema


def test_an_approved_run_applies_the_plan_that_was_shown_though_things_differ_now(
    desk: Desk, waiting: UUID
) -> None:
    desk.observe("second")
    desk.answer(waiting, decision="approve", name="Ada", comment="the | third time")
    assert completed(desk.go_on(waiting)) == "invoice: the word first is written."
    assert desk.written == "first"
    assert desk.trail() == [
        ("approved", "by Ada: the | third time"),
        ("began", "the word first is written"),
        ("finished", "written"),
    ]


def test_a_rejected_run_fails_with_the_reason_and_changes_nothing(desk: Desk, waiting: UUID) -> None:
    desk.answer(waiting, decision="reject", name="Ada", comment="not tonight")
    said = failed(desk.go_on(waiting))
    assert said == "invoice: the plan was rejected by Ada: not tonight. Nothing was changed."
    assert desk.written is None
    assert desk.trail() == [("rejected", "by Ada: not tonight")]


def test_a_run_resumed_without_an_answer_is_rejected(desk: Desk, waiting: UUID) -> None:
    desk.answer(waiting)
    said = failed(desk.go_on(waiting))
    assert "the plan was rejected by somebody who gave no name. Nothing was changed." in said
    assert desk.written is None


def test_a_word_that_is_no_decision_leaves_the_run_waiting(desk: Desk, waiting: UUID) -> None:
    desk.answer(waiting, decision="maybe")
    state = state_of(waiting)
    assert state.name == "Suspended"
    assert desk.written is None


def test_a_run_that_nobody_answers_in_time_fails_and_changes_nothing(desk: Desk) -> None:
    desk.change(expires_after="PT1S")
    run_id = desk.deploy()
    assert desk.go_on(run_id).name == "Suspended"
    expiry = state_of(run_id).state_details.pause_timeout
    assert expiry is not None
    wait_until(lambda: time.time() > expiry.timestamp())

    desk.answer(run_id, decision="approve", name="too late")

    # Prefect looks for waits that are over every few seconds.
    wait_until(partial(has_failed, run_id))
    assert "never resumed" in failed(state_of(run_id))
    assert not desk.go_on(run_id).is_completed()
    assert desk.written is None
    assert desk.trail() == []


# --- A run from a shell ---


def run_at(stdin: TextIO, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> State[Any]:
    """Run it as somebody at a shell does, who types into this file."""
    monkeypatch.setattr("sys.stdin", stdin)
    return cast("State[Any]", write_a_word(**desk.parameters, return_state=True))


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """Where to type, and what the run reads that from."""
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        yield master, stdin
    os.close(master)


def test_a_shell_run_where_nobody_can_be_asked_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, encoding="utf-8") as nobody:  # noqa: PTH123
        said = failed(run_at(nobody, desk, monkeypatch))
    assert "nobody can be asked here: start it from its deployment, or from a terminal" in said
    assert desk.written is None
    assert desk.trail() == []


def test_a_shell_run_shows_the_plan_and_goes_on_when_the_services_name_is_typed(
    desk: Desk,
    terminal: tuple[int, TextIO],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keyboard, stdin = terminal
    os.write(keyboard, b"invoice\n")
    assert completed(run_at(stdin, desk, monkeypatch)) == "invoice: the word first is written."
    assert desk.written == "first"
    shown = capsys.readouterr().err
    assert "the word first is written" in shown
    assert "Type invoice to approve, anything else to reject: " in shown
    (event, by), *_ = desk.trail()
    assert event == "approved"
    assert by.startswith("by ")
    assert by.endswith(" at the shell")


@pytest.mark.parametrize("typed", [b"\n", b"yes\n", b"Invoice\n", b"\x04"])
def test_anything_else_that_is_typed_at_a_shell_is_a_no(
    desk: Desk, terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch, typed: bytes
) -> None:
    keyboard, stdin = terminal
    os.write(keyboard, typed)
    assert "the plan was rejected by " in failed(run_at(stdin, desk, monkeypatch))
    assert desk.written is None
    assert [event for event, _ in desk.trail()] == ["rejected"]


def test_a_runbook_that_needs_no_approval_asks_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.change(required_for=[])
    with open(os.devnull, encoding="utf-8") as nobody:  # noqa: PTH123
        completed(run_at(nobody, desk, monkeypatch))
    assert desk.written == "first"
