"""A ladder as those on it live it: told once, in order, on time, and not after somebody has it."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.states import Crashed

from deployments.sandbox.stack import Sandbox
from deployments.watch.ladders import resume_ladders
from flows.acknowledge import acknowledge
from flows.escalate import escalate
from tasks.escalation_runs import start_again
from tasks.escalations import list_escalations
from tasks.handing_over import hand_over
from tasks.host_folder import host_folder
from tasks.records.escalation import EscalationRecord
from tasks.run_context import Run
from tests.runbooks.conftest import Children, Ledger, Ledgers, artifacts_of, completed, failed

NOW = datetime(2026, 3, 1, 3, 5, tzinfo=UTC)


class Ladder:
    """A small service with three levels: a pager that is dead and an e-mail, a pager, an e-mail."""

    def __init__(self, ledger: Ledger, sandbox: Sandbox) -> None:
        self.ledger, self.sandbox = ledger, sandbox
        secrets = sandbox.vault.folder
        dead = ledger.folder / "dead-channel"
        dead.touch(mode=0o600)
        dead.write_text("json://127.0.0.1:1/nobody")
        self.mark = ledger.database.name
        care: dict[str, Any] = {
            "contacts": [
                {"name": "Team", "email": "team@example.com", "channels": [f"file:{dead}"]},
                {"name": "Administrator", "channels": [f"file:{secrets / 'on-call-channel'}"]},
                {"name": "Boss", "email": "boss@example.com"},
            ],
            "escalation": {
                "levels": [
                    {"name": "team", "contacts": ["Team"], "acknowledge_within": "PT30M"},
                    {
                        "name": "database",
                        "contacts": ["Administrator"],
                        "acknowledge_within": "PT20M",
                        "starts_for": ["database down"],
                    },
                    {"name": "boss", "contacts": ["Boss"], "acknowledge_within": "PT10M"},
                ],
                "sendgrid_url": f"{sandbox.endpoints.vendors}/sendgrid",
                "sendgrid_key": f"file:{secrets / 'mail-key'}",
            },
        }
        ledger.change(**care)

    def deploy(self) -> None:
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow_from_name("escalate")
            with suppress(ObjectNotFound):
                # Runs that other tests left waiting are not of this one.
                old = client.read_deployment_by_name(f"escalate/{self.ledger.name}")
                client.delete_deployment(old.id)
            client.create_deployment(flow_id, name=self.ledger.name, enforce_parameter_schema=False)

    def escalate(self, **parameters: Any) -> State[Any]:
        parameters.setdefault("reason", f"the service is down ({self.mark})")
        return cast("State[Any]", escalate(self.ledger.name, **parameters, return_state=True))

    def acknowledge(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", acknowledge(self.ledger.name, **parameters, return_state=True))

    @property
    def records(self) -> tuple[EscalationRecord, ...]:
        return list_escalations.fn(self.ledger.profile)

    @property
    def id(self) -> str:
        return self.records[-1].opening.id

    @property
    def told(self) -> list[str]:
        return [contact for record in self.records for contact in record.reached]

    def runs(self) -> list[FlowRun]:
        """Every run that was made, by when it is due, but those that looked in vain after what was told."""
        tags = [f"escalation:{record.opening.id}" for record in self.records]
        with get_client(sync_client=True) as client:
            found = [
                flow_run
                for tag in tags
                for flow_run in client.read_flow_runs(
                    flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [tag]}})
                )
                if flow_run.parameters.get("level") or flow_run.state_name != "Cancelled"
            ]
        return sorted(found, key=lambda flow_run: cast("datetime", flow_run.expected_start_time))

    def started(self) -> list[FlowRun]:
        """Every run that was started with a reason of this ladder."""
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=["escalate"])),
                # An answer has 200 runs at most, and other tests start ladders of their own.
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            )
        return [flow_run for flow_run in found if self.mark in str(flow_run.parameters.get("reason"))]

    def waiting(self) -> dict[str, float]:
        """The level of each run that waits, and in how many minutes it is due."""
        now = time.time()
        return {
            flow_run.parameters.get("level", ""): round((flow_run.expected_start_time.timestamp() - now) / 60)
            for flow_run in self.runs()
            if flow_run.state_type == "SCHEDULED" and flow_run.expected_start_time is not None
        }

    def mails(self) -> list[tuple[str, str, str]]:
        """Address, subject and text of every mail about this service's ladder."""
        return [
            (mail["personalizations"][0]["to"][0]["email"], mail["subject"], mail["content"][0]["value"])
            for mail in self.sandbox.vendors.read_kept("sendgrid")
            if self.mark in mail["content"][0]["value"]
        ]

    def pages(self) -> list[str]:
        kept = self.sandbox.vendors.read_kept("pager")
        return [page["message"] for page in kept if self.mark in page["message"]]


