"""What a store must hold by now, by the schedule alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.decisions.missed_backup import judge_schedule, settle_by
from tasks.records.backup import RepositoryState, SetSummary

DUE = datetime(2026, 3, 10, 2, tzinfo=UTC)
NOW = DUE + timedelta(hours=6)


def made(at: datetime, **changes: Any) -> SetSummary:
    facts: dict[str, Any] = {
        "set_id": f"{at:%Y%m%dT%H%M%SZ}-nightly-abcd",
        "kind": "nightly",
        "created_at": at,
        "seconds": 60.0,
        "stored_bytes": 1,
        "raw_bytes": 1,
        "parts": 1,
        "entries": 1,
        "reread_passed": True,
        "drill_passed": None,
        "drilled_at": None,
        "pinned": None,
        "leased_by": None,
    }
    return SetSummary.model_validate(facts | changes)


def holding(*sets: SetSummary) -> RepositoryState:
    return RepositoryState(service="bakery", observed_at=NOW, sets=sets, unfinished=())


def test_a_set_of_the_night_answers_for_it() -> None:
    assert judge_schedule(holding(made(DUE + timedelta(minutes=1))), [DUE], NOW) == ()


def test_a_night_without_a_set_is_told_with_the_age_of_the_newest() -> None:
    (said,) = judge_schedule(holding(made(DUE - timedelta(days=1))), [DUE - timedelta(days=1), DUE], NOW)
    assert said == (
        "The backup that was due 6 h ago left no set, and the newest usable one is 1 day 6 h old: look how "
        "its run ended, and run nightly-backup/bakery."
    )


@pytest.mark.parametrize("change", [{"kind": "safety"}, {"reread_passed": False}])
def test_a_set_that_is_no_backup_answers_for_no_night(change: dict[str, Any]) -> None:
    (said,) = judge_schedule(holding(made(DUE + timedelta(minutes=1), **change)), [DUE], NOW)
    assert "there is none at all" in said


def test_nothing_is_missed_where_nothing_was_due() -> None:
    assert judge_schedule(holding(), [], NOW) == ()


def test_a_backup_has_until_it_may_start_late_and_take_twice_the_longest() -> None:
    late = timedelta(hours=2)
    assert settle_by(holding(), late, NOW) == NOW - timedelta(hours=2, minutes=30)
    slow = holding(made(DUE, seconds=3600.0), made(DUE - timedelta(days=1), seconds=60.0))
    assert settle_by(slow, late, NOW) == NOW - timedelta(hours=4)
