"""When the backups cannot be relied on, and what is said about it in the morning."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.backup_freshness import describe_freshness, judge_freshness
from tasks.records.backup import RepositoryState, SetSummary, UnreadableSet

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
MONTH = timedelta(days=35)


def make_set(name: str, hours_old: float, *, drilled: float | None = None, **changed: Any) -> SetSummary:
    """Make a set of so many hours ago, re-read; ``drilled`` so many hours ago, and passed."""
    facts: dict[str, Any] = {
        "set_id": name,
        "kind": "nightly",
        "created_at": NOW - timedelta(hours=hours_old),
        "seconds": 1.0,
        "stored_bytes": 1,
        "raw_bytes": 1,
        "parts": 1,
        "entries": 1,
        "reread_passed": True,
        "drill_passed": None if drilled is None else True,
        "drilled_at": None if drilled is None else NOW - timedelta(hours=drilled),
        "pinned": None,
        "leased_by": None,
    }
    return SetSummary(**(facts | changed))


def judge(*sets: SetSummary, now: datetime = NOW) -> tuple[str, ...]:
    state = RepositoryState(service="invoice", observed_at=now, sets=sets, unfinished=())
    return judge_freshness(state, MONTH, now)


PROVEN = make_set("proven", 100, drilled=90)


@pytest.mark.parametrize(
    "sets",
    [
        (make_set("tonight", 4, drilled=1),),
        (make_set("tonight", 4), PROVEN),
        (make_set("tonight", 28), PROVEN),
        (make_set("tonight", 4), make_set("old", 900, drilled=35 * 24)),
        (make_set("under-way", 3, reread_passed=None), PROVEN),
        (make_set("tonight", 4), make_set("older", 30, reread_passed=False), PROVEN),
        (make_set("tonight", 4), make_set("once", 200, drilled=150, drill_passed=False), PROVEN),
        (make_set("of-a-fast-clock", -0.05), PROVEN),
        (make_set("before-a-restore", 1, kind="safety", reread_passed=False), make_set("b", 4), PROVEN),
    ],
    ids=lambda sets: sets[0].set_id + str(len(sets)),
)
def test_of_backups_that_can_be_relied_on_nothing_is_said(sets: tuple[SetSummary, ...]) -> None:
    assert judge(*sets) == ()


@pytest.mark.parametrize(
    ("sets", "complaints"),
    [
        ((), ["There is no backup set: run nightly-backup/invoice."]),
        (
            (make_set("a", 28.1, drilled=2),),
            ["The newest set, a, is 1 day 4 h old, and 1 day 4 h is the limit: look why"],
        ),
        ((make_set("a", 52), PROVEN), ["a, is 2 days 4 h old"]),
        ((make_set("a", 52), make_set("b", 1, kind="safety"), PROVEN), ["a, is 2 days 4 h old"]),
        ((make_set("b", 1, kind="safety"),), ["There is no backup set: run nightly-backup/invoice."]),
        ((make_set("a", 4, reread_passed=False), PROVEN), ["The newest set, a, failed its re-read"]),
        ((make_set("a", 3.1, reread_passed=None), PROVEN), ["The newest set, a, was never read back"]),
        (
            (make_set("a", -30), make_set("b", 4), PROVEN),
            ["a, is dated 1 day 6 h ahead of this host's clock"],
        ),
        ((make_set("a", 4),), ["No set has passed a restore drill: run restore-drill/invoice."]),
        (
            (make_set("a", 4), make_set("b", 2000, drilled=36 * 24)),
            ["The newest restore drill that passed was 36 days ago, and 35 days is the limit: run"],
        ),
        (
            (make_set("a", 4), PROVEN, make_set("b", 200, drilled=3, drill_passed=False)),
            ["b failed a restore drill, and none has passed since: run nightly-backup/invoice, then"],
        ),
        (
            (
                make_set("a", 4, drilled=2, drill_passed=False),
                make_set("b", 9, drilled=3, drill_passed=False),
            ),
            ["No set has passed a restore drill", "a, b failed a restore drill"],
        ),
        (
            (make_set("a", 999, reread_passed=False),),
            ["is 41 days 15 h old", "failed its re-read", "No set has passed a restore drill"],
        ),
    ],
)
def test_each_reason_not_to_rely_on_them_is_a_sentence_that_says_what_to_do(
    sets: tuple[SetSummary, ...], complaints: list[str]
) -> None:
    found = judge(*sets)
    assert len(found) == len(complaints), found
    for complaint, words in zip(found, complaints, strict=True):
        assert words in complaint
        assert ": " in complaint
        assert complaint.endswith(".")


def test_each_set_that_cannot_be_read_is_told_however_old_and_whatever_else_there_is() -> None:
    damaged = tuple(UnreadableSet(set_id=name, reason=f"{name} was cut.") for name in ("a", "b"))
    for sets in ((make_set("tonight", 4, drilled=1),), ()):
        state = RepositoryState(
            service="invoice", observed_at=NOW, sets=sets, unfinished=(), unreadable=damaged
        )
        first, second, *others = judge_freshness(state, MONTH, NOW)
        assert first.startswith(
            "Set a cannot be relied on, and is never deleted: a was cut. Put its manifest"
        )
        assert second.startswith("Set b cannot be relied on")
        assert bool(others) is (not sets)


HOURS = st.floats(min_value=0, max_value=2000)
SETS = st.lists(
    st.builds(
        make_set,
        st.uuids().map(str),
        HOURS,
        drilled=st.none() | HOURS,
        reread_passed=st.sampled_from([True, False, None]),
        drill_passed=st.sampled_from([True, False]),
    ),
    max_size=6,
)


@given(sets=SETS)
def test_a_new_set_that_was_read_back_and_drilled_answers_every_complaint(sets: list[SetSummary]) -> None:
    good = make_set("good", 0, drilled=0)
    assert judge(*sets, good) == ()


@given(sets=SETS, later=HOURS)
def test_no_complaint_goes_away_by_waiting(sets: list[SetSummary], later: float) -> None:
    assert len(judge(*sets, now=NOW + timedelta(hours=later))) >= len(judge(*sets))


@pytest.mark.parametrize(
    ("newest", "sentence"),
    [
        (
            make_set("a", 4),
            "the newest is 4 h old and was read back; a restore drill passed 3 days 18 h ago.",
        ),
        (make_set("a", 1, reread_passed=None), "the newest is 1 h old and is still to be read back; a"),
    ],
)
def test_the_sentence_of_a_good_morning_has_the_figures(newest: SetSummary, sentence: str) -> None:
    state = RepositoryState(service="invoice", observed_at=NOW, sets=(PROVEN, newest), unfinished=())
    found = describe_freshness(state, NOW)
    assert found.startswith("invoice: 2 sets, ")
    assert sentence in found
