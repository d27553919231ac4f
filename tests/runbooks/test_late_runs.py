"""Scheduled runs that start hours late, as Prefect made them, do what the section ``runs`` says."""

import subprocess
import sys
import time
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Completed, Pending

from flows.audit_log_cleanup import audit_log_cleanup
from flows.database_report import database_report
from flows.ensure_indexes import ensure_indexes
from flows.late_starting import skip_late, skip_replaced
from flows.optimize_indexes import optimize_indexes, sample_index_use
from flows.profile_queries import profile_queries
from flows.restore_drill import restore_drill
from tasks.approval import LATE_TAG
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import LeaseHeldError
from tasks.host_folder import host_folder
from tasks.late_turns import AGAIN_AFTER
from tasks.profiles import load_service
from tasks.records.service import Runs, ServiceProfile
from tasks.run_context import Run, observe_run
from tasks.service_lock import hold_file
from tasks.trail import check_trail
from tests.runbooks.conftest import Ledger, Ledgers, make_late_run

DUE = datetime(2026, 3, 10, 3, 30, tzinfo=UTC)
FLOWS: tuple[Flow[..., State[Any]], ...] = (
    audit_log_cleanup,
    database_report,
    ensure_indexes,
    optimize_indexes,
    profile_queries,
    restore_drill,
    sample_index_use,
)


def started(after: timedelta, *, first: timedelta | None = None, due: datetime | None = DUE) -> Run:
    return Run(
        name="a run",
        due=due,
        started=DUE + after,
        first_started=None if first is None else DUE + first,
        started_by="a schedule",
        deployed=True,
    )


def with_rule(profile: ServiceProfile, when_late: str, folder: Path) -> ServiceProfile:
    runs = Runs.model_validate({"late_after": timedelta(hours=2), "when_late": when_late})
    return profile.model_copy(update={"runs": runs, "state_directory": folder})


@failing_in_one_sentence
def begin(profile: ServiceProfile, run: Run) -> State[Any]:
    return skip_late(profile, run) or Completed(message="it ran")


def test_a_late_run_is_skipped_only_where_the_profile_says_so(
    invoice: ServiceProfile, tmp_path: Path
) -> None:
    late = started(timedelta(hours=5))
    assert begin(with_rule(invoice, "run", tmp_path), late).is_completed()
    skipped = begin(with_rule(invoice, "skip", tmp_path), late)
    assert (skipped.type.value, skipped.name) == ("CANCELLED", "Skipped")
    assert (skipped.message or "").startswith(
        "invoice: Scheduled for 2026-03-10 03:30 UTC, started 5 h later"
    )


def test_a_run_on_time_by_hand_or_after_a_persons_answer_is_not_late(
    invoice: ServiceProfile, tmp_path: Path
) -> None:
    profile = with_rule(invoice, "skip", tmp_path)
    assert skip_late(profile, started(timedelta(hours=2))) is None
    assert skip_late(profile, started(timedelta(hours=5), due=None)) is None
    assert skip_late(profile, started(timedelta(hours=5), first=timedelta(minutes=1))) is None


def test_a_look_that_comes_when_the_next_one_was_due_leaves_it_to_that(invoice: ServiceProfile) -> None:
    assert skip_replaced(invoice, started(timedelta(minutes=10))) is None
    assert skip_replaced(invoice, started(timedelta(hours=5), due=None)) is None
    skipped = skip_replaced(invoice, started(timedelta(minutes=11)))
    assert skipped is not None
    assert skipped.name == "Skipped"


# --- As a worker runs it ---


