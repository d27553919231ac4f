"""corruption-recovery: damage that is really on the disk, damage that is none, and a set from before it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.sandbox.stack import Sandbox
from tasks.leases import hold_lease
from tests.runbooks.conftest import KINDS, Children, Kind, Ledger, Ledgers, artifacts_of, completed, failed
from tests.runbooks.damage import TABLE, Damage, DamagedMongodb, DamagedPostgresql, server_to_damage
from tests.runbooks.walking import is_healthy, leftovers, steps_of_the_newest_run
from tests.thoroughness import WHOLE

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# What is not about the swap of what is damaged is the same for both.
SWAPPING = ("setting-aside", "left-in-place", "set-aside", "moved-in", "starting", "proven")
# From the swap on it is what restore-database does, which is killed there as well.
SOME: dict[Kind, tuple[str, ...]] = {
    "postgresql": ("stopping", "setting-aside", "moved-in", "proven"),
    "mongodb": ("set-aside", "starting"),
}
EXAMINING = {
    "mongodb": "tasks.mongodb_integrity:examine_collections",
    "postgresql": "tasks.postgresql_integrity:examine_database",
}


@pytest.fixture(params=KINDS)
def operated(request: pytest.FixtureRequest, ledgers: Ledgers, sandbox: Sandbox) -> Ledger:
    """A small service whose application runs, with one verified set."""
    ledger = ledgers.make(request.param)
    ledger.operate(sandbox)
    ledger.must_back_up()
    return ledger


@pytest.fixture(params=KINDS)
def damage(
    request: pytest.FixtureRequest, ledgers: Ledgers, sandbox: Sandbox, tmp_path: Path
) -> Iterator[Damage]:
    """The same with one table more, which is to be damaged."""
    ledger, state = ledgers.make(request.param), tmp_path / "damaged"
    if request.param == "postgresql":
        yield prepare(DamagedPostgresql(ledger, sandbox), sandbox)
        return
    with server_to_damage(state) as (server, vault):
        yield prepare(DamagedMongodb(ledger, state, server, vault), sandbox)
        # Before the server: its tests' teardown asks it.
        ledgers.remove()


def prepare(damage: Damage, sandbox: Sandbox) -> Damage:
    damage.ledger.database.grow(200, 500)
    damage.ledger.operate(sandbox)
    damage.ledger.must_back_up()
    return damage


# --- Something is damaged ---


def test_what_is_damaged_is_named_and_the_set_from_before_it_comes_back(damage: Damage) -> None:
    ledger = damage.ledger
    saved = ledger.database.hash_content()
    damage.harm()
    damaged = damage.content()
    assert damaged != saved

    # What is damaged cannot be backed up, and is not thrown away unless somebody says so.
    refused = ledger.recover()
    said = failed(refused)
    assert TABLE in artifacts_of(refused)["corruption-recovery-findings-ledger"]
    assert "what is there now cannot be saved" in said
    assert "The data is as it was. The application runs" in said
    assert damage.content() == damaged

    said = completed(ledger.recover(nothing_to_save="ledger"))
    assert "Damaged: " in said
    assert TABLE in said
    assert ledger.database.hash_content() == saved
    assert is_healthy(ledger)
    assert leftovers(ledger) == set()


@pytest.mark.timeout(600)
def test_killed_at_any_step_of_a_recovery_a_rerun_ends_with_exactly_the_old_or_exactly_the_new_data(
    damage: Damage, children: Children
) -> None:
    ledger = damage.ledger
    saved = ledger.database.hash_content()
    damage.harm()
    completed(ledger.recover(nothing_to_save="ledger"))
    steps = steps_of_the_newest_run(ledger)
    assert {"began", "stopping", "restoring", "setting-aside", "moved-in", "starting", "proven"} < set(steps)
    if not WHOLE:
        steps = [step for step in steps if step in SOME[ledger.kind]]
    elif isinstance(damage, DamagedMongodb):
        steps = [step for step in steps if step in SWAPPING]
    recovery = {"service": "ledger", "nothing_to_save": "ledger"}
    sound, whole = True, saved
    for step in reversed(steps):
        ledger.database.spoil()
        if sound:
            whole = ledger.database.hash_content()
            damage.harm()
        old, sound = damage.content(), step in {"proven", "closed"}

        killed = children.start(ledger, "corruption_recovery", parameters=recovery, kill_after_step=step)
        assert killed.wait() is None, step
        if step == "setting-aside":
            completed(ledger.recover(nothing_to_save="ledger"))
            sound = True
        else:
            # A run that does nothing of its own: only what the killed one left is put right.
            state = ledger.recover(damaged_since=LONG_AGO)
            if step == "proven":
                assert "live and proven" in completed(state)
            else:
                assert "has no verified set" in failed(state), step

        if sound:
            assert ledger.database.hash_content() == saved, step
        else:
            assert damage.content() == old, step
        assert is_healthy(ledger), step
        assert leftovers(ledger) == set(), step
        if step == "starting" and isinstance(damage, DamagedMongodb):
            # What nobody could read was there and back as well.
            damage.mend()
            assert ledger.database.hash_content() == whole
            damage.harm()


# --- Nothing is damaged ---


def test_where_nothing_is_damaged_nothing_is_restored_and_the_application_runs_again(
    operated: Ledger,
) -> None:
    operated.database.spoil()
    spoilt, listing = operated.database.hash_content(), set(operated.sets())
    said = completed(operated.recover())
    assert "nothing is damaged" in said
    assert "The application runs and is healthy." in said
    assert operated.database.hash_content() == spoilt
    assert set(operated.sets()) == listing
    assert is_healthy(operated)
    assert leftovers(operated) == set()


def test_killed_at_any_step_where_nothing_is_damaged_a_rerun_starts_the_application_again(
    operated: Ledger, children: Children
) -> None:
    saved = operated.database.hash_content()
    examining = EXAMINING[operated.kind]
    orders = [
        {"kill_when_called": examining},
        {"kill_after_step": "began"},
        {"kill_after_step": "stopping"},
        {"kill_when_called": "flows.restoring:start_application"},
        {"kill_after_step": "closed"},
    ]
    # Only the examination is another one on MongoDB.
    for order in orders if WHOLE or operated.kind == "postgresql" else orders[:1]:
        assert children.start(operated, "corruption_recovery", **order).wait() is None, order
        if examining in order.values():
            assert not is_healthy(operated)
            # Another runbook that would change the service refuses until that is put right.
            said = failed(operated.recover(dry_run=True))
            assert "a corruption-recovery is under way, or was killed and left something half done" in said
            said = failed(operated.restore())
            assert "a corruption-recovery was killed and left something half done" in said
            assert "nothing is damaged" in completed(operated.recover())
        else:
            assert "has no verified set" in failed(operated.recover(damaged_since=LONG_AGO)), order
        assert is_healthy(operated), order
        assert operated.database.hash_content() == saved, order
        assert leftovers(operated) == set(), order


# --- It is refused before anything is touched ---


def test_without_a_set_from_before_the_damage_nothing_is_touched(operated: Ledger) -> None:
    before = operated.manifest(operated.sets()[-1]).started_at - timedelta(hours=1)
    assert "has no verified set from before" in failed(operated.recover(damaged_since=before))
    # As somebody types it: in the service's own time.
    typed = before.replace(tzinfo=None) - timedelta(days=1)
    assert "has no verified set from before" in failed(operated.recover(damaged_since=typed))
    assert is_healthy(operated)


def test_a_set_that_somebody_else_holds_is_refused_before_the_application_is_stopped(
    operated: Ledger,
) -> None:
    lease = f"set-{operated.sets()[-1]}"
    with hold_lease(operated.store, "ledger", lease, purpose="restore-drill", holder="a-drill"):
        for start in (operated.recover, operated.restore):
            said = failed(start())
            assert "a-drill" in said
            assert "The data is as it was." in said
            assert steps_of_the_newest_run(operated) == ["began", "closed"]
            assert leftovers(operated) == set()
    assert is_healthy(operated)


def test_a_dry_run_shows_the_plan_and_stops_nothing(operated: Ledger) -> None:
    state = operated.recover(dry_run=True)
    assert "nothing was done" in completed(state)
    assert "examine every collection or table" in artifacts_of(state)["corruption-recovery-plan-ledger"]
    assert is_healthy(operated)
