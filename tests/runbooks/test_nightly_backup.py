"""The nightly backup as an operator meets it: on real servers, and on what goes wrong with them at night."""

import gzip
import io
import json
import logging
import os
import random
import re
import shlex
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import bson
import psycopg
import pytest
import zstandard
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import CronSchedule
from prefect.flow_engine import run_flow
from pymongo import MongoClient
from pymongo.database import Database

from deployments.sandbox.stack import Sandbox
from flows.decisions.retention import plan_retention
from flows.nightly_backup import nightly_backup
from tasks.leases import hold_lease
from tests.runbooks.conftest import (
    KINDS,
    Children,
    Ledger,
    Ledgers,
    Proxy,
    artifacts_of,
    completed,
    failed,
    wait_until,
)

MakeProxy = Callable[[int, Callable[[bytes, bool], bool]], Proxy]


# --- A good night ---


def test_a_night_is_saved_verified_and_told_in_one_sentence(ledger: Ledger) -> None:
    state = ledger.back_up()

    part, entries = (
        ("5 collections", "452 documents") if ledger.kind == "mongodb" else ("2 tables", "450 rows")
    )
    assert re.fullmatch(
        rf"ledger: {part} with {entries} \([\d.]+ kB, [\d.]+ kB stored\) saved and verified in [\d.]+ s; "
        r"0 old sets deleted, 1 kept\.",
        completed(state),
    )
    (set_id,) = ledger.sets()
    manifest = ledger.manifest(set_id)
    assert ledger.find_damage(set_id) == []
    folder = f"ledger/sets/{set_id}/"
    saved = {
        key.removeprefix(folder): size for key, size in ledger.listing().items() if key.startswith(folder)
    }
    assert saved.pop("manifest.json") > 0
    assert saved == {stored.key: stored.bytes for stored in manifest.objects}
    (verdict,) = ledger.verdicts(set_id)
    assert (verdict.kind, verdict.passed, verdict.findings) == ("reread", True, ())
    assert set(artifacts_of(state)) == {
        f"nightly-backup-{what}-ledger" for what in ("plan", "progress", "saved", "retention", "history")
    }


def test_every_night_makes_a_set_of_its_own(ledger: Ledger) -> None:
    first = ledger.must_back_up()
    ledger.database.grow(10)
    second = ledger.must_back_up()
    assert set(ledger.sets()) == {first, second}
    assert ledger.manifest(second).entries == ledger.manifest(first).entries + 10
    assert ledger.manifest(second).parts == ledger.manifest(first).parts + 1
    assert ledger.find_damage(first) == []


def test_the_applications_files_are_saved_without_what_is_excluded(ledger: Ledger) -> None:
    manifest = ledger.manifest(ledger.must_back_up())
    archive = ledger.read(manifest.set_id, manifest.application.archive)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert {member.name for member in members} == {".env", "link", "src", "src/größe.js"}
        file = members.extractfile("src/größe.js")
        assert file is not None
        assert file.read() == b"x" * 700


def test_the_manifest_says_of_which_moment_the_set_is(ledger: Ledger) -> None:
    manifest = ledger.manifest(ledger.must_back_up())
    method = {"mongodb": "transaction", "postgresql": "exported-snapshot"}[ledger.kind]
    assert manifest.consistency.method == method
    assert manifest.consistency.moment is not None


def test_the_manifest_is_json_that_needs_no_software_of_ours(ledger: Ledger) -> None:
    set_id = ledger.must_back_up()
    manifest = json.loads(ledger.store.read(f"ledger/sets/{set_id}/manifest.json"))
    assert manifest["format_version"] == 1
    assert manifest["set_id"] == set_id