@pytest.fixture
def ladder(ledgers: Ledgers, sandbox: Sandbox) -> Ladder:
    """A ladder that is deployed; its service does not answer."""
    made = Ladder(ledgers.make("postgresql"), sandbox)
    made.deploy()
    return made


def test_a_dead_first_channel_and_a_sleeping_first_level_reach_the_second_on_time(ladder: Ladder) -> None:
    said = completed(ladder.escalate())

    assert "Team by e-mail told, level team. Unless somebody acknowledges, database is told at " in said
    assert ladder.waiting() == {"database": 30}
    ((address, subject, text),) = ladder.mails()
    assert address == "team@example.com"
    assert subject.startswith("[ledger] People are needed: the service is down")
    assert "level database is told" in text
    assert f"start acknowledge/ledger in the Prefect UI (escalation {ladder.id})" in text

    # Half an hour later, as Prefect starts it.
    (run,) = ladder.runs()
    state = ladder.escalate(**{name: run.parameters[name] for name in ("escalation", "level")})

    assert "Administrator by channel 1 told" in completed(state)
    assert ladder.waiting() == {"database": 30, "boss": 20}
    (page,) = ladder.pages()
    assert "Told before you: Team." in page
    assert "Team by channel 1: JSON did not take the message." in page
    (shown,) = artifacts_of(state).values()
    assert "| team | Team |" in shown
    assert "told by e-mail; Team by channel 1: JSON did not take the message." in shown
    assert "next, unless somebody acknowledges" in shown


def test_an_acknowledgement_stops_the_ladder_whenever_it_comes(ladder: Ladder) -> None:
    ladder.escalate()

    said = completed(ladder.acknowledge(who="Ada", comment="on my way"))

    assert said == f"ledger: Ada has escalation {ladder.id}: nobody else is told."
    (run,) = ladder.runs()
    assert (run.state_name, run.state and run.state.message) == ("Cancelled", said)
    # A run that had begun before it was cancelled, and one that somebody starts.
    state = ladder.escalate(escalation=ladder.id, level="database")
    assert completed(state) == "ledger: Ada has it: nobody else is told."
    assert ladder.told == ["Team"]
    assert ladder.pages() == []
    assert [run.state_name for run in ladder.runs()] == ["Cancelled"]
    again = completed(ladder.acknowledge(escalation=ladder.id, who="Bob"))
    assert again == f"ledger: escalation {ladder.id} was acknowledged before, by Ada."
    assert "no escalation is open" in completed(ladder.acknowledge())
    assert "There is no escalation '../../x'" in failed(ladder.acknowledge(escalation="../../x"))


def test_two_runs_of_one_level_tell_nobody_twice_and_make_one_run_of_the_next(ladder: Ladder) -> None:
    ladder.escalate()
    said = completed(ladder.escalate(escalation=ladder.id, level="team"))
    assert "Level team was told before: nobody is told again." in said
    assert len(ladder.mails()) == 1
    assert ladder.waiting() == {"database": 30}


def test_a_second_reason_joins_what_is_open_and_a_database_cause_goes_to_its_administrator(
    ladder: Ladder,
) -> None:
    ladder.escalate()
    ladder.escalate(reason=f"it is the database ({ladder.mark})", cause="database down")
    assert len(ladder.records) == 1
    assert ladder.told == ["Team", "Administrator"]
    (page,) = ladder.pages()
    assert "Also: it is the database" in page
    assert ladder.waiting() == {"database": 30, "boss": 20}

    ladder.acknowledge(who="Ada")
    ladder.escalate(cause="database down", reason=f"again ({ladder.mark})")
    assert ladder.records[-1].reached == ("Administrator",)


def test_a_level_of_which_nobody_can_be_told_gives_its_turn_to_the_next_at_once(ladder: Ladder) -> None:
    ladder.ledger.change(escalation={"sendgrid_key": "file:/nowhere/key"})
    said = completed(ladder.escalate())
    assert "Administrator by channel 1 told, level database." in said
    (page,) = ladder.pages()
    assert "Team by e-mail: The secret file /nowhere/key does not exist" in page

    said = failed(ladder.escalate(escalation=ladder.id, level="after the last"))
    assert said == "ledger: Nobody of any level acknowledged, and nobody is left to tell."
    assert ladder.records[-1].end is not None


