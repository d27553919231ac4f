"""The morning's check as an operator meets it: on sets that the backup and the drill made."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from deployments.doctor import examine
from deployments.sandbox.stack import Sandbox
from flows.check_backups import check_backups
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed, flip


def check(ledger: Ledger) -> State[Any]:
    return cast("State[Any]", check_backups(ledger.name, return_state=True))


def test_the_morning_after_a_good_night_and_a_good_drill_is_one_sentence_and_a_table(ledger: Ledger) -> None:
    set_id = ledger.must_back_up()
    completed(ledger.drill())
    ledger.repository.pin(set_id, "an auditor wants it")
    before = ledger.listing()

    state = check(ledger)

    message = completed(state)
    assert message.startswith("ledger: 1 set, the newest is ")
    assert "was read back; a restore drill passed" in message
    shown = artifacts_of(state)
    assert set(shown) == {"check-backups-history-ledger"}
    assert f"| passed | passed | {set_id}, pinned: an auditor wants it |" in shown[
        "check-backups-history-ledger"
    ].replace("\\", "")
    assert ledger.listing() == before


def test_without_any_set_the_check_fails(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    assert failed(check(ledger)) == "ledger: There is no backup set: run nightly-backup/ledger."


def test_a_night_that_made_no_set_and_a_drill_that_is_overdue_are_told_by_the_check_and_the_doctor(
    ledgers: Ledgers,
) -> None:
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    ledger.publish_old_set(like, timedelta(days=40), now=now, drilled=True)
    yesterdays = ledger.publish_old_set(like, timedelta(hours=29), now=now)
    ledger.repository.delete_set(like)

    message = failed(check(ledger))

    assert message.startswith(f"ledger: The newest set, {yesterdays}, is 1 day 5 h old")
    assert "The newest restore drill that passed was 40 days ago, and 35 days is the limit" in message
    doctor = " ".join(examine(ledger.services / "ledger.yaml"))
    assert f"The newest set, {yesterdays}, is 1 day 5 h old" in doctor
    assert "The newest restore drill that passed was 40 days ago" in doctor


def test_the_first_morning_after_a_night_that_made_no_set_is_told(ledgers: Ledgers) -> None:
    """The set of the night before is just not too old then."""
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    due = (now - timedelta(hours=4)).astimezone(ledger.profile.zone)
    ledger.change(backup={"schedule": f"{due.minute} {due.hour} * * *"})
    ledger.publish_old_set(like, timedelta(hours=28) - timedelta(seconds=90), now=now, drilled=True)
    ledger.repository.delete_set(like)

    message = failed(check(ledger))

    assert (
        "ledger: The backup that was due 4 h ago left no set, and the newest usable one is 1 day " in message
    )


def test_a_drill_that_failed_is_told_until_one_passes(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    good = ledger.must_back_up()
    completed(ledger.drill())
    damaged = ledger.must_back_up()
    stored = ledger.manifest(damaged).application.archive
    ledger.store.write(ledger.repository.object_key(damaged, stored.key), b"not what was saved")
    failed(ledger.drill())

    assert f"{damaged} failed a restore drill, and none has passed since" in failed(check(ledger))

    completed(ledger.drill(wanted_set=good))
    completed(check(ledger))


def test_an_older_set_whose_manifest_is_damaged_is_told_by_the_check_and_the_doctor(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    damaged = ledger.must_back_up()
    ledger.must_back_up()
    completed(ledger.drill())
    flip(ledger.root / f"ledger/sets/{damaged}/manifest.json")
    assert f"ledger: Set {damaged} cannot be relied on, and is never deleted: " in failed(check(ledger))
    doctor = " ".join(examine(ledger.services / "ledger.yaml"))
    assert f"Set {damaged} cannot be relied on" in doctor


def test_a_set_that_was_found_wanting_is_told(ledgers: Ledgers) -> None:
    ledger = ledgers.make("mongodb")
    ledger.must_back_up()
    completed(ledger.drill())
    ledger.database.empty()
    failed(ledger.back_up())
    assert f"The newest set, {ledger.sets()[-1]}, failed its re-read" in failed(check(ledger))


@pytest.mark.usefixtures("quick_retries")
def test_a_store_that_does_not_answer_fails_the_check(ledgers: Ledgers, sandbox: Sandbox) -> None:
    ledger = ledgers.make("postgresql", "s3")
    ledger.change(backup={"destination": {"endpoint_url": "http://127.0.0.1:9"}})
    assert "127.0.0.1:9" in failed(check(ledger))


def test_an_unknown_service_is_refused(ledgers: Ledgers) -> None:
    ledgers.make("postgresql")
    assert "known services: ledger" in failed(cast("State[Any]", check_backups("legder", return_state=True)))