def test_a_dry_run_shows_the_plan_and_changes_nothing(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    kept = ledger.must_back_up()
    old = ledger.publish_old_set(kept, timedelta(days=20), now=now)
    before = ledger.listing()

    state = ledger.back_up(dry_run=True)

    assert completed(state) == "ledger: dry run, the plan is shown and nothing was done."
    assert ledger.listing() == before
    artifacts = artifacts_of(state)
    assert set(artifacts) == {"nightly-backup-plan-ledger"}
    (plan,) = artifacts.values()
    assert "accounts" in plan
    assert "entries" in plan
    assert decisions_in(plan) == {kept: "keep", old: "delete"}


def test_a_dry_run_does_not_wait_for_a_backup_under_way(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    with hold_lease(ledger.store, "ledger", "repository", purpose="nightly backup", holder="somebody"):
        completed(ledger.back_up(dry_run=True))


# --- What cannot be backed up is refused in one sentence ---


def forget_env(ledger: Ledger, sandbox: Sandbox) -> None:
    (ledger.application / ".env").unlink()


def forget_variable(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env("")


def mistype_profile(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.change(backup={"retension": {"keep_days": 3}})


def mistake_password(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(re.sub(r":[^:@/]+@", ":Wr0ng-p4ssword@", ledger.database.url))


def forget_escaping(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(re.sub(r":[^:@/]+@", ":Wr0ng-p4ssword/with?an@at%zz@", ledger.database.url))


def mistake_port(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(re.sub(r":\d+/", ":9/", ledger.database.url))


def mistake_database(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(ledger.database.url.replace(f"/{ledger.database.name}", "/postgres"))


def mistake_store(ledger: Ledger, sandbox: Sandbox) -> None:
    s3_destination(ledger, sandbox, endpoint_url="http://127.0.0.1:9")


def mistake_bucket(ledger: Ledger, sandbox: Sandbox) -> None:
    s3_destination(ledger, sandbox, url="s3://no-such-bucket/x")


def mistake_key(ledger: Ledger, sandbox: Sandbox) -> None:
    wrong = ledger.folder / "wrong-key"
    wrong.write_text("Wr0ng-p4ssword")
    wrong.chmod(0o600)
    s3_destination(ledger, sandbox, secret_access_key=f"file:{wrong}")


def open_key_to_others(ledger: Ledger, sandbox: Sandbox) -> None:
    mistake_key(ledger, sandbox)
    (ledger.folder / "wrong-key").chmod(0o644)


def unmount_disk(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.change(backup={"destination": {"url": (ledger.folder / "not" / "mounted").as_uri()}})


def move_application(ledger: Ledger, sandbox: Sandbox) -> None:
    env = ledger.application / ".env"
    ledger.change(application={"directory": str(ledger.folder / "moved"), "env_file": str(env)})


def s3_destination(ledger: Ledger, sandbox: Sandbox, **changed: str) -> None:
    at, secrets = sandbox.endpoints, sandbox.vault.folder
    right = {
        "url": f"s3://{at.s3_bucket}/refused",
        "endpoint_url": at.s3_endpoint,
        "access_key_id": f"file:{secrets / 's3-access-key-id'}",
        "secret_access_key": f"file:{secrets / 's3-secret-access-key'}",
    }
    ledger.change(backup={"destination": {**right, **changed}})


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (forget_env, r"the env file .*\.env does not exist"),
        (forget_variable, r"DATABASE_URL is not set in .*\.env"),
        (mistype_profile, r"ledger\.yaml is wrong at line \d+, backup\.retension: there is no such field"),
        (mistake_password, r"refuses the (user or the )?password"),
        (forget_escaping, r"URL is malformed: expected (mongodb|postgresql)://"),
        (mistake_port, r"127\.0\.0\.1:9 does not answer"),
        (mistake_database, r"has nothing to save: look whether DATABASE_URL"),
        (mistake_store, r"s3://.* \(127\.0\.0\.1:9\).*no answer: check the network"),
        (mistake_bucket, r"no such bucket"),
        (mistake_key, r"the access key is not accepted"),
        (open_key_to_others, r"open to others: run chmod 600"),
        (unmount_disk, r"mount its disk"),
        (move_application, r"directory .*moved does not exist"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_backed_up_is_refused_and_leaves_all_sets_as_they_were(
    established: Ledger,
    sandbox: Sandbox,
    quick_retries: None,
    break_it: Callable[[Ledger, Sandbox], None],
    sentence: str,
) -> None:
    settings, sets, before = established.settings, established.sets(), settled(established)
    try:
        break_it(established, sandbox)
        message = failed(established.back_up())
    finally:
        established.settings = settings
        established.change()
        established.write_env(established.database.url)

    assert re.search(sentence, message), message
    assert "Wr0ng" not in message
    # What was begun before it was refused is no backup; a later run collects it.
    assert before <= settled(established)
    assert established.sets() == sets
    for set_id in sets:
        assert established.find_damage(set_id) == []


def settled(ledger: Ledger) -> set[str]:
    """Return the keys that are not of a lease."""
    return {key for key in ledger.listing() if "/leases/" not in key}


def test_an_unknown_service_is_refused_with_the_names_of_the_known(ledgers: Ledgers) -> None:
    ledgers.make("postgresql")
    message = failed(nightly_backup("legder", return_state=True))
    assert re.fullmatch(r"There is no service 'legder' in .*; known services: ledger\.", message)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("", r"pg_dump is not in "),
        ('case "$1" in --version) echo pg_dump 18;; esac', r"(the dump|archive|pg_restore)"),
        ('{real} "$@" | head -c 3000', r"(the dump|archive|pg_restore)"),
        ("echo 'pg_dump: error: aborting because of server version mismatch' >&2; exit 1", r"is older than"),
        ('{real} "$@"; echo "pg_dump: error: out of memory" >&2; exit 1', r"out of memory"),
    ],
    ids=["missing", "silent", "cut short", "too old", "failing at its end"],
)
def test_a_pg_dump_that_does_not_do_its_work_publishes_nothing(
    ledgers: Ledgers, sandbox: Sandbox, script: str, sentence: str
) -> None:
    ledger = ledgers.make("postgresql")
    programs, real = ledger.folder / "bin", sandbox.endpoints.pg_bin
    programs.mkdir()
    (programs / "pg_restore").symlink_to(real / "pg_restore")
    if script:
        pg_dump = programs / "pg_dump"
        pg_dump.write_text(f"#!/bin/sh\n{script.replace('{real}', shlex.quote(str(real / 'pg_dump')))}\n")
        pg_dump.chmod(0o755)
    ledger.change(database={"client_directory": str(programs)})

    assert re.search(sentence, failed(ledger.back_up()))

    assert ledger.sets() == ()


# --- Somebody writes while the backup runs ---


def test_what_is_written_while_the_backup_runs_does_not_tear_the_set(
    ledger: Ledger, sandbox: Sandbox
) -> None:
    """The writer adds to and takes from two books, one after the other or in one transaction.

    At every moment they agree; read one after the other, as of two moments, they would not: between them the
    backup reads some megabytes.
    """
    ledger.change(backup={"width": 1})
    ledger.database.grow(1500, 2000)
    write = write_documents if ledger.kind == "mongodb" else write_rows
    with write(ledger.database.url) as written:
        wait_until(lambda: written() > 5)
        before = written()
        set_id = ledger.must_back_up()
        assert written() - before > 20

    left, right = read_books(ledger, set_id, sandbox.endpoints.pg_bin)

    if ledger.kind == "postgresql":
        assert left == right
    assert right <= left
    assert len(left - right) <= 1
    assert len(right) > 100
    completed(ledger.drill())


@contextmanager
def writing(write: Callable[[int], None]) -> Iterator[Callable[[], int]]:
    """Call ``write`` with rising numbers from a thread; yield what tells how often it was called."""
    done, stop, numbers = [0], threading.Event(), count(1000)

    def loop() -> None:
        while not stop.wait(0.001):
            write(next(numbers))
            done[0] += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield lambda: done[0]
    finally:
        stop.set()
        thread.join()


@contextmanager
def write_documents(url: str) -> Iterator[Callable[[], int]]:
    client: MongoClient[dict[str, Any]]
    with MongoClient(url, authSource="admin") as client:
        database: Database[dict[str, Any]] = client.get_default_database()
        # The left book is the largest collection and is read first, the right one last.
        database["left"].insert_many([{"_id": n, "body": os.urandom(8000)} for n in range(500)])
        database["right"].insert_many([{"_id": n} for n in range(500)])

        def write(number: int) -> None:
            database["left"].insert_one({"_id": number})
            database["right"].insert_one({"_id": number})
            database["right"].delete_one({"_id": number - 1000})
            database["left"].delete_one({"_id": number - 1000})

        with writing(write) as written:
            yield written


@contextmanager
def write_rows(url: str) -> Iterator[Callable[[], int]]:
    with psycopg.connect(url) as connection:
        # pg_dump reads tables by name, and the largest last: "grown" is between the two.
        connection.execute("CREATE TABLE a_left AS SELECT n AS id FROM generate_series(0, 499) n")
        connection.execute("CREATE TABLE z_right AS SELECT n AS id FROM generate_series(0, 499) n")
        connection.commit()

        def write(number: int) -> None:
            for table in ("a_left", "z_right"):
                connection.execute(f"INSERT INTO {table} VALUES ({number})".encode())
                connection.execute(f"DELETE FROM {table} WHERE id = {number - 1000}".encode())
            connection.commit()

        with writing(write) as written:
            yield written


def read_books(ledger: Ledger, set_id: str, pg_bin: Path) -> tuple[set[int], set[int]]:
    """Read both books out of the set: with BSON's own decoder, or PostgreSQL's own pg_restore."""
    manifest = ledger.manifest(set_id)
    if manifest.mongodb is not None:
        data = {content.collection: content.data for content in manifest.mongodb.collections}
        books = []
        for name in ("left", "right"):
            stored = data[name]
            assert stored is not None
            books.append(
                {
                    document["_id"]
                    for document in bson.decode_all(gzip.decompress(ledger.read(set_id, stored)))
                }
            )
        return books[0], books[1]
    assert manifest.postgresql is not None
    dump = (
        zstandard.ZstdDecompressor().decompressobj().decompress(ledger.read(set_id, manifest.postgresql.dump))
    )
    tables = [
        subprocess.run(
            [pg_bin / "pg_restore", "--data-only", f"--table={table}", "--file=-"],
            input=dump,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for table in ("a_left", "z_right")
    ]
    left, right = ({int(line) for line in re.findall(r"^\d+$", text, re.MULTILINE)} for text in tables)
    return left, right


# --- Something breaks in the middle ---


def test_a_store_that_goes_away_in_mid_upload_fails_the_night_and_the_next_one_completes(
    ledgers: Ledgers, sandbox: Sandbox, children: Children, proxies: MakeProxy
) -> None:
    for kind in KINDS:
        ledger = ledgers.make(kind, "s3")
        first = ledger.must_back_up()
        away = threading.Event()
        victim = b"entries.bson.gz" if kind == "mongodb" else b"database.dump.zst"

        def forward(
            data: bytes, from_client: bool, away: threading.Event = away, victim: bytes = victim
        ) -> bool:
            if from_client and data.startswith(b"PUT") and victim in data:
                away.set()
            return not away.is_set()

        proxy = proxies(sandbox.ports.s3, forward)
        direct = ledger.settings["backup"]["destination"]["endpoint_url"]
        ledger.change(backup={"destination": {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}})

        end = children.start(ledger, retry_seconds=0.1).wait()

        assert end is not None
        assert end["type"] == "FAILED", end
        assert re.search(r"(no answer|the connection was lost)", end["message"]), end["message"]
        ledger.change(backup={"destination": {"endpoint_url": direct}})
        assert ledger.sets() == (first,)
        assert ledger.find_damage(first) == []
        # The failed run could not give its lease back; it is dead, so nobody waits for it.
        began = time.monotonic()
        ledger.must_back_up()
        assert time.monotonic() - began < 10


def test_a_server_that_is_killed_in_mid_dump_fails_the_night_and_the_next_one_completes(
    ledgers: Ledgers,
    sandbox: Sandbox,
    proxies: MakeProxy,
    quick_retries: None,
) -> None:
    for kind in KINDS:
        server: Any = {"mongodb": sandbox.mongodb, "postgresql": sandbox.postgresql}[kind]
        ledger = ledgers.make(kind)
        ledger.database.grow(500, 8000)
        first = ledger.must_back_up()
        seen = [0]

        def forward(data: bytes, from_client: bool, seen: list[int] = seen, server: Any = server) -> bool:
            seen[0] += 0 if from_client else len(data)
            if seen[0] > 1_000_000 and server.is_running():
                server.kill()
            # What the server had sent already is lost with it.
            return seen[0] <= 1_000_000

        proxy = proxies(server.port, forward)
        direct = ledger.database.url
        ledger.write_env(direct.replace(f":{server.port}/", f":{proxy.port}/"))
        try:
            message = failed(ledger.back_up())
        finally:
            server.start()

        assert re.search(r"(does not answer|lost|closed the connection)", message), message
        assert seen[0] > 1_000_000, "it was not killed"
        assert ledger.sets() == (first,)
        assert ledger.find_damage(first) == []
        ledger.write_env(direct)
        ledger.must_back_up()


def test_a_full_disk_fails_the_night_and_harms_no_set(ledger: Ledger, small_disk: Path) -> None:
    ledger.change(backup={"destination": {"url": (small_disk / "repository").as_uri()}})
    first = ledger.must_back_up()
    ledger.database.grow(100, 4000)

    assert "there is no room left: free some" in failed(ledger.back_up())

    assert ledger.sets() == (first,)
    assert ledger.find_damage(first) == []
    assert not list(small_disk.rglob("*.unfinished"))


def test_a_retry_repeats_only_what_failed(
    ledgers: Ledgers, sandbox: Sandbox, proxies: MakeProxy, quick_retries: None
) -> None:
    """One object's upload is cut so often that botocore's own three attempts give up, and then no more."""
    ledger = ledgers.make("mongodb", "s3")
    puts: list[str] = []

    def forward(data: bytes, from_client: bool) -> bool:
        if from_client and (found := re.match(rb"PUT /\S+/sets/[^/]+/(\S+)", data)):
            puts.append(found[1].decode())
            return not (found[1].endswith(b"/entries.bson.gz") and puts.count(puts[-1]) <= 3)
        return True

    proxy = proxies(sandbox.ports.s3, forward)
    ledger.change(backup={"destination": {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}})
    manifest = ledger.manifest(ledger.must_back_up())

    # Twice: a collection's task begins with its description.
    again = {key for key in puts if puts.count(key) > 1}
    assert {key.rpartition("/")[2] for key in again} == {"entries.bson.gz", "entries.metadata.json.gz"}
    assert sum(key.endswith("/entries.bson.gz") for key in puts) == 4
    assert len(set(puts)) == len(manifest.objects) + 1
    assert ledger.find_damage(manifest.set_id) == []


# --- kill -9 ---


def check_after_kill(ledger: Ledger, known: set[str], old: set[str]) -> None:
    """Whatever the moment: every set is whole, and none went before a newer one was verified."""
    there = set(ledger.sets())
    assert [damage for set_id in there for damage in ledger.find_damage(set_id)] == []
    missing = known - there
    assert missing <= old
    new = there - known
    assert len(new) <= 1
    if missing:
        assert [verdict.passed for set_id in new for verdict in ledger.verdicts(set_id)] == [True]


def sweep(ledger: Ledger, children: Children, moments: Iterator[int], mode: str = "kill_before") -> list[int]:
    """Kill a run at each moment and let the next one run, until one reaches its end; return the moments."""
    like = ledger.must_back_up()
    now, killed = datetime.now(UTC), []
    for moment in moments:
        old = {ledger.publish_old_set(like, timedelta(days=8), now=now)}
        known = set(ledger.sets())
        order: dict[str, Any] = {mode: moment}
        end = children.start(ledger, **order).wait()
        check_after_kill(ledger, known, old)
        if end is not None:
            assert end["type"] == "COMPLETED", end
            break
        killed.append(moment)

        began = time.monotonic()
        ledger.must_back_up()

        assert time.monotonic() - began < 10, "the dead run's lease was waited for"
        assert old.isdisjoint(ledger.sets())
        assert not [s for s in ledger.repository.state(datetime.now(UTC)).unfinished if s.tombstoned]
        assert not ledger.keys("tombstones")
    return killed


def test_killed_before_any_of_its_changes_a_run_loses_nothing_and_the_next_succeeds_at_once(
    ledgers: Ledgers, children: Children
) -> None:
    """Lease, every object, manifest, verdict, tombstones, each deletion, release: every step of a night."""
    ledger = ledgers.make("postgresql")
    # Lease, 2 objects, manifest, verdict, 7 or more for the set that goes, release.
    assert len(sweep(ledger, children, count(1))) > 12

    # What the killed runs left is no backup, and is collected when nobody can be at work on it any more.
    state = ledger.repository.state(datetime.now(UTC))
    left = {found.set_id for found in state.unfinished}
    assert left
    plan = plan_retention(state, ledger.profile.backup.retention, ledger.profile.zone, datetime.now(UTC))
    assert plan.collect == ()
    yesterday = time.time() - 25 * 3600
    for path in ledger.root.rglob("*"):
        if path.is_file() and (left & set(path.parts) or path.name.endswith(".unfinished")):
            os.utime(path, (yesterday, yesterday))
    ledger.must_back_up()
    assert not [key for key in ledger.listing() for set_id in left if set_id in key]
    assert ledger.repository.state(datetime.now(UTC)).unfinished == ()
    assert not list(ledger.root.rglob("*.unfinished"))


def test_killed_in_the_middle_of_an_object_a_run_loses_nothing(ledgers: Ledgers, children: Children) -> None:
    ledger = ledgers.make("postgresql")
    # The first is the lease, which is written in one act, the second and third are the objects.
    assert sweep(ledger, children, iter((2, 3)), "kill_within") == [2, 3]


def test_killed_at_sampled_steps_the_same_holds_for_mongodb(ledgers: Ledgers, children: Children) -> None:
    moments = sorted(random.Random(2).sample(range(2, 30), 3))
    assert sweep(ledgers.make("mongodb"), children, iter(moments))


def test_killed_at_any_time_on_s3_a_run_loses_nothing(ledgers: Ledgers, children: Children) -> None:
    """Killed from outside, by the clock: whatever it was doing."""
    rng = random.Random(9)
    for kind in KINDS:
        ledger = ledgers.make(kind, "s3")
        ledger.must_back_up()
        known = set(ledger.sets())
        for _ in range(2):
            child = children.start(ledger)
            wait_until(partial(ledger.keys, "leases"))
            time.sleep(rng.uniform(0.2, 1.2))
            child.kill()
            check_after_kill(ledger, known, set())
            began = time.monotonic()
            ledger.must_back_up()
            assert time.monotonic() - began < 10
            known = set(ledger.sets())


# --- Two at once ---


def test_two_at_once_wait_for_each_other_and_the_log_says_for_whom(
    ledgers: Ledgers, children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledgers.make("mongodb")
    # It stops before its third change, in the middle of saving.
    other = children.start(ledger, pause_before=3)
    wait_until(lambda: other.is_paused)

    def waiting() -> list[str]:
        return [record.getMessage() for record in caplog.records if "is held by" in record.getMessage()]

    def let_it_go_on() -> None:
        wait_until(waiting)
        other.go_on()

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as beside:
        beside.submit(let_it_go_on)
        completed(ledger.back_up())

    end = other.wait()
    assert end is not None
    assert end["type"] == "COMPLETED", end
    assert re.fullmatch(
        rf"The lease repository of ledger is held by ledger for: nightly backup \(host \S+, process "
        rf"{other.process.pid}\), since .* unless it is renewed\.",
        waiting()[0],
    )
    sets = [ledger.manifest(set_id) for set_id in ledger.sets()]
    assert len(sets) == 2
    # The set of the one that waited begins when the other was done: ids and ages follow the data.
    assert sets[0].finished_at <= sets[1].started_at
    assert all(ledger.find_damage(found.set_id) == [] for found in sets)


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


# --- Retention ---


def decisions_in(artifact: str) -> dict[str, str]:
    """Return what an artifact's table says of each set."""
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in artifact.splitlines() if line[:1] == "|"
    ]
    return {row[0]: row[3] for row in cells if len(row) == 5 and row[3] in {"keep", "delete", "would go"}}


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


# --- Late ---


@pytest.mark.parametrize("when_late", ["run", "skip"])
def test_a_run_that_starts_hours_late_runs_or_is_skipped_as_the_profile_says(
    ledgers: Ledgers, when_late: str
) -> None:
    """The run is made by Prefect's own scheduler, for a time that is past."""
    ledger = ledgers.make("postgresql")
    ledger.change(backup={"when_late": when_late, "late_after": "PT2H"})
    due = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("nightly-backup")
        deployment = client.create_deployment(
            flow_id,
            name=f"late-{when_late}-{time.monotonic_ns()}",
            parameters={"service": "ledger"},
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *"), active=True)],
        )
        span = {"start_time": due.isoformat(), "end_time": (due + timedelta(minutes=1)).isoformat()}
        client._client.post(
            f"/deployments/{deployment}/schedule", json={**span, "min_runs": 1, "max_runs": 1}
        ).raise_for_status()
        (flow_run,) = [
            run
            for run in client.read_flow_runs(limit=200)
            if run.deployment_id == deployment and run.expected_start_time == due
        ]
    assert flow_run.auto_scheduled

    state = run_late(flow_run)

    if when_late == "skip":
        assert (state.type.value, state.name) == ("CANCELLED", "Skipped")
        assert re.search(
            r"started 5 h.* later, which is more than the 2 h allowed.*: skipped", state.message or ""
        )
        assert ledger.listing() == {}
    else:
        completed(state)
        (set_id,) = ledger.sets()
        assert re.search(r"started 5 h.* later.*it runs all the same", ledger.manifest(set_id).reason)
        assert "it runs all the same" in artifacts_of(state)["nightly-backup-plan-ledger"]


def run_late(flow_run: FlowRun) -> State[Any]:
    """Run a run that Prefect made, in this process."""
    state = run_flow(nightly_backup, flow_run, {"service": "ledger"}, return_type="state")
    return cast("State[Any]", state)
