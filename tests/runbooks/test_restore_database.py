"""restore-database on real servers, under a real application: proven before, proven after, or as it was."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from deployments.sandbox.stack import Sandbox
from tasks.errors import LeaseHeldError
from tasks.leases import hold_lease
from tasks.process_manager import start_application
from tests.conftest import Expiry
from tests.runbooks.conftest import (
    KINDS,
    Children,
    Kind,
    Ledger,
    Ledgers,
    MongodbDatabase,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    cut,
    empty,
    failed,
    flip,
    wait_until,
)
from tests.runbooks.walking import events, is_healthy, leftovers, steps_of_the_newest_run
from tests.thoroughness import WHOLE

PROVING = "flows.restoring:probe_login"


@pytest.fixture(params=KINDS)
def operated(request: pytest.FixtureRequest, ledgers: Ledgers, sandbox: Sandbox) -> Ledger:
    """A small service whose application runs, with one verified set."""
    return operate(ledgers, sandbox, request.param)


def operate(ledgers: Ledgers, sandbox: Sandbox, kind: Kind, **make: Any) -> Ledger:
    ledger = ledgers.make(kind, **make)
    ledger.operate(sandbox)
    ledger.must_back_up()
    return ledger


def spoil(ledger: Ledger) -> dict[str, str]:
    """Change, delete and add, as an accident does; return the hash of what is there then."""
    ledger.database.spoil()
    return ledger.database.hash_content()


@contextmanager
def clients(ledger: Ledger) -> Iterator[list[int]]:
    """Ask the application again and again, as its users do; yield the answers' codes, 0 for none."""
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=5) as client:
            while not stop.wait(0.02):
                try:
                    answers.append(client.get(ledger.profile.application.health_url).status_code)
                except httpx.HTTPError:
                    answers.append(0)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        stop.set()
        asking.join()


# --- It works ---


@pytest.mark.parametrize("kind", KINDS)
def test_from_s3_under_clients_the_data_is_the_sets_again_and_what_was_there_is_in_a_pinned_set(
    ledgers: Ledgers, sandbox: Sandbox, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind, store="s3")
    saved = ledger.database.hash_content()
    spoilt = spoil(ledger)
    assert spoilt != saved
    (before,) = ledger.sets()

    with clients(ledger) as answers:
        state = ledger.restore()
        said = completed(state)

    assert ledger.database.hash_content() == saved
    assert is_healthy(ledger)
    assert answers[0] == answers[-1] == 200
    assert leftovers(ledger) == set()
    (safety,) = set(ledger.sets()) - {before}
    assert safety in said
    assert before in said
    summary = {
        found.set_id: found for found in ledger.repository.state(ledger.manifest(before).finished_at).sets
    }
    assert f"before restore-database to {before}" in str(summary[safety].pinned)
    assert summary[safety].kind == "safety"
    assert events(ledger) == ["began", "finished"]
    shown = artifacts_of(state)
    assert "Put" in shown["restore-database-plan-ledger"]
    assert "proven" in shown["restore-database-done-ledger"]
    assert before in shown["restore-database-history-ledger"]

    # What was there before is not taken for a backup to go back to; named, it comes back as well.
    completed(ledger.restore(nothing_to_save="ledger"))
    assert ledger.database.hash_content() == saved
    completed(ledger.restore(wanted_set=safety, nothing_to_save="ledger"))
    assert ledger.database.hash_content() == spoilt