def test_a_host_that_keeps_no_record_makes_everybody_be_told_at_once(ladder: Ladder) -> None:
    host_folder(ladder.ledger.profile).chmod(0o755)
    said = failed(ladder.escalate(cause="database down"))
    assert said.startswith("ledger: No record can be kept on the host")
    assert "Told: Administrator by channel 1, Boss by e-mail." in said
    assert "is open to others: run chmod 700 on it." in said
    (page,) = ladder.pages()
    assert page.endswith("Speak to each other about who takes it.")


def test_a_host_that_loses_its_record_makes_everybody_be_told_who_is_left_on_the_ladder(
    ladder: Ladder,
) -> None:
    ladder.escalate()
    escalation = ladder.id
    lock = host_folder(ladder.ledger.profile) / "escalations" / "lock"
    # Refused for another reason than on a disk that can only be read, and as little expected.
    lock.unlink()
    lock.mkdir()

    said = failed(ladder.escalate(escalation=escalation, level="database"))

    assert said.startswith("ledger: No record can be kept on the host")
    assert "Told: Administrator by channel 1, Boss by e-mail." in said
    assert f"{lock}: Is a directory." in said


def test_an_old_record_that_is_damaged_or_was_torn_keeps_nobody_from_being_told(ladder: Ladder) -> None:
    ladder.escalate()
    (path,) = (host_folder(ladder.ledger.profile) / "escalations").glob("*.jsonl")
    path.with_name("20250101T000000Z-abcdef.jsonl").write_text("no record of ours\n")
    path.with_name("20250102T000000Z-abcdef.jsonl").write_text('{"id":"20250102T0')
    path.write_bytes(path.read_bytes() + b'{"at":"2026')

    completed(ladder.acknowledge(who="Ada"))

    assert [step.kind for step in ladder.records[0].steps] == ["telling", "told", "acknowledged"]


def test_recovery_ends_it_quietly_with_a_note_to_those_who_were_told(
    ladder: Ladder, sandbox: Sandbox
) -> None:
    ladder.escalate()
    ladder.ledger.change(application={"health_url": sandbox.endpoints.invoice_health})

    said = completed(ladder.escalate(escalation=ladder.id, level="database"))

    assert said == "ledger: The service is healthy again: nobody else is told."
    assert [(address, subject[:22]) for address, subject, _ in ladder.mails()] == [
        ("team@example.com", "[ledger] People are ne"),
        ("team@example.com", "[ledger] Healthy again"),
    ]
    assert ladder.pages() == []
    assert ladder.waiting() == {}


def test_a_run_that_is_killed_before_it_tells_of_a_recovery_leaves_that_to_the_next(
    ladder: Ladder, children: Children, sandbox: Sandbox
) -> None:
    ladder.escalate()
    ladder.ledger.change(application={"health_url": sandbox.endpoints.invoice_health})
    parameters = {"service": "ledger", "escalation": ladder.id, "level": "database"}
    killed = children.start(
        ladder.ledger, "escalate", kill_when_called="tasks.notifying:ask_sendgrid", parameters=parameters
    )
    assert killed.wait() is None
    assert len(ladder.mails()) == 1

    completed(ladder.escalate(escalation=ladder.id, level="database"))

    assert [subject[:22] for _, subject, _ in ladder.mails()] == [
        "[ledger] People are ne",
        "[ledger] Healthy again",
    ]


def test_what_is_wrong_with_a_healthy_service_does_not_end_with_an_outage_that_is_over(
    ladder: Ladder, sandbox: Sandbox
) -> None:
    ladder.escalate()
    outage = ladder.id
    ladder.ledger.change(application={"health_url": sandbox.endpoints.invoice_health})

    completed(ladder.escalate(reason=f"no backup is left ({ladder.mark})"))

    assert [text.split(" (")[0] for _, _, text in ladder.mails()] == [
        "A small service: the service is down",
        "A small service: no backup is left",
    ]
    said = completed(ladder.escalate(escalation=outage, level="database"))
    assert said == "ledger: The service is healthy again: nobody else is told."
    assert [record.opening.reason for record in ladder.records if record.end is None] == [
        f"no backup is left ({ladder.mark})"
    ]


