"""A nightly backup that is disturbed: by writers, by what breaks or is killed midway, by another one."""

import gzip
import logging
import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import bson
import psycopg
import pytest
import zstandard
from pymongo import MongoClient
from pymongo.database import Database

from deployments.sandbox.stack import Sandbox
from tests.proxy import Proxy
from tests.runbooks.conftest import (
    KINDS,
    Children,
    Ledger,
    Ledgers,
    completed,
    failed,
    wait_until,
)

MakeProxy = Callable[[int, Callable[[bytes, bool], bool]], Proxy]


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
    (small_disk / "repository").mkdir()
    ledger.change(backup={"destination": {"url": (small_disk / "repository").as_uri()}})
    first = ledger.must_back_up()
    ledger.database.grow(100, 4000)

    assert "there is no room left: free some" in failed(ledger.back_up())

    assert ledger.sets() == (first,)
    assert ledger.find_damage(first) == []
    assert not list(small_disk.rglob("*.unfinished"))
    assert {key.split("/")[2] for key in ledger.keys("sets")} == {first}
    assert ledger.keys("tombstones") == []


@pytest.mark.parametrize("moment", [{"kill_within": 2}, {"kill_before": 4}])
@pytest.mark.parametrize("flow", ["nightly_backup", "emergency_backup"])
def test_a_disk_that_killed_runs_nearly_filled_has_room_for_the_next_night(
    ledgers: Ledgers, children: Children, small_disk: Path, flow: str, moment: dict[str, int]
) -> None:
    """Killed in the middle of the dump, or before the manifest when all is written."""
    ledger = ledgers.make("postgresql")
    # One part after the other: the second change of the store is the dump.
    ledger.change(backup={"destination": {"url": small_disk.as_uri()}, "width": 1})
    ledger.database.grow(20, 2500)
    parameters = {"service": "ledger"} | ({"reason": "before a test"} if flow == "emergency_backup" else {})

    assert children.start(ledger, flow, parameters=parameters, **moment).wait() is None
    left = sum(path.stat().st_size for path in small_disk.rglob("*") if "sets" in path.parts)
    assert left > 10_000

    set_id = ledger.must_back_up()
    assert shutil.disk_usage(small_disk).free < left
    assert {key.split("/")[2] for key in ledger.keys("sets")} == {set_id}
    assert not list(small_disk.rglob("*.unfinished"))


def test_a_store_that_fails_in_the_middle_of_a_dump_leaves_neither_the_run_nor_pg_dump_behind(
    ledgers: Ledgers, children: Children, small_disk: Path
) -> None:
    """Its locks would hold up the next migration, and everybody behind that."""
    ledger = ledgers.make("postgresql")
    ledger.database.grow(1500, 8000)
    ledger.change(backup={"destination": {"url": small_disk.as_uri()}})

    end = children.start(ledger).wait(40)

    assert end is not None
    assert "there is no room left: free some" in end["message"]
    wait_until(lambda: sessions_of_ours(ledger) == 0)


def sessions_of_ours(ledger: Ledger) -> int:
    with psycopg.connect(ledger.database.url) as connection:
        ours = "SELECT FROM pg_stat_activity WHERE datname = %s AND application_name = 'runbooks'"
        return connection.execute(ours, (ledger.database.name,)).rowcount


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
        assert ledger.repository.state(datetime.now(UTC)).unfinished == ()
        assert not ledger.keys("tombstones")
        assert not list(ledger.root.joinpath("ledger", "sets").rglob("*.unfinished"))
    return killed


def make_a_day_old(path: Path) -> None:
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday))


@pytest.mark.timeout(600)
def test_killed_before_any_of_its_changes_a_run_loses_nothing_and_the_next_succeeds_at_once(
    ledgers: Ledgers, children: Children
) -> None:
    """Lease, every object, manifest, verdict, tombstones, each deletion, release: every step of a night."""
    ledger = ledgers.make("postgresql")
    # Lease, 2 objects, manifest, verdict, 7 or more for the set that goes, release.
    assert len(sweep(ledger, children, count(1))) > 12

    # What was killed beside the sets, such as a lease half written, goes when it is a day old.
    beside = ledger.root / "ledger" / "leases" / ".killed.unfinished"
    beside.touch()
    ledger.must_back_up()
    assert beside.exists()
    make_a_day_old(beside)
    ledger.must_back_up()
    assert not list(ledger.root.rglob("*.unfinished"))


def test_a_set_that_is_copied_in_by_hand_is_left_alone_for_a_day(ledger: Ledger) -> None:
    """Its manifest comes last, as it should; a night may begin before that."""
    copied = ledger.root / "ledger" / "sets" / "20260101T020000Z-nightly-0a1b2c" / "application.tar.gz"
    copied.parent.mkdir(parents=True)
    copied.touch()
    ledger.must_back_up()
    assert copied.exists()
    make_a_day_old(copied)
    ledger.must_back_up()
    assert not copied.exists()


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
