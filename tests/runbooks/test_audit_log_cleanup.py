"""audit-log-cleanup: what is old is in the archives exactly once and gone, and nothing else is touched."""

import gzip
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pytest
from bson.raw_bson import RawBSONDocument
from prefect.client.schemas.objects import State

from flows.audit_log_cleanup import audit_log_cleanup
from tasks.archive_entries import split_entries
from tasks.archives import ArchiveStore, open_archives
from tasks.history import Measurement, record_measurement
from tasks.journal import list_open_journals
from tasks.mongodb import RAW
from tests.proxy import Proxy
from tests.runbooks.conftest import (
    Children,
    Kind,
    Ledger,
    Ledgers,
    MongodbDatabase,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    failed,
)

RULE = {"name": "audit", "source": "audit", "time_field": "at", "older_than": "P365D", "batch": 10}
NOW = datetime.now(UTC).replace(microsecond=0)
OLD, YOUNG = 60, 30


class Health:
    """A health URL of a test's own: what it answers, and how late."""

    def __init__(self) -> None:
        self.late, self.status = 0.0, "OK"
        self.asked = 0
        self.on_asked: Callable[[], object] = lambda: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.on_asked()
                time.sleep(outer.late)
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps({"status": outer.status}).encode())

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/health"


@pytest.fixture
def health() -> Iterator[Health]:
    served = Health()
    yield served
    served.server.shutdown()
    served.server.server_close()


