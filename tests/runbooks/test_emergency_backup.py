"""A backup before something risky: as the nightly one, but pinned, and it deletes nothing."""

from datetime import UTC, datetime, timedelta

from tests.runbooks.conftest import Children, Ledger, Ledgers, artifacts_of, completed, failed


def test_the_set_is_pinned_with_its_reason_and_outlives_every_retention(ledger: Ledger) -> None:
    state = ledger.back_up_before("before migration 42")

    assert completed(state).endswith("; 0 old sets deleted, 1 kept.")
    (set_id,) = ledger.sets()
    assert "-emergency-" in set_id
    manifest = ledger.manifest(set_id)
    assert (manifest.kind, manifest.reason) == ("emergency", "before migration 42")
    assert ledger.find_damage(set_id) == []
    assert [verdict.passed for verdict in ledger.verdicts(set_id)] == [True]
    assert {"emergency-backup-plan-ledger", "emergency-backup-saved-ledger"} <= set(artifacts_of(state))

    now = datetime.now(UTC)
    (found,) = ledger.repository.state(now).sets
    assert found.pinned == "before migration 42"
    # A year later it is still there.
    old = ledger.publish_old_set(set_id, timedelta(days=365), now=now, pinned=found.pinned)
    ledger.must_back_up()
    assert {set_id, old} <= set(ledger.sets())


def test_before_a_risky_operation_no_backup_is_deleted(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    old = {ledger.publish_old_set(like, timedelta(days=days), now=now) for days in (8, 20)}
    completed(ledger.back_up_before("before the sale"))
    assert old <= set(ledger.sets())


def test_killed_before_its_manifest_it_leaves_no_pin_that_lasts(ledgers: Ledgers, children: Children) -> None:
    ledger = ledgers.make("postgresql")
    # Lease, two objects, pin, manifest.
    parameters = {"service": "ledger", "reason": "before migration 43"}
    run = children.start(ledger, "emergency_backup", parameters=parameters, kill_before=5)
    assert run.wait() is None
    assert ledger.sets() == ()
    (pin,) = ledger.keys("pins")
    (left,) = ledger.repository.state(datetime.now(UTC)).unfinished
    assert left.set_id in pin
    ledger.repository.collect_unfinished(left.set_id)
    assert not [key for key in ledger.listing() if left.set_id in key]


def test_what_cannot_be_saved_pins_nothing(ledger: Ledger) -> None:
    ledger.database.drop_everything()
    assert "has nothing to save" in failed(ledger.back_up_before("before migration 44"))
    assert ledger.keys("sets") == ledger.keys("pins") == []