@pytest.mark.parametrize("task_number", [10, 13])
def test_a_killed_run_leaves_a_ladder_that_goes_on_and_tells_nobody_twice(
    ladder: Ladder, children: Children, task_number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the next runs were made and nobody told; when somebody was about to be told."""
    parameters = {"service": "ledger", "reason": f"the service is down ({ladder.mark})"}
    killed = children.start(ladder.ledger, "escalate", kill_before_task=task_number, parameters=parameters)
    assert killed.wait() is None
    assert ladder.waiting() == {"database": 30, "": 5}

    completed(ladder.escalate())

    is_told = task_number == 10
    assert len(ladder.records) == 1
    assert ladder.waiting() == ({"database": 30} if is_told else {"database": 30, "": 5})
    assert len(ladder.mails()) == is_told
    # Five minutes later, as Prefect starts the run that looks whether anybody was told.
    monkeypatch.setattr("flows.decisions.escalation.UNKNOWN_FOR", timedelta(0))
    completed(ladder.escalate(escalation=ladder.id))
    if is_told:
        assert ladder.pages() == []
    else:
        (page,) = ladder.pages()
        assert "Whether Team was told is not known" in page


def test_a_run_that_dies_is_started_again_once(ladder: Ladder) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("escalate/ledger")
        died = client.create_flow_run_from_deployment(
            deployment.id, parameters={"service": "ledger", "reason": ladder.mark}
        )
    for _ in range(2):
        start_again(escalate, died, Crashed())
    (again,) = (run for run in ladder.started() if run.id != died.id)
    assert again.parameters == died.parameters

    start_again(escalate, again, Crashed())

    assert len(ladder.started()) == 2


def test_a_ladder_whose_run_and_worker_died_is_gone_on_with_by_the_watch(
    ladder: Ladder, children: Children
) -> None:
    """As long as it lives nothing is started, when it is gone one run, and another only if that one dies."""
    parameters = {"service": "ledger", "reason": f"the service is down ({ladder.mark})"}
    order = {"kill_when_called": "flows.escalating:schedule_level", "parameters": parameters}
    assert children.start(ladder.ledger, "escalate", **order).wait() is None
    assert ladder.runs() == []
    now = datetime.now(UTC)

    with get_client(sync_client=True) as client:

        def watch(minutes: int) -> list[str]:
            found = resume_ladders(ladder.ledger.profile, now + timedelta(minutes=minutes))
            return [complaint.sentence for complaint in found]

        (said,) = watch(0)
        assert f"No run went on with escalation {ladder.id}" in said
        assert watch(0) == watch(10) == []
        (resumed,) = ladder.runs()
        client.set_flow_run_state(resumed.id, Crashed(), force=True)
        assert watch(0) == [said], "the same five minutes: the same run, which is dead"
        assert len(ladder.runs()) == 1
        assert watch(10) == [said]
        (again,) = (run for run in ladder.runs() if run.id != resumed.id)
        completed(cast("State[Any]", run_flow(escalate, again, again.parameters, return_type="state")))

        assert ladder.told == ["Team"]
        assert ladder.waiting() == {"database": 30}
        assert watch(20) == []
    completed(ladder.acknowledge(who="Ada"))


def test_a_run_hands_over_once_another_run_again_and_none_from_a_shell(ladder: Ladder) -> None:
    profile = ladder.ledger.profile
    run = Run(name=f"x {ladder.mark}", due=None, started=NOW, started_by="x", deployed=True)
    reason = f"it is down since 03:01 ({ladder.mark})"
    for _ in range(2):
        said = hand_over.fn(profile, run, reason, "disk full", "broken")
        assert said == "People are being told: see escalate/ledger."
    (started,) = ladder.started()
    assert started.parameters["reason"] == reason
    later = run.model_copy(update={"started": NOW + timedelta(minutes=30)})
    hand_over.fn(profile, later, reason, "disk full", "broken")
    hand_over.fn(profile, later, f"The restart that was approved did not help ({ladder.mark})", "disk full")
    assert len(ladder.started()) == 3
    shell = run.model_copy(update={"deployed": False})
    assert hand_over.fn(profile, shell, "x") == "Nobody was told: this run was started at a shell."
    undeployed = profile.model_copy(update={"name": "undeployed"})
    assert hand_over(undeployed, run, "x") == (
        "People could not be told: The Prefect server has no deployment escalate/undeployed: run make deploy."
    )