class Audited:
    """A small service with an audit log, sixty entries of which are older than a year."""

    def __init__(self, ledger: Ledger, health: Health) -> None:
        self.ledger = ledger
        self.clean_by(RULE)
        ledger.change(application={"health_url": health.url})
        self.fill()

    @property
    def archives(self) -> ArchiveStore:
        return open_archives(self.ledger.profile)

    def clean_by(self, *rules: dict[str, Any], **settings: Any) -> None:
        self.ledger.change(cleanup={"rules": list(rules), **settings})

    def fill(self) -> None:
        """Make the audit log as it was at first."""
        moments = [NOW - timedelta(days=366 + n) for n in range(OLD)]
        moments += [NOW - timedelta(days=10 * n) for n in range(YOUNG)]
        database = self.ledger.database
        if isinstance(database, MongodbDatabase):
            documents = [{"_id": n, "at": at, "body": f"{n:050}"} for n, at in enumerate(moments)]
            database.database["audit"].drop()
            database.database["audit"].create_index("at")
            database.database["audit"].insert_many(documents)
        elif isinstance(database, PostgresqlDatabase):
            database.execute(
                "DROP TABLE IF EXISTS audit;"
                "CREATE TABLE audit (id integer PRIMARY KEY, at timestamptz, body text);"
                "CREATE INDEX ON audit (at)"
            )
            with psycopg.connect(database.url) as connection:
                rows = [(n, at, f"{n}\t\\é") for n, at in enumerate(moments)]
                connection.cursor().executemany("INSERT INTO audit VALUES (%s, %s, %s)", rows)

    def entries(self) -> set[bytes]:
        """Return what is there, read without the flows' code."""
        database = self.ledger.database
        if isinstance(database, MongodbDatabase):
            found = database.database.with_options(RAW)["audit"].find({})
            return {bytes(document.raw) for document in found}
        with (
            psycopg.connect(database.url) as connection,
            connection.cursor().copy("COPY audit TO STDOUT") as rows,
        ):
            return {bytes(row).removesuffix(b"\n") for row in rows}

    def archived(self) -> Counter[bytes]:
        """Return how often each entry is in the archives that are published."""
        return Counter(
            entry
            for rule in self.ledger.profile.cleanup.rules
            for archive_id in self.archives.list_ids(rule.name)
            for part in self.archives.read_manifest(rule.name, archive_id).parts
            for entry in self.archives.read_part(part, self.ledger.kind)
        )

    def old(self) -> set[bytes]:
        """Return those of the entries that are older than the rule keeps, read without the flows' code."""
        return {entry for entry in self.entries() if self.identity(entry) < OLD}

    def identity(self, entry: bytes) -> int:
        if self.ledger.kind == "mongodb":
            return int(RawBSONDocument(entry, RAW)["_id"])
        return int(entry.partition(b"\t")[0])

    def clean(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", audit_log_cleanup(self.ledger.name, **parameters, return_state=True))

    def in_store(self) -> set[bytes]:
        """Return every entry of any part in the store, published or not, read without the flows' code."""
        keys = [key for key in self.ledger.listing() if "/archives/" in key and not key.endswith(".json")]
        raw = b"".join(gzip.decompress((self.ledger.root / key).read_bytes()) for key in keys)
        return set(split_entries(self.ledger.kind, raw, "the store"))

    def change(self, identity: int, body: str) -> None:
        """Change one entry, as the application may at any time."""
        database = self.ledger.database
        assert isinstance(database, MongodbDatabase)
        database.database["audit"].update_one({"_id": identity}, {"$set": {"body": body}})

    def must_have_archived(self, old: set[bytes], rest: set[bytes]) -> None:
        """Assert that these are archived exactly once and gone, and the rest is there as it was."""
        assert self.entries() == rest
        assert self.archived() == Counter(old)
        assert self.in_store() == old
        assert list_open_journals(self.ledger.profile) == ()


def audited(ledgers: Ledgers, health: Health, kind: Kind) -> Audited:
    return Audited(ledgers.make(kind), health)


@pytest.fixture
def log(ledgers: Ledgers, health: Health) -> Audited:
    """On MongoDB: what both databases have in common."""
    return audited(ledgers, health, "mongodb")


# --- It works ---


@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
def test_what_is_old_is_archived_and_gone_and_nothing_else_is_touched(
    ledgers: Ledgers, health: Health, kind: Kind
) -> None:
    log = audited(ledgers, health, kind)
    before, old = log.entries(), log.old()

    state = log.clean()

    (archive_id,) = log.archives.list_ids("audit")
    assert completed(state).startswith("ledger: 60 entries deleted by audit, ")
    assert archive_id in completed(state)
    log.must_have_archived(old, before - old)
    shown = artifacts_of(state)
    assert "about 60 entries" in shown["audit-log-cleanup-plan-ledger"]
    assert archive_id in shown["audit-log-cleanup-plan-ledger"]
    assert "| Month | Entries | Raw |" in shown["audit-log-cleanup-expired-ledger"]
    assert "data:image/svg" in shown["audit-log-cleanup-freed-ledger"]
    assert "archived" in shown["audit-log-cleanup-done-ledger"]
    assert completed(log.clean()) == "ledger: Nothing was deleted."
    assert log.archived() == Counter(old)


def test_a_rule_without_an_archive_may_leave_nothing(log: Audited) -> None:
    log.clean_by(RULE | {"older_than": "PT0S", "archive": False, "may_empty": True})
    state = log.clean()
    assert completed(state) == "ledger: 90 entries deleted by audit, without an archive."
    assert "It cannot be undone" in artifacts_of(state)["audit-log-cleanup-plan-ledger"]
    log.must_have_archived(set(), set())


def test_an_entry_that_changes_under_our_hands_is_archived_as_it_was_when_it_went(
    log: Audited, health: Health
) -> None:
    before, old = log.entries(), log.old()
    health.on_asked = lambda: log.change(30, "changed") if health.asked == 2 else None
    (was,) = {entry for entry in old if log.identity(entry) == 30}
    completed(log.clean())
    (now,) = set(log.archived()) - old
    assert b"changed" in now
    log.must_have_archived(old - {was} | {now}, before - old)


def test_a_dry_run_shows_the_plan_and_changes_nothing(log: Audited) -> None:
    before, listing = log.entries(), log.ledger.listing()
    state = log.clean(dry_run=True)
    assert completed(state) == "ledger: dry run, the plan is shown and nothing was done."
    assert "about 60 entries" in artifacts_of(state)["audit-log-cleanup-plan-ledger"]
    assert log.entries() == before
    assert log.ledger.listing() == listing
    assert [path.name for path in (log.ledger.folder / "state" / "ledger").iterdir()] == ["journals"]


# --- It is refused ---


def test_a_rule_that_is_refused_keeps_no_other_from_its_work(log: Audited) -> None:
    before, old = log.entries(), log.old()
    database = cast("MongodbDatabase", log.ledger.database).database
    database["texts"].insert_many([{"_id": 1, "at": "2019-01-01"}, {"_id": 2, "at": NOW}])
    held = {entry for entry in old if log.identity(entry) < 5}
    log.clean_by(
        RULE | {"name": "typo", "source": "audti"},
        RULE | {"name": "field", "time_field": "att"},
        RULE | {"name": "texts", "source": "texts"},
        RULE | {"name": "all", "older_than": "PT0S"},
        RULE | {"legal_hold": {"_id": {"$lt": 5}}},
    )

    state = log.clean()

    said = failed(state)
    assert said.startswith("ledger: 55 entries deleted by audit, ")
    assert "typo: there is no audti in the database. Did you mean audit?" in said
    assert "field: no entry of audit has a time in att: correct time_field." in said
    assert "texts: 1 entry of texts with something else than a time in at, as _id 1," in said
    assert "all: the newest entry of audit is of" in said
    log.must_have_archived(old - held, before - old | held)
    assert database["texts"].count_documents({}) == 2
    assert "5 expired and are held" in artifacts_of(state)["audit-log-cleanup-expired-ledger"]


def test_a_clock_that_went_back_since_the_last_run_is_refused(log: Audited) -> None:
    before = log.entries()
    values = {"entries": 1.0, "storage_bytes": 1.0, "freed": 0.0}
    tomorrow = Measurement(at=NOW + timedelta(days=1), values=values)
    record_measurement(log.ledger.profile, "cleanup-audit", tomorrow)
    said = failed(log.clean())
    assert "the clock is wrong, or was then" in said
    assert said.endswith("Nothing was changed.")
    assert log.entries() == before


# --- The application suffers, or it is late ---


def test_it_waits_while_the_application_is_slow(log: Audited, health: Health) -> None:
    before, old = log.entries(), log.old()
    log.clean_by(RULE, pause_above_latency="PT0.8S")

    def recover() -> None:
        health.late = 0.9 if health.asked == 2 else 0.0

    health.on_asked = recover
    completed(log.clean())
    # Six batches, and a look at which it was slow.
    assert health.asked >= 7
    log.must_have_archived(old, before - old)


def test_an_application_that_does_not_recover_ends_the_run_with_what_was_deleted_archived(
    log: Audited, health: Health
) -> None:
    before, old = log.entries(), log.old()
    log.clean_by(RULE, longest_pause="PT0.3S")

    def fall_ill() -> None:
        health.status = "OK" if health.asked <= 2 else "DOWN"

    health.on_asked = fall_ill
    said = failed(log.clean())
    assert "cleanup waited 0.3 s for the application to recover" in said
    assert "its status is 'DOWN'" in said
    assert "Until then: 20 entries deleted by audit" in said
    gone = before - log.entries()
    assert len(gone) == 20
    log.must_have_archived(gone, before - gone)

    health.on_asked, health.status = lambda: None, "OK"
    completed(log.clean())
    assert log.archived() == Counter(old)


def test_at_its_hour_it_ends_with_the_part_under_way_and_says_what_is_left(
    log: Audited, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old = log.entries(), log.old()
    monkeypatch.setattr("tasks.cleanup_work._MOST_ENTRIES", 20)
    monkeypatch.setattr("tasks.cleanup_work.has_passed", lambda deadline: deadline and health.asked >= 3)
    log.clean_by(RULE, stop_at="05:00")
    said = completed(log.clean())
    assert "40 entries deleted by audit" in said
    assert said.endswith("It was time to stop: about 20 entries are left for the next run.")
    gone = before - log.entries()
    assert gone < old
    log.must_have_archived(gone, before - gone)


def test_a_plan_that_is_agreed_to_after_its_hour_is_applied_all_the_same(
    log: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old = log.entries(), log.old()
    hour = datetime.now(log.ledger.profile.zone).replace(microsecond=0) + timedelta(seconds=4)
    log.clean_by(RULE, stop_at=f"{hour:%H:%M:%S}")

    def answer_late(*_: Any) -> None:
        time.sleep(max(0.0, (hour - datetime.now(UTC)).total_seconds()))

    monkeypatch.setattr("flows.audit_log_cleanup.approve", answer_late)
    assert completed(log.clean()).startswith("ledger: 60 entries deleted by audit, ")
    log.must_have_archived(old, before - old)


# --- Something fails ---


@pytest.mark.usefixtures("quick_retries")
def test_nothing_is_deleted_when_the_store_is_down(ledgers: Ledgers, health: Health) -> None:
    log = Audited(ledgers.make("mongodb", "s3"), health)
    before = log.entries()
    log.ledger.change(backup={"destination": {"endpoint_url": "http://127.0.0.1:9"}})
    said = failed(log.clean())
    assert "127.0.0.1:9" in said
    assert said.endswith("Nothing was changed.")
    assert log.entries() == before
    assert list_open_journals(log.ledger.profile) == ()


def test_a_store_that_is_full_keeps_what_was_deleted(
    log: Audited, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.cleanup_work._MOST_ENTRIES", 20)
    for n in range(OLD):
        log.change(n, os.urandom(900).hex())
    before, old = log.entries(), log.old()
    log.ledger.change(backup={"destination": {"url": small_disk.as_uri()}})
    said = failed(log.clean())
    assert "no room" in said or "no space" in said
    gone = before - log.entries()
    assert 0 < len(gone) < OLD

    log.ledger.change(backup={"destination": {"url": log.ledger.root.as_uri()}})
    subprocess.run(["cp", "-r", f"{small_disk}/.", str(log.ledger.root)], check=True)
    completed(log.clean())
    log.must_have_archived(old, before - old)


def test_rows_that_a_trigger_keeps_are_named_and_not_in_the_archive(ledgers: Ledgers, health: Health) -> None:
    log = audited(ledgers, health, "postgresql")
    before, old = log.entries(), log.old()
    kept = {entry for entry in old if log.identity(entry) in {7, 8}}
    cast("PostgresqlDatabase", log.ledger.database).execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep BEFORE DELETE ON audit FOR EACH ROW WHEN (OLD.id IN (7, 8))"
        "EXECUTE FUNCTION keep()"
    )
    ended = log.clean()
    said = failed(ended)
    assert any("has the trigger keep for DELETE" in shown for shown in artifacts_of(ended).values())
    assert "2 entries of audit were not deleted, although they are there and nobody changed them" in said
    log.must_have_archived(old - kept, before - old | kept)


def test_a_row_that_another_table_needs_ends_the_run_and_leaves_nothing_half_done(
    ledgers: Ledgers, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.cleanup_work._MOST_ENTRIES", 25)
    log = audited(ledgers, health, "postgresql")
    cast("PostgresqlDatabase", log.ledger.database).execute(
        "CREATE TABLE notes (about integer REFERENCES audit ON DELETE RESTRICT);INSERT INTO notes VALUES (20)"
    )
    before, old = log.entries(), log.old()
    said = failed(log.clean())
    assert "public.notes still refers to rows of audit" in said
    gone = before - log.entries()
    assert 0 < len(gone) < OLD
    log.must_have_archived(gone, before - gone)
    # What the sentence advises is possible: nothing that was left keeps the next run from its work.
    cast("PostgresqlDatabase", log.ledger.database).execute("DELETE FROM notes")
    completed(log.clean())
    log.must_have_archived(old, before - old)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("lost", ["the order", "the answer"])
def test_a_server_that_goes_away_in_the_middle_of_a_deletion_loses_nothing_and_doubles_nothing(
    log: Audited, proxies: Callable[..., Proxy], lost: str
) -> None:
    before, old = log.entries(), log.old()
    ordered: list[bytes] = []
    answers: list[bytes] = []

    def cut(data: bytes, from_client: bool) -> bool:
        if from_client and b"commitTransaction" in data:
            ordered.append(data)
            return lost == "the answer" or (lost == "the order" and len(ordered) > 1)
        if lost == "the answer" and not from_client and ordered and not answers:
            answers.append(data)
            return False
        return True

    url = log.ledger.database.url
    proxy = proxies(urlsplit(url).port, cut)
    log.ledger.write_env(url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/"))
    completed(log.clean())
    assert len(ordered) > 1
    log.must_have_archived(old, before - old)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("word", [b"commitTransaction", b"find"])
def test_a_primary_that_steps_down_in_the_middle_is_waited_for_and_nothing_is_lost_or_doubled(
    log: Audited, proxies: Callable[..., Proxy], word: bytes
) -> None:
    before, old = log.entries(), log.old()
    database = cast("MongodbDatabase", log.ledger.database)
    seen: list[bytes] = []

    def step_down(data: bytes, from_client: bool) -> bool:
        if from_client and word in data and (b"audit" in data or word == b"commitTransaction"):
            seen.append(data)
            if len(seen) == 3:
                database.database.client.admin.command({"replSetStepDown": 2, "force": True})
        return True

    url = database.url
    proxy = proxies(urlsplit(url).port, step_down)
    log.ledger.write_env(url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/"))
    completed(log.clean())
    assert len(seen) >= 3
    log.must_have_archived(old, before - old)


@pytest.mark.usefixtures("quick_retries")
def test_a_row_that_stays_locked_ends_the_run_and_leaves_nothing_half_done(
    ledgers: Ledgers, health: Health
) -> None:
    log = audited(ledgers, health, "postgresql")
    before, old = log.entries(), log.old()
    with psycopg.connect(log.ledger.database.url) as application:
        application.execute("SELECT FROM audit WHERE id = 45 FOR UPDATE")
        said = failed(log.clean())
    assert "the application holds a lock on audit, or on rows of it" in said
    assert "Until then: 10 entries deleted by audit" in said
    gone = before - log.entries()
    log.must_have_archived(gone, before - gone)
    completed(log.clean())
    log.must_have_archived(old, before - old)


# --- It is killed ---

SMALL = {"tasks.cleanup_work:_MOST_ENTRIES": 10}
BATCHED = RULE | {"batch": 5}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "orders"),
    [
        (
            "mongodb",
            [
                *({"kill_after_journal": line} for line in (2, 3, 4, 9)),
                # A part is written and not yet in the journal.
                {"kill_when_called": "tasks.archives:split_entries"},
                {"kill_after_step": "published"},
                {"kill_when_called": "flows.cleaning:publish_done"},
            ],
        ),
        (
            "postgresql",
            [*({"kill_after_journal": line} for line in (2, 3)), {"kill_after_step": "published"}],
        ),
    ],
)
def test_killed_again_and_again_everything_old_is_archived_exactly_once(
    ledgers: Ledgers, health: Health, children: Children, kind: Kind, orders: list[dict[str, Any]]
) -> None:
    log = audited(ledgers, health, kind)
    log.clean_by(BATCHED)
    before, old = log.entries(), log.old()
    for order in orders:
        killed = children.start(log.ledger, "audit_log_cleanup", set=SMALL, **order)
        assert killed.wait() is None, order
        assert log.entries() >= before - old
        assert log.entries() | log.in_store() == before, order
        assert failed(log.clean(dry_run=True)).endswith("it puts that right first.")
    completed(log.clean())
    log.must_have_archived(old, before - old)


def test_what_is_held_only_since_a_run_was_killed_stays_and_is_in_no_archive(
    log: Audited, children: Children
) -> None:
    log.clean_by(BATCHED)
    before, old = log.entries(), log.old()
    # The oldest ten are archived, and five of them gone.
    assert children.start(log.ledger, "audit_log_cleanup", set=SMALL, kill_after_journal=3).wait() is None
    held = {entry for entry in old & log.entries() if log.identity(entry) in {3, OLD - 8}}
    log.clean_by(BATCHED | {"legal_hold": {"_id": {"$in": [3, OLD - 8]}}})
    completed(log.clean())
    assert len(held) == 2
    log.must_have_archived(old - held, before - old | held)


@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
def test_what_a_killed_run_deleted_stays_archived_though_the_next_one_may_delete_nothing(
    ledgers: Ledgers, health: Health, children: Children, kind: Kind
) -> None:
    log = audited(ledgers, health, kind)
    log.clean_by(BATCHED)
    before, old = log.entries(), log.old()
    # The first part is gone, in two batches, and not closed.
    assert children.start(log.ledger, "audit_log_cleanup", set=SMALL, kill_after_journal=4).wait() is None
    assert len(before - log.entries()) == 10
    log.clean_by(BATCHED | {"legal_hold": "no such condition"})

    assert "hold of the rule audit" in failed(log.clean())

    assert log.entries() | log.in_store() == before
    log.clean_by(BATCHED)
    completed(log.clean())
    log.must_have_archived(old, before - old)


def test_while_nobody_can_say_what_a_killed_run_deleted_its_archive_stays_open(
    ledgers: Ledgers, health: Health, children: Children
) -> None:
    log = audited(ledgers, health, "postgresql")
    log.clean_by(BATCHED)
    before, old = log.entries(), log.old()
    assert children.start(log.ledger, "audit_log_cleanup", set=SMALL, kill_after_journal=3).wait() is None
    database = cast("PostgresqlDatabase", log.ledger.database)
    database.execute("ALTER TABLE audit RENAME TO audit_of_old")

    assert "There is no table audit" in failed(log.clean())

    assert list_open_journals(log.ledger.profile) == ("audit-log-cleanup",)
    database.execute("ALTER TABLE audit_of_old RENAME TO audit")
    completed(log.clean())
    log.must_have_archived(old, before - old)


@pytest.mark.parametrize(
    "killed",
    [
        # Ten are gone, and the journal says so.
        {"kill_after_journal": 4},
        # Five are gone, and the journal has no word of it.
        {"kill_when_called": "tasks.cleanup_deleting:_spans"},
    ],
)
def test_an_entry_whose_identity_is_used_again_after_a_kill_stays_in_the_archive_as_it_was(
    log: Audited, children: Children, killed: dict[str, Any]
) -> None:
    log.clean_by(BATCHED)
    before, old = log.entries(), log.old()
    assert children.start(log.ledger, "audit_log_cleanup", set=SMALL, **killed).wait() is None
    again = max(log.identity(entry) for entry in before - log.entries())
    database = cast("MongodbDatabase", log.ledger.database).database
    database["audit"].insert_one({"_id": again, "at": NOW, "body": "of another user"})
    (new,) = log.entries() - before

    completed(log.clean())

    log.must_have_archived(old, before - old | {new})