def test_what_expired_since_the_backup_is_restored_and_proven_before_the_server_deletes_it(
    ledgers: Ledgers, sandbox: Sandbox, expiry: Expiry
) -> None:
    ledger = ledgers.make("mongodb")
    otps = cast("MongodbDatabase", ledger.database).database["otps"]
    expires = datetime.now(UTC) + timedelta(seconds=3)
    otps.insert_many([{"_id": n, "expires": expires} for n in range(3)])
    otps.create_index("expires", expireAfterSeconds=0)
    set_id = ledger.must_back_up()
    ledger.operate(sandbox)
    wait_until(lambda: datetime.now(UTC) > expires)

    expiry.before_reads_of("")
    completed(ledger.drill())
    completed(ledger.restore(wanted_set=set_id))

    assert otps.find_one() is None
    assert otps.index_information()["expires_1"]["expireAfterSeconds"] == 0
    assert leftovers(ledger) == set()


def test_a_database_that_is_gone_comes_back(operated: Ledger) -> None:
    saved = operated.database.hash_content()
    operated.database.drop()
    completed(operated.restore())
    assert operated.database.hash_content() == saved
    assert is_healthy(operated)
    assert leftovers(operated) == set()


def test_what_a_killed_backup_left_takes_no_room_from_the_set_that_is_saved_first(operated: Ledger) -> None:
    left = operated.repository.new_set_id("nightly", datetime.now(UTC))
    operated.store.write(operated.repository.object_key(left, "application.tar.gz"), b"left")
    completed(operated.restore())
    assert not [key for key in operated.listing() if left in key]


def test_a_dry_run_shows_the_plan_and_changes_nothing(operated: Ledger) -> None:
    spoilt, listing = spoil(operated), operated.listing()
    state = operated.restore(dry_run=True)
    assert "nothing was done" in completed(state)
    assert "Back up" in artifacts_of(state)["restore-database-plan-ledger"]
    assert operated.database.hash_content() == spoilt
    assert operated.listing() == listing
    assert leftovers(operated) == set()


def test_the_profiles_migrations_run_before_the_application_starts(operated: Ledger) -> None:
    operated.change(application={"migrate_command": ["touch", "migrated"]})
    completed(operated.restore())
    assert (operated.application / "migrated").exists()


# --- It is refused before anything is touched ---


def test_a_damaged_set_is_refused_before_anything_is_touched(operated: Ledger) -> None:
    set_id = operated.sets()[-1]
    spoilt = spoil(operated)
    largest = max(operated.manifest(set_id).objects, key=lambda stored: stored.bytes)
    place = operated.root / operated.repository.object_key(set_id, largest.key)
    whole = place.read_bytes()
    damages: tuple[Callable[[Path], None], ...] = (flip, cut, empty, Path.unlink)
    with clients(operated) as answers:
        for damage in damages:
            place.write_bytes(whole)
            damage(place)
            said = failed(operated.restore(wanted_set=set_id))
            assert largest.key in said
            assert "choose another one" in said
            assert operated.database.hash_content() == spoilt
    assert set(answers) == {200}
    assert not (operated.folder / "state" / "ledger" / "trail.jsonl").exists()


def test_a_set_of_another_service_or_of_no_data_is_refused(operated: Ledger) -> None:
    saved = operated.database.hash_content()
    assert "has no set 'nonsense'" in failed(operated.restore(wanted_set="nonsense"))
    assert "type ledger there" in failed(operated.restore(nothing_to_save="yes"))
    manifest = operated.root / operated.repository.object_key(operated.sets()[-1], "manifest.json")
    manifest.write_text(manifest.read_text().replace('"service": "ledger"', '"service": "other"'))
    failed(operated.restore(wanted_set="latest"))
    assert operated.database.hash_content() == saved
    assert is_healthy(operated)


def test_what_cannot_be_saved_first_is_not_replaced_unless_somebody_says_so(
    ledgers: Ledgers, sandbox: Sandbox
) -> None:
    ledger = ledgers.make("postgresql")
    database = cast("PostgresqlDatabase", ledger.database)
    with database.limited_role() as (role, url):
        ledger.write_env(url)
        ledger.operate(sandbox)
        ledger.must_back_up()
        saved = database.hash_content()
        database.execute(f"REVOKE SELECT ON entries FROM {role}")
        said = failed(ledger.restore())
        assert "what is there now cannot be saved" in said
        assert "type ledger in nothing_to_save" in said
        assert "The data is as it was. The application runs" in said
        assert leftovers(ledger) == set()
        completed(ledger.restore(nothing_to_save="ledger"))
        assert database.hash_content() == saved
        completed(ledger.back_up())