@flow(name="late-bird")
@failing_in_one_sentence
def late_bird(service: str) -> State[Any]:
    """Catch what is left.

    Steps: look for worms; eat them.

    Args:
        service: Whose garden.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    with suppress(LeaseHeldError), hold_turn(profile):
        return Completed(message="Another late run could begin meanwhile.")
    return Completed(message="it ran")


def hold_turn(profile: ServiceProfile) -> AbstractContextManager[None]:
    path = host_folder(profile) / "late-turn"
    return hold_file(path, profile.name, "a late run", "another run", timedelta(0), lambda _: None)


def go_on(run_id: UUID) -> FlowRun:
    """Run it as a worker would, as far as it goes, and return what Prefect then knows of it."""
    with get_client(sync_client=True) as client:
        with suppress(Pause):
            run_flow(late_bird, client.read_flow_run(run_id), {"service": "ledger"}, return_type="state")
        return client.read_flow_run(run_id)


def state_of(flow_run: FlowRun) -> tuple[str, str, str]:
    assert flow_run.state is not None
    return flow_run.state.type.value, str(flow_run.state.name), flow_run.state.message or ""


@pytest.fixture
def ledger(ledgers: Ledgers) -> Ledger:
    return ledgers.make("postgresql")


@pytest.fixture
def late(ledger: Ledger) -> UUID:
    return make_late_run(late_bird, f"late-{ledger.database.name}").id


def test_late_runs_of_a_service_begin_one_after_the_other_and_hold_no_worker_meanwhile(
    ledger: Ledger, late: UUID
) -> None:
    with hold_turn(ledger.profile):
        waiting = go_on(late)
    assert state_of(waiting)[:2] == ("SCHEDULED", "AwaitingConcurrencySlot")
    assert waiting.next_scheduled_start_time is not None
    wait = waiting.next_scheduled_start_time.timestamp() - time.time()
    assert 60 < wait <= AGAIN_AFTER.total_seconds()

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(late, Pending(), force=True)
    assert state_of(go_on(late)) == ("COMPLETED", "Completed", "it ran")
    with hold_turn(ledger.profile):
        pass


def test_a_killed_late_run_gives_its_turn_back(ledger: Ledger, tmp_path: Path) -> None:
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    path = host_folder(ledger.profile) / "late-turn"
    path.touch(mode=0o600)
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LeaseHeldError), hold_turn(ledger.profile):
            pass
        holder.kill()
    with hold_turn(ledger.profile):
        pass


def answer(run_id: UUID, decision: str) -> None:
    words = {"decision": decision, "name": "Ada", "comment": "it is noon"}
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run_id, run_input=words)


@pytest.mark.parametrize(
    ("decision", "ends"),
    [
        ("approve", ("COMPLETED", "it ran", "approved")),
        ("reject", ("CANCELLED", "Skipped by Ada", "rejected")),
    ],
)
def test_a_late_run_that_asks_shows_what_it_would_do_and_does_what_a_person_says(
    ledger: Ledger, late: UUID, decision: str, ends: tuple[str, str, str]
) -> None:
    ledger.change(runs={"when_late": "ask"})
    asking = go_on(late)
    assert state_of(asking)[:2] == ("PAUSED", "Suspended")
    assert LATE_TAG in asking.tags
    assert asking.state is not None
    keyset = asking.state.state_details.run_input_keyset
    assert keyset is not None
    with get_client(sync_client=True) as client:
        shown = str(client.read_flow_run_input(late, keyset["description"]))
    assert "started 5 h" in shown or "started 6 h" in shown
    assert "Steps: look for worms" in shown
    assert "Args" not in shown
    with hold_turn(ledger.profile):
        """One that asks keeps nobody waiting."""

    answer(late, decision)
    ended, said, event = ends
    kind, _, message = state_of(go_on(late))
    assert kind == ended
    assert said in message
    assert [(line.event, line.outcome) for line in check_trail.fn(ledger.profile).lines] == [
        (event, "by Ada: it is noon")
    ]


@pytest.mark.parametrize("runbook", FLOWS, ids=lambda made: str(made.name))
def test_each_runbook_that_changes_or_loads_a_service_heeds_it(
    ledgers: Ledgers, runbook: Flow[..., State[Any]]
) -> None:
    ledger = ledgers.make("postgresql")
    ledger.change(runs={"when_late": "skip"})
    late = make_late_run(runbook, f"late-{runbook.name}")
    state = run_flow(runbook, late, {"service": ledger.name}, return_type="state")
    assert isinstance(state, State)
    assert state.name == "Skipped"
