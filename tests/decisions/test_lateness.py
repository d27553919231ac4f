"""When a run counts as late, and what is said of it."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.decisions.lateness import judge_lateness, judge_look
from tasks.records.service import WhenLate

DUE = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)


@pytest.mark.parametrize(
    ("delay", "when_late", "verdict"),
    [
        (timedelta(0), "skip", "on time"),
        (timedelta(seconds=-3), "skip", "on time"),
        (TWO_HOURS, "skip", "on time"),
        (TWO_HOURS + timedelta(seconds=1), "skip", "skip"),
        (TWO_HOURS + timedelta(seconds=1), "run", "late"),
        (timedelta(days=3), "run", "late"),
        (TWO_HOURS, "ask", "on time"),
        (TWO_HOURS + timedelta(seconds=1), "ask", "ask"),
    ],
)
def test_a_run_is_late_when_it_starts_later_than_allowed(
    delay: timedelta, when_late: WhenLate, verdict: str
) -> None:
    assert judge_lateness(DUE, DUE + delay, TWO_HOURS, when_late).verdict == verdict


def test_a_run_started_by_hand_is_never_late() -> None:
    found = judge_lateness(None, DUE, timedelta(0), "skip")
    assert (found.verdict, found.sentence) == ("on time", "Started by hand.")


def test_the_sentence_has_the_figures_and_the_choice() -> None:
    late = judge_lateness(DUE, DUE + timedelta(hours=5, minutes=3), TWO_HOURS, "skip").sentence
    assert "2026-11-21 01:00 UTC, started 5 h 3 min later" in late
    assert "more than the 2 h" in late
    assert "skipped" in late
    on_time = judge_lateness(DUE, DUE + timedelta(seconds=12), TWO_HOURS, "skip").sentence
    assert on_time == "Started 12 s after its scheduled time."


def test_a_look_is_left_to_the_next_one_when_that_was_due() -> None:
    every = timedelta(minutes=10)
    assert judge_look(DUE, DUE + every, every).verdict == "on time"
    found = judge_look(DUE, DUE + every + timedelta(seconds=1), every)
    assert (found.verdict, found.sentence) == (
        "skip",
        "The next one was due 10 min later, and takes this one's place.",
    )
