"""Which sets stand after a night: those that nothing is known against, and those that retention keeps."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from tasks.leases import hold_lease
from tests.runbooks.conftest import (
    Children,
    Ledger,
    Ledgers,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    decisions_in,
    failed,
    wait_until,
)

# --- Sets that verify and are no good ---


def with_history(ledger: Ledger) -> tuple[str, set[str]]:
    """Give the service a week of good nights and a set that retention would delete tonight."""
    like = ledger.must_back_up()
    now = datetime.now(UTC)
    for days in (1, 2, 3, 4):
        ledger.publish_old_set(like, timedelta(days=days), now=now)
    return ledger.publish_old_set(like, timedelta(days=20), now=now), set(ledger.sets())


def test_an_emptied_database_fails_the_night_and_evicts_nothing_even_if_its_size_is_accepted(
    ledgers: Ledgers,
) -> None:
    ledger = ledgers.make("mongodb")
    _, before = with_history(ledger)
    ledger.database.empty()
    for accept in (False, True):
        message = failed(ledger.back_up(accept_changed_size=accept))
        assert re.search(r"not one (document|row), where the last good set \S+ has 45\d ", message), message
        assert "nothing was deleted" in message
        assert before <= set(ledger.sets())
    # The sets that were found wanting are marked, so that nothing counts on them.
    for set_id in set(ledger.sets()) - before:
        assert [verdict.passed for verdict in ledger.verdicts(set_id)] == [False]


def test_a_size_far_from_the_usual_fails_the_night_until_somebody_accepts_it(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    goes, before = with_history(ledger)
    ledger.database.grow(1500, 2000)

    state = ledger.back_up()
    message = failed(state)

    assert re.search(r"times more than the median of the last \d good sets", message), message
    assert "accept_changed_size" in message
    assert before <= set(ledger.sets())
    assert "accept\\_changed\\_size" in artifacts_of(state)["nightly-backup-findings-ledger"]

    completed(ledger.back_up(accept_changed_size=True))
    assert goes not in ledger.sets()
    # What was accepted is the measure from now on.
    completed(ledger.back_up())


def test_a_table_that_lost_all_its_rows_fails_the_night_though_the_size_is_usual(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    ledger.database.grow(3000)
    goes, before = with_history(ledger)
    cast("PostgresqlDatabase", ledger.database).execute("TRUNCATE entries")

    for _ in range(2):
        # A set that was found wanting is no measure for the next.
        message = failed(ledger.back_up())
        assert re.search(r"Table public.entries is empty, and held \d{3} rows in the last good set", message)
        assert "times" not in message
    assert before <= set(ledger.sets())

    completed(ledger.back_up(accept_changed_size=True))
    assert goes not in ledger.sets()
    completed(ledger.back_up())


# --- Retention ---


@pytest.mark.parametrize("keep_days", [7, 30])
def test_retention_deletes_exactly_what_was_shown(ledgers: Ledgers, keep_days: int) -> None:
    ledger = ledgers.make("postgresql")
    ledger.change(backup={"retention": {"keep_days": keep_days}})
    like, now = ledger.must_back_up(), datetime.now(UTC)

    def add(age: float, **how: Any) -> str:
        return ledger.publish_old_set(like, timedelta(days=age), now=now, **how)

    young = [add(1), add(keep_days / 2), add(keep_days - 0.1)]
    going = [add(keep_days + 0.1), add(keep_days * 1.5), add(keep_days * 4, drilled=True)]
    pinned, proven, leased = (
        add(keep_days * 2, pinned="audit"),
        add(keep_days * 3, drilled=True),
        add(keep_days * 5),
    )
    shown = decisions_in(artifacts_of(ledger.back_up(dry_run=True))["nightly-backup-plan-ledger"])

    with hold_lease(ledger.store, "ledger", f"set-{leased}", purpose="restore drill", holder="somebody"):
        state = ledger.back_up()
        assert "; 3 old sets deleted, 8 kept." in completed(state)

    tonight = set(ledger.sets()) - {like, *young, *going, pinned, proven, leased}
    assert len(tonight) == 1
    assert set(ledger.sets()) == {like, *young, pinned, proven, leased, *tonight}
    artifacts = artifacts_of(state)
    plan = decisions_in(artifacts["nightly-backup-plan-ledger"])
    assert {set_id for set_id, what in plan.items() if what == "delete"} == set(going)
    # The dry run had not seen the lease; otherwise it showed the same.
    assert {set_id for set_id, what in shown.items() if what == "delete"} == {*going, leased}
    assert "pinned: audit" in artifacts["nightly-backup-plan-ledger"]
    assert "newest that passed a restore drill" in artifacts["nightly-backup-plan-ledger"]
    assert "leased by somebody (restore drill)" in artifacts["nightly-backup-plan-ledger"]
    for set_id in going:
        assert not [key for key in ledger.listing() if set_id in key], "something of a deleted set is left"
    assert all(ledger.find_damage(set_id) == [] for set_id in ledger.sets())


def test_more_deletes_than_the_cap_are_refused_and_the_night_fails_although_it_was_saved(
    ledgers: Ledgers,
) -> None:
    ledger = ledgers.make("postgresql")
    ledger.change(backup={"retention": {"keep_days": 7, "most_deletes": 1}})
    like, now = ledger.must_back_up(), datetime.now(UTC)
    old = {ledger.publish_old_set(like, timedelta(days=days), now=now) for days in (8, 9)}
    before = set(ledger.sets())

    state = ledger.back_up()
    message = failed(state)

    assert "saved and verified, but retention was refused. 2 sets would go, the cap is 1" in message
    assert "allow_deletes=2" in message
    (saved,) = set(ledger.sets()) - before
    assert before < set(ledger.sets())
    assert [verdict.passed for verdict in ledger.verdicts(saved)] == [True]
    assert "Nothing was deleted" in artifacts_of(state)["nightly-backup-retention-ledger"]

    assert "; 2 old sets deleted" in completed(ledger.back_up(allow_deletes=2))
    assert old.isdisjoint(ledger.sets())


def test_a_repository_that_changed_after_the_plan_was_shown_stops_retention(
    ledgers: Ledgers, children: Children
) -> None:
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    first, second = (ledger.publish_old_set(like, timedelta(days=days), now=now) for days in (8, 9))
    # Before the fifth change, the verdict, the plan is shown and the set is published.
    run = children.start(ledger, pause_before=5)
    wait_until(lambda: run.is_paused)
    ledger.repository.pin(second, "an auditor wants it")
    run.go_on()

    end = run.wait()

    assert end is not None
    assert end["type"] == "FAILED", end
    assert f"{second} was shown and would stay" in end["message"]
    assert {first, second} < set(ledger.sets())
    assert len(ledger.sets()) == 4


def test_what_fails_while_old_sets_are_deleted_does_not_hide_that_tonights_is_good(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    old = ledger.publish_old_set(like, timedelta(days=8), now=now)
    # No tombstone can be written below it.
    (ledger.root / "ledger/tombstones").write_text("")

    message = failed(ledger.back_up())

    assert message.startswith("ledger: saved and verified, but retention did not end. file://")
    assert message.endswith("a part of the key is a file, not a folder.")
    assert old in ledger.sets()
    assert len(ledger.sets()) == 3
