"""Which set is drilled; and the fence of names around everything that is not a scratch database."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.drill_plan import (
    choose_set,
    is_scratch_database,
    name_scratch_database,
    refuse_scratch_name,
)
from flows.decisions.refusal import Refusal
from tasks.records.backup import RepositoryState, SetSummary, UnfinishedSet, UnreadableSet

NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
SET_ID = "20261121T010000Z-4f2a"


def make_set(name: str, days_old: int, **changed: Any) -> SetSummary:
    facts: dict[str, Any] = {
        "set_id": name,
        "kind": "nightly",
        "created_at": NOW - timedelta(days=days_old),
        "seconds": 1.0,
        "stored_bytes": 1,
        "raw_bytes": 1,
        "parts": 1,
        "entries": 1,
        "reread_passed": True,
        "drill_passed": None,
        "pinned": None,
        "leased_by": None,
    }
    return SetSummary(**(facts | changed))


def make_state(*sets: SetSummary) -> RepositoryState:
    left = UnfinishedSet(set_id="half", last_written_at=NOW, tombstoned=False)
    return RepositoryState(service="invoice", observed_at=NOW, sets=sets, unfinished=(left,))


STATE = make_state(
    make_set("good", 3),
    make_set("failed", 1, reread_passed=False),
    make_set("undrillable", 2, drill_passed=False),
    make_set("new", 0, reread_passed=None),
    make_set("old", 9, drill_passed=True),
)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("latest", "new"), ("latest-verified", "good"), ("old", "old"), ("failed", "failed")],
)
def test_the_wanted_set_is_chosen(wanted: str, chosen: str) -> None:
    assert choose_set(STATE, wanted) == chosen


@pytest.mark.parametrize(
    ("state", "wanted", "words"),
    [
        (make_state(), "latest", ["no backup set", "run the backup first"]),
        (make_state(make_set("a", 1, reread_passed=None)), "latest-verified", ["a (not verified)"]),
        (
            STATE,
            "gone",
            ["no set 'gone'", "new (not verified), failed (failed its reread)", "passed a drill"],
        ),
        (STATE, "half", ["'half' of invoice is unfinished"]),
        (make_state(*(make_set(f"s{day}", day) for day in range(13))), "x", ["and 3 older ones"]),
    ],
)
def test_a_refusal_lists_what_there_is(state: RepositoryState, wanted: str, words: list[str]) -> None:
    found = choose_set(state, wanted)
    assert isinstance(found, Refusal)
    for word in words:
        assert word in found.reason


def make_damaged(name: str) -> UnreadableSet:
    return UnreadableSet(set_id=name, reason=f"{name}/manifest.json is damaged: the whole: it was cut.")


@pytest.mark.parametrize(
    ("wanted", "damaged"), [("latest", "s3"), ("s3", "s3"), ("s1", "s1"), ("latest", "s0-alone")]
)
def test_a_set_that_cannot_be_read_is_not_passed_over(wanted: str, damaged: str) -> None:
    sets = () if damaged == "s0-alone" else (make_set("s2", 2),)
    state = make_state(*sets).model_copy(update={"unreadable": (make_damaged(damaged),)})
    found = choose_set(state, wanted)
    assert isinstance(found, Refusal)
    assert found.reason.startswith(f"{damaged}/manifest.json is damaged: the whole: it was cut. Name another")


@pytest.mark.parametrize("wanted", ["latest", "latest-verified", "s2"])
def test_a_set_that_cannot_be_read_keeps_nobody_from_a_newer_one(wanted: str) -> None:
    state = make_state(make_set("s2", 2)).model_copy(update={"unreadable": (make_damaged("s1"),)})
    assert choose_set(state, wanted) == "s2"


def test_the_scratch_database_tells_service_and_time_of_its_set() -> None:
    name = name_scratch_database("invoice", SET_ID)
    assert re.fullmatch(r"drill_invoice_20261121t010000_[0-9a-f]{8}", name)
    assert name == name_scratch_database("invoice", SET_ID)
    assert name != name_scratch_database("invoice", "20261121T010000Z-4f2b")


SERVICES = st.from_regex(r"[a-z][a-z0-9-]{0,60}", fullmatch=True)


@given(service=SERVICES, other=SERVICES, set_id=st.text(min_size=1) | st.just(SET_ID))
def test_a_scratch_name_is_valid_on_both_servers_and_recognised_for_its_service_only(
    service: str, other: str, set_id: str
) -> None:
    name = name_scratch_database(service, set_id)
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name)
    assert is_scratch_database(name, service)
    assert is_scratch_database(name, other) is (service == other)
    assert refuse_scratch_name(name, service) is None


@pytest.mark.parametrize(
    "name",
    [
        "invoice",
        "drill_invoice",
        "drill_invoice_20261121t010000",
        "drill_invoice_20261121t010000_4f2a4f2",
        "drill_invoice_20261121t010000_4f2a4f2a0",
        "drill_invoice_20261121t010000_4f2a4f2a\n",
        "Drill_invoice_20261121t010000_4f2a4f2a",
        "xdrill_invoice_20261121t010000_4f2a4f2a",
        "drill_invoice_x_20261121t010000_4f2a4f2a",
        "drill_invoice_\u0662\u0660\u0662\u06661121t010000_4f2a4f2a",
        "",
    ],
)
def test_nothing_else_is_ever_taken_for_a_scratch_database(name: str) -> None:
    assert not is_scratch_database(name, "invoice")


@pytest.mark.parametrize("real", ["", "invoice", "drill_invoice", "postgres", "admin"])
def test_a_scratch_database_beside_the_real_one_is_fine(real: str) -> None:
    assert refuse_scratch_name(name_scratch_database("invoice", SET_ID), real) is None


@pytest.mark.parametrize(
    ("scratch", "real", "word"),
    [
        ("invoice", "invoice", "is the real database"),
        (name_scratch_database("invoice", SET_ID), name_scratch_database("invoice", SET_ID).upper(), "real"),
        ("invoice_scratch", "invoice", "no name of a scratch database"),
        ("admin", "invoice", "no name of a scratch database"),
        (name_scratch_database("invoice", SET_ID), name_scratch_database("x", SET_ID), "rename it"),
    ],
)
def test_a_drill_that_could_touch_the_real_database_is_refused(scratch: str, real: str, word: str) -> None:
    found = refuse_scratch_name(scratch, real)
    assert found is not None
    assert word in found.reason
