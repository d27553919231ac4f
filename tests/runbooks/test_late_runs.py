"""Scheduled runs that start hours late, as Prefect made them, do what the section ``runs`` says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow

from flows.audit_log_cleanup import audit_log_cleanup
from flows.ensure_indexes import ensure_indexes
from flows.late_starting import skip_late
from flows.optimize_indexes import optimize_indexes
from flows.profile_queries import profile_queries
from flows.restore_drill import restore_drill
from tasks.records.service import Runs, ServiceProfile
from tasks.run_context import Run
from tests.runbooks.conftest import Ledgers, make_late_run

DUE = datetime(2026, 3, 10, 3, 30, tzinfo=UTC)
FLOWS: tuple[Flow[..., State[Any]], ...] = (
    audit_log_cleanup,
    ensure_indexes,
    optimize_indexes,
    profile_queries,
    restore_drill,
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


def skipping(profile: ServiceProfile, when_late: str) -> ServiceProfile:
    runs = Runs.model_validate({"late_after": timedelta(hours=2), "when_late": when_late})
    return profile.model_copy(update={"runs": runs})


def test_a_late_run_is_skipped_only_where_the_profile_says_so(invoice: ServiceProfile) -> None:
    late = started(timedelta(hours=5))
    assert skip_late(skipping(invoice, "run"), late) is None
    skipped = skip_late(skipping(invoice, "skip"), late)
    assert skipped is not None
    assert (skipped.type.value, skipped.name) == ("CANCELLED", "Skipped")
    assert (skipped.message or "").startswith(
        "invoice: Scheduled for 2026-03-10 03:30 UTC, started 5 h later"
    )


def test_a_run_on_time_by_hand_or_after_a_persons_answer_is_not_late(invoice: ServiceProfile) -> None:
    profile = skipping(invoice, "skip")
    assert skip_late(profile, started(timedelta(hours=2))) is None
    assert skip_late(profile, started(timedelta(hours=5), due=None)) is None
    assert skip_late(profile, started(timedelta(hours=5), first=timedelta(minutes=1))) is None


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