# --- It fails, and everything is put back ---


def test_an_application_that_does_not_come_up_with_the_restored_data_gets_the_old_back(
    operated: Ledger,
) -> None:
    spoilt = spoil(operated)
    operated.change(application={"login": {"user": "nobody"}})
    with clients(operated) as answers:
        said = failed(operated.restore())
    assert "the application runs with the restored data, but" in said
    assert re.search(r"as it was\. What was written into the restored data is in set \S+-safety-", said)
    assert said.endswith(" The application runs and is healthy.")
    assert operated.database.hash_content() == spoilt
    assert answers[-1] == 200
    assert is_healthy(operated)
    assert leftovers(operated) == set()
    assert events(operated) == ["began", "failed"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_users_wrote_before_the_restored_data_failed_its_proof_is_saved(
    ledgers: Ledgers, sandbox: Sandbox, children: Children, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind)
    spoilt = spoil(ledger)
    ledger.change(application={"login": {"user": "nobody"}})
    run = children.start(ledger, "restore_database", pause_when_called=PROVING)
    wait_until(lambda: run.is_paused, 60)
    written = spoil(ledger)
    run.go_on()
    answer = run.wait()
    assert answer is not None
    assert ledger.database.hash_content() == spoilt
    assert is_healthy(ledger)
    assert leftovers(ledger) == set()
    (named,) = re.findall(r"What was written into the restored data is in set (\S+)\. ", answer["message"])
    ledger.change(application={"login": {"user": "owner 7"}})
    completed(ledger.restore(wanted_set=named, nothing_to_save="ledger"))
    assert ledger.database.hash_content() == written


@pytest.mark.parametrize("kind", ["postgresql"])
def test_of_an_application_that_nobody_could_reach_nothing_is_saved_before_the_old_data_returns(
    ledgers: Ledgers, sandbox: Sandbox, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind)
    spoilt, listing = spoil(ledger), set(ledger.sets())
    server = ledger.application / "server.js"
    whole = server.read_text()
    server.write_text("process.exit(3);\n")
    try:
        said = failed(ledger.restore())
    finally:
        server.write_text(whole)
    assert "The data is as it was. The application was started and is not healthy" in said
    assert ledger.database.hash_content() == spoilt
    # The one from before the restore.
    assert len(set(ledger.sets()) - listing) == 1


def test_a_migration_that_fails_puts_the_old_data_back(operated: Ledger) -> None:
    spoilt = spoil(operated)
    operated.change(application={"migrate_command": ["false"]})
    assert "The data is as it was. The application runs" in failed(operated.restore())
    assert operated.database.hash_content() == spoilt
    assert leftovers(operated) == set()


def test_restored_data_that_cannot_be_dropped_does_not_keep_the_application_down(
    ledgers: Ledgers, sandbox: Sandbox
) -> None:
    ledger = operate(ledgers, sandbox, "postgresql")
    database = cast("PostgresqlDatabase", ledger.database)
    spoilt = spoil(ledger)
    # PostgreSQL drops no template, under whatever name.
    psql = Path(ledger.profile.database.client_directory or "") / "psql"
    template = f'ALTER DATABASE "{database.name}" IS_TEMPLATE true'
    failing = f"{psql} -qc '{template}' '{database.url}'; exit 1"
    ledger.change(application={"migrate_command": ["sh", "-c", failing]})

    said = failed(ledger.restore())

    (beside,) = leftovers(ledger)
    assert "The data is as it was. The application runs and is healthy." in said
    assert f"The restored data in {beside} could not be dropped: " in said
    assert said.endswith("The next restore drops it.")
    assert is_healthy(ledger)
    assert database.hash_content() == spoilt
    database.execute(f'ALTER DATABASE "{beside}" IS_TEMPLATE false')
    ledger.change(application={"migrate_command": []})
    completed(ledger.restore())
    assert leftovers(ledger) == set()


def test_cancelled_in_the_middle_the_old_data_comes_back_before_the_run_ends(
    ledgers: Ledgers, sandbox: Sandbox, children: Children
) -> None:
    ledger = operate(ledgers, sandbox, "postgresql")
    spoilt = spoil(ledger)
    run = children.start(ledger, "restore_database", pause_when_called="flows.restoring:probe_login")
    wait_until(lambda: run.is_paused, 60)
    # As Prefect's runner does it.
    run.process.terminate()
    run.process.join(60)
    assert run.process.exitcode == -signal.SIGTERM
    assert ledger.database.hash_content() == spoilt
    assert is_healthy(ledger)
    assert leftovers(ledger) == set()
    assert events(ledger) == ["began", "failed"]
    trail = (ledger.folder / "state" / ledger.name / "trail.jsonl").read_text()
    assert "The run was cancelled" in trail
    assert "The data is as it was. The application runs and is healthy." in trail


# --- It is killed ---


STEPS: dict[Kind, tuple[str, ...]] = {
    "postgresql": (
        "began",
        "restoring",
        "stopping",
        "saving",
        "setting-aside",
        "moved-in",
        "starting",
        "proven",
        "closed",
    ),
    # What is not about the swap is the same for both.
    "mongodb": (
        "restoring",
        "setting-aside",
        "copied",
        "set-aside",
        "moving-in",
        "moved-in",
        "proven",
    ),
}


SOME: dict[Kind, tuple[str, ...]] = {
    "postgresql": ("restoring", "saving", "setting-aside", "moved-in", "proven"),
    "mongodb": ("setting-aside", "copied", "moving-in"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(600)
def test_killed_at_any_step_a_rerun_ends_with_exactly_the_old_or_exactly_the_new_data(
    ledgers: Ledgers, sandbox: Sandbox, children: Children, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind)
    wanted, saved = ledger.sets()[-1], ledger.database.hash_content()
    restore = {"service": "ledger", "wanted_set": wanted}
    for step in (STEPS if WHOLE else SOME)[kind]:
        spoilt = spoil(ledger)
        killed = children.start(ledger, "restore_database", parameters=restore, kill_after_step=step)
        assert killed.wait() is None, step
        if step == "setting-aside":
            completed(ledger.restore(wanted_set=wanted))
            assert ledger.database.hash_content() == saved, step
            # So there is no step at which none was killed.
            swap = {"set-aside", "moving-in", "copied"} if kind == "postgresql" else set()
            other = set(STEPS["postgresql"]) | set(STEPS["mongodb"]) - swap
            assert set(steps_of_the_newest_run(ledger)) == other
        else:
            # A run that does nothing of its own: only what the killed one left is put right.
            state = ledger.restore(wanted_set="nonsense")
            said = completed(state) if step == "proven" else failed(state)
            assert ("live and proven" in said) is (step == "proven"), step
            expected = saved if step in {"proven", "closed"} else spoilt
            assert ledger.database.hash_content() == expected, step
        assert is_healthy(ledger), step
        assert leftovers(ledger) == set(), step


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_told_to_drop_the_old_data_that_a_killed_run_put_aside(
    ledgers: Ledgers, sandbox: Sandbox, children: Children, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind)
    spoilt = spoil(ledger)
    killed = children.start(ledger, "restore_database", kill_after_step="moved-in")
    assert killed.wait() is None

    said = failed(ledger.restore(dry_run=True))
    assert "a restore-database is under way, or was killed and left something half done" in said
    for dry_run in (True, False):
        said = failed(ledger.recover(dry_run=dry_run))
        assert "restore-database is under way or was killed" in said
        assert "Leave it alone, and start restore-database again" in said

    failed(ledger.restore(wanted_set="nonsense"))
    assert ledger.database.hash_content() == spoilt
    assert leftovers(ledger) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_what_users_wrote_into_the_restored_data_of_a_killed_run_stays_where_the_application_works_with_it(
    ledgers: Ledgers, sandbox: Sandbox, children: Children, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind)
    saved, listing = ledger.database.hash_content(), ledger.sets()
    spoil(ledger)
    parameters = {"service": "ledger", "nothing_to_save": "ledger"}
    killed = children.start(ledger, "restore_database", parameters=parameters, kill_when_called=PROVING)
    assert killed.wait() is None
    assert is_healthy(ledger)
    assert ledger.database.hash_content() == saved

    written, serving = spoil(ledger), sandbox.pm2.processes(ledger.profile.application.process_name)
    # And is not thrown away by a second restore that nobody wants any more.
    said = completed(ledger.restore(nothing_to_save="ledger"))

    assert f"is set {listing[-1]}, live and proven" in said
    assert "start it again to restore once more" in said
    # Its users were served all the while.
    assert sandbox.pm2.processes(ledger.profile.application.process_name) == serving
    assert ledger.database.hash_content() == written
    assert ledger.sets() == listing
    assert is_healthy(ledger)
    assert leftovers(ledger) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_what_users_wrote_into_the_restored_data_of_a_killed_run_is_saved_before_the_old_data_returns(
    ledgers: Ledgers, sandbox: Sandbox, children: Children, kind: Kind
) -> None:
    ledger = operate(ledgers, sandbox, kind)
    spoilt, listing = spoil(ledger), set(ledger.sets())
    parameters = {"service": "ledger", "nothing_to_save": "ledger"}
    killed = children.start(ledger, "restore_database", parameters=parameters, kill_when_called=PROVING)
    assert killed.wait() is None

    written = spoil(ledger)
    ledger.change(application={"login": {"user": "nobody"}})
    failed(ledger.restore(wanted_set="nonsense"))

    assert ledger.database.hash_content() == spoilt
    assert is_healthy(ledger)
    assert leftovers(ledger) == set()
    (safety,) = set(ledger.sets()) - listing
    ledger.change(application={"login": {"user": "owner 7"}})
    completed(ledger.restore(wanted_set=safety, nothing_to_save="ledger"))
    assert ledger.database.hash_content() == written


def test_what_users_wrote_in_the_middle_of_a_killed_swap_is_saved_before_the_old_data_returns(
    ledgers: Ledgers, sandbox: Sandbox, children: Children
) -> None:
    ledger = operate(ledgers, sandbox, "mongodb")
    database = cast("MongodbDatabase", ledger.database)
    spoilt, listing = spoil(ledger), set(ledger.sets())
    parameters = {"service": "ledger", "nothing_to_save": "ledger"}
    killed = children.start(ledger, "restore_database", parameters=parameters, kill_after_step="set-aside")
    assert killed.wait() is None
    # As a host that was started anew does; the collections are elsewhere, so the application makes new ones.
    start_application.fn(ledger.profile)
    database.database["accounts"].insert_one({"_id": 1, "owner": "somebody new"})

    failed(ledger.restore(wanted_set="nonsense"))

    assert database.hash_content() == spoilt
    assert is_healthy(ledger)
    assert leftovers(ledger) == set()
    (safety,) = set(ledger.sets()) - listing
    content = ledger.manifest(safety).mongodb
    assert content is not None
    assert {found.collection: found.documents for found in content.collections}["accounts"] == 1


def test_old_data_that_cannot_be_dropped_does_not_hide_that_the_new_is_live_and_proven(
    ledgers: Ledgers, sandbox: Sandbox
) -> None:
    ledger = operate(ledgers, sandbox, "postgresql")
    database = cast("PostgresqlDatabase", ledger.database)
    saved, (wanted,) = database.hash_content(), ledger.sets()
    spoil(ledger)
    # PostgreSQL drops no template, under whatever name.
    database.execute(f'ALTER DATABASE "{database.name}" IS_TEMPLATE true')

    said = failed(ledger.restore(nothing_to_save="ledger"))
    (aside,) = leftovers(ledger) - {"restore-database"}
    assert f"is set {wanted} again, live and proven, but the old data in {aside} could not be dropped" in said
    assert "start restore-database again" in said
    assert is_healthy(ledger)

    written = spoil(ledger)
    assert written != saved
    assert aside in failed(ledger.restore())
    database.execute(f'ALTER DATABASE "{aside}" IS_TEMPLATE false')
    assert "live and proven" in completed(ledger.restore())
    assert database.hash_content() == written
    assert leftovers(ledger) == set()


def test_what_users_wrote_and_cannot_be_saved_is_not_undone_unless_somebody_says_so(
    ledgers: Ledgers, sandbox: Sandbox, children: Children
) -> None:
    ledger = ledgers.make("postgresql")
    database = cast("PostgresqlDatabase", ledger.database)
    with database.limited_role() as (role, url):
        ledger.write_env(url)
        ledger.operate(sandbox)
        ledger.must_back_up()
        spoil(ledger)
        database.execute(f"GRANT SELECT ON stray TO {role}")
        spoilt = database.hash_content()
        killed = children.start(ledger, "restore_database", kill_when_called=PROVING)
        assert killed.wait() is None

        written = spoil(ledger)
        ledger.change(application={"login": {"user": "nobody"}})
        said = failed(ledger.restore())
        assert "what was written into it since cannot be saved" in said
        assert "Nothing was put back, and the application is started again." in said
        assert "type ledger in nothing_to_save" in said
        assert database.hash_content() == written
        wait_until(lambda: is_healthy(ledger))

        failed(ledger.restore(wanted_set="nonsense", nothing_to_save="ledger"))
        assert database.hash_content() == spoilt
        assert is_healthy(ledger)
        assert leftovers(ledger) == set()


# --- Two at once ---


def test_two_at_once_do_not_meet(ledgers: Ledgers, sandbox: Sandbox, children: Children) -> None:
    ledger = operate(ledgers, sandbox, "postgresql")
    saved = ledger.database.hash_content()
    spoil(ledger)
    other = children.start(ledger, "restore_database", pause_when_called="tasks.postgresql_swap:swap_in")
    wait_until(lambda: other.is_paused, 40)
    threading.Timer(2, other.go_on).start()
    said = completed(ledger.restore())
    end = other.wait()
    assert end is not None
    assert end["type"] == "COMPLETED", end
    assert said
    assert ledger.database.hash_content() == saved
    assert leftovers(ledger) == set()
    assert events(ledger) == ["began", "finished", "began", "finished"]


def test_who_takes_the_repository_before_the_service_does_not_get_it_from_a_restore_that_will_need_both(
    ledgers: Ledgers, sandbox: Sandbox, children: Children
) -> None:
    ledger = operate(ledgers, sandbox, "postgresql")
    saved = ledger.database.hash_content()
    spoil(ledger)
    run = children.start(ledger, "restore_database", pause_when_called="flows.restoring:compare_asleep")
    wait_until(lambda: run.is_paused, 60)
    # As a rotation does: it would wait for the service with this lease in its hands.
    rotation = hold_lease(ledger.store, "ledger", "repository", purpose="rotate-jwt-secret", holder="other")
    with pytest.raises(LeaseHeldError, match="restore-database"), rotation:
        pass
    run.go_on()
    end = run.wait()
    assert end is not None
    assert end["type"] == "COMPLETED", end
    assert ledger.database.hash_content() == saved
