"""profile-queries on real slow queries; the profiler is as it was afterwards, whatever happened."""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from prefect.client.schemas.objects import State
from pymongo import MongoClient

from deployments.sandbox.stack import Sandbox
from flows.profile_queries import profile_queries
from flows.profiler_guard import profiler_guard
from tasks.host_folder import host_folder
from tasks.journal import list_open_journals
from tasks.mongodb_profiler import open_profiler, put_back_profiler
from tasks.profiling_state import may_be_left_on
from tests.proxy import Proxy
from tests.runbooks.conftest import (
    Children,
    Ledger,
    Ledgers,
    MongodbDatabase,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    failed,
    wait_until,
)

CANARY = "canary-7f3a"
SECONDS = 1.2
BEFORE = {"was": 0, "slowms": 37, "sampleRate": 0.5}


def profile(ledger: Ledger, seconds: float = SECONDS, **parameters: Any) -> State[Any]:
    parameters = {"minutes": seconds / 60, "milliseconds": 1, **parameters}
    return cast("State[Any]", profile_queries(ledger.name, **parameters, return_state=True))


def guard(ledger: Ledger) -> State[Any]:
    return cast("State[Any]", profiler_guard(ledger.name, return_state=True))


@contextmanager
def querying(ledger: Ledger, url: str = "") -> Iterator[None]:
    """Ask the database all the time for what it has no index for, with a value that nobody may see."""
    stopped = threading.Event()
    ask = _ask_mongodb if ledger.kind == "mongodb" else _ask_postgresql
    thread = threading.Thread(target=ask, args=(url or ledger.database.url, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _ask_mongodb(url: str, stopped: threading.Event) -> None:
    with MongoClient[dict[str, Any]](url, authSource="admin") as client:
        entries = client.get_default_database()["entries"]
        while not stopped.wait(0.01):
            list(entries.find({"body": {"$gt": CANARY}, "t": {"$ne": CANARY}}).sort("balance", -1))


def _ask_postgresql(url: str, stopped: threading.Event) -> None:
    query = f"SELECT pg_sleep(0.3) /* {CANARY} */ FROM grown WHERE id = 4242 LIMIT 1"
    with psycopg.connect(url, autocommit=True) as connection:
        while not stopped.wait(0.01):
            connection.execute(query.encode())


def mongodb(ledger: Ledger) -> MongodbDatabase:
    assert isinstance(ledger.database, MongodbDatabase)
    return ledger.database


def settings(ledger: Ledger) -> dict[str, Any]:
    said = mongodb(ledger).database.command("profile", -1)
    return {name: said[name] for name in BEFORE}


@pytest.fixture
def ledger_on_mongodb(ledgers: Ledgers) -> Ledger:
    """A database of which somebody has set threshold and sampling rate."""
    ledger = ledgers.make("mongodb")
    mongodb(ledger).database.command("profile", 0, slowms=37, sampleRate=0.5)
    return ledger


def has_profile_collection(ledger: Ledger) -> bool:
    return "system.profile" in mongodb(ledger).database.list_collection_names()


def trail_of(ledger: Ledger) -> list[str]:
    lines = (host_folder(ledger.profile) / "trail.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_what_mongodb_is_slow_at_is_told_without_its_values_and_the_profiler_is_as_it_was(
    ledger_on_mongodb: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledger_on_mongodb
    with caplog.at_level(logging.INFO), querying(ledger):
        state = profile(ledger)
    said, page = completed(state), artifacts_of(state)["profile-queries-queries-ledger"]
    assert "find {body: {$gt: ?}, t: {$ne: ?}} sort {balance: -1}; an index on entries (balance desc" in said
    assert "is off again (level 0, slowms 37, sampleRate 0.5), as a new connection reads." in said
    assert "- An index on entries (balance descending, body) would help." in page
    assert CANARY not in f"{state}{page}{caplog.text}"
    assert settings(ledger) == BEFORE
    assert not has_profile_collection(ledger)
    assert trail_of(ledger) == ["began", "finished"]
    assert "left anything on" in completed(guard(ledger))


def test_a_profiler_that_was_on_stays_on_with_what_it_wrote_down(ledger_on_mongodb: Ledger) -> None:
    ledger = ledger_on_mongodb
    mongodb(ledger).database.command("profile", 2)
    with querying(ledger):
        said = completed(profile(ledger))
    assert "find {body: {$gt: ?}" in said
    assert said.endswith("The profiler was on before, and was left alone.")
    assert settings(ledger) == {**BEFORE, "was": 2}
    assert has_profile_collection(ledger)


COUNTED = "What pg\\_stat\\_statements counted"
LOOKED_AT = "in a look each half second, as the database does not have the extension"


@pytest.mark.parametrize(("counts", "how"), [(True, COUNTED), (False, LOOKED_AT)])
def test_what_postgresql_is_slow_at_is_told_with_plans_and_without_values(
    ledgers: Ledgers, caplog: pytest.LogCaptureFixture, counts: bool, how: str
) -> None:
    ledger = ledgers.make("postgresql")
    assert isinstance(ledger.database, PostgresqlDatabase)
    ledger.database.grow(20_000, 500)
    if counts:
        ledger.database.execute("CREATE EXTENSION pg_stat_statements")
    with caplog.at_level(logging.INFO), querying(ledger):
        state = profile(ledger, milliseconds=20)
    said, page = completed(state), artifacts_of(state)["profile-queries-queries-ledger"]
    assert how in page
    assert "SELECT pg_sleep(?) FROM grown WHERE id = ? LIMIT ?; an index on grown (id) would help." in said
    assert re.search(r"Seq Scan on grown \(about [\d,]+ rows\) Filter: \(grown.id = \?\)", page)
    assert ("95th percentile is not measured" in page) is counts
    assert CANARY not in f"{state}{page}{caplog.text}"
    assert "4242" not in f"{page}{said}"


@pytest.fixture
def ledger_on_postgresql(ledgers: Ledgers) -> Ledger:
    """A database whose statements are counted."""
    ledger = ledgers.make("postgresql")
    postgresql(ledger).execute("CREATE EXTENSION pg_stat_statements")
    postgresql(ledger).grow(5000)
    return ledger


def postgresql(ledger: Ledger) -> PostgresqlDatabase:
    assert isinstance(ledger.database, PostgresqlDatabase)
    return ledger.database


def administer_by(ledger: Ledger, url: str) -> None:
    secret = ledger.folder / "admin-url"
    secret.touch(mode=0o600)
    secret.write_text(url)
    ledger.change(database={"admin_url": f"file:{secret}"})


@pytest.mark.parametrize("counts", [True, False])
def test_a_postgresql_user_who_does_not_see_the_application_is_refused(
    ledger_on_postgresql: Ledger, counts: bool
) -> None:
    ledger = ledger_on_postgresql
    if not counts:
        postgresql(ledger).execute("DROP EXTENSION pg_stat_statements")
    with postgresql(ledger).limited_role() as (role, url), querying(ledger):
        administer_by(ledger, url)
        assert failed(profile(ledger)).endswith(
            "does not show this user the application's statements: give the user of database.admin_url the "
            "role pg_read_all_stats."
        )
        postgresql(ledger).execute(f"GRANT pg_read_all_stats TO {role}")
        assert "the worst (" in completed(profile(ledger, milliseconds=20))


@pytest.mark.parametrize(("counts", "hidden"), [(True, r"\d+ statements?"), (False, r"\d+ sessions?")])
def test_what_others_do_unseen_on_postgresql_is_noted(
    ledger_on_postgresql: Ledger, counts: bool, hidden: str
) -> None:
    ledger = ledger_on_postgresql
    if not counts:
        postgresql(ledger).execute("DROP EXTENSION pg_stat_statements")
    with postgresql(ledger).limited_role() as (role, url):
        ledger.write_env(url)
        administer_by(ledger, url)
        with querying(ledger):
            page = artifacts_of(profile(ledger))["profile-queries-queries-ledger"]
            assert re.search(f"does not show this user {hidden} of others: grant it the role", page)
            postgresql(ledger).execute(f"GRANT pg_read_all_stats TO {role}")
            page = artifacts_of(profile(ledger))["profile-queries-queries-ledger"]
            assert "does not show this user" not in page


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [("pg_stat_statements.track", "none", "top"), ("compute_query_id", "off", "auto")],
)
def test_where_postgresql_counts_nothing_of_the_application_it_is_seen_at_work(
    ledger_on_postgresql: Ledger, setting: str, value: str, wanted: str
) -> None:
    ledger = ledger_on_postgresql
    with postgresql(ledger).limited_role() as (role, url):
        postgresql(ledger).execute(f"ALTER ROLE {role} SET {setting} = '{value}'")
        ledger.write_env(url)
        with querying(ledger, url):
            state = profile(ledger, milliseconds=20)
    assert "SELECT pg_sleep(?) FROM grown" in completed(state)
    page = artifacts_of(state)["profile-queries-queries-ledger"].replace("\\", "")
    assert f"as the server counts none of the application's statements while {setting} is {value}" in page
    assert f": set it to {wanted}" in page


def test_a_dry_run_touches_nothing(ledger_on_mongodb: Ledger) -> None:
    said = completed(profile(ledger_on_mongodb, minutes=10, milliseconds=None, dry_run=True))
    assert said == (
        "ledger: dry run, nothing was done. Queries over 100 ms would be watched for 10 min, by the "
        "profiler, which is put back afterwards."
    )
    assert settings(ledger_on_mongodb) == BEFORE
    assert not may_be_left_on(ledger_on_mongodb.profile)


def test_what_a_killed_run_left_on_is_put_back_by_the_guard(
    ledger_on_mongodb: Ledger, children: Children
) -> None:
    ledger = ledger_on_mongodb
    children.start(ledger, "profile_queries", kill_when_called="flows.profiling:_follow_profile").wait()
    assert settings(ledger) == {"was": 1, "slowms": 100, "sampleRate": 1.0}

    assert "is off again (level 0, slowms 37, sampleRate 0.5)" in completed(guard(ledger))

    assert settings(ledger) == BEFORE
    assert not has_profile_collection(ledger)
    assert trail_of(ledger) == ["began", "settled"]
    assert "left anything on" in completed(guard(ledger))


def test_what_a_killed_run_left_on_is_put_back_by_the_next_run_to_how_it_was_before_the_first(
    ledger_on_mongodb: Ledger, children: Children
) -> None:
    ledger = ledger_on_mongodb
    children.start(
        ledger,
        "profile_queries",
        parameters={"service": ledger.name, "minutes": 0.001, "milliseconds": 1},
        kill_when_called="flows.profiling:put_back_profiler",
    ).wait()
    assert settings(ledger)["was"] == 1
    completed(profile(ledger, 0.1))
    assert settings(ledger) == BEFORE
    assert trail_of(ledger) == ["began", "settled", "began", "finished"]


def test_a_run_at_work_keeps_out_a_second_one_and_the_guard_and_nobody_else(
    ledger_on_mongodb: Ledger, children: Children
) -> None:
    ledger = ledger_on_mongodb
    child = children.start(
        ledger,
        "profile_queries",
        parameters={"service": ledger.name, "minutes": 0.001},
        pause_when_called="flows.profiling:_follow_profile",
    )
    wait_until(lambda: child.is_paused)

    assert "for: profile-queries (process" in failed(profile(ledger))
    assert "a run is at work and is left alone" in completed(guard(ledger))
    assert settings(ledger)["was"] == 1
    assert list_open_journals(ledger.profile) == ()
    assert not (host_folder(ledger.profile) / "lock").exists(), "it never took the lock of changes"

    child.go_on()
    answer = child.wait()
    assert answer is not None
    assert answer["type"] == "COMPLETED"
    assert settings(ledger) == BEFORE


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_goes_away_meanwhile_has_its_profiler_put_back_once_it_answers(
    ledger_on_mongodb: Ledger,
    sandbox: Sandbox,
    proxies: Callable[[int, Callable[[bytes, bool], bool]], Proxy],
) -> None:
    ledger, away, port = ledger_on_mongodb, threading.Event(), sandbox.mongodb.port

    def pass_on(data: bytes, from_client: bool) -> bool:
        if b"$natural" in data:
            away.set()
        return not away.is_set()

    url = sandbox.endpoints.mongodb_admin_url
    secret = ledger.folder / "admin-url"
    secret.write_text(url.replace(f":{port}/", f":{proxies(port, pass_on).port}/"))
    secret.chmod(0o600)
    ledger.change(database={"admin_url": f"file:{secret}"})

    said = failed(profile(ledger))

    assert away.is_set()
    assert "does not answer" in said
    assert said.endswith("profiler-guard/ledger does that as soon as the server answers.")
    assert settings(ledger)["was"] == 1
    failed(guard(ledger))
    secret.write_text(url)
    completed(guard(ledger))
    assert settings(ledger) == BEFORE


def test_a_user_who_may_not_profile_watches_what_is_at_work_and_is_told_why(
    ledger_on_mongodb: Ledger, sandbox: Sandbox
) -> None:
    ledger = ledger_on_mongodb
    database = mongodb(ledger).database
    database.command("createUser", "reader", pwd="reads", roles=["readWrite"])
    secret = ledger.folder / "admin-url"
    secret.write_text(f"mongodb://reader:reads@127.0.0.1:{sandbox.mongodb.port}/{ledger.database.name}")
    secret.chmod(0o600)
    ledger.change(database={"admin_url": f"file:{secret}"})
    try:
        assert failed(profile(ledger, 0.1)) == (
            "ledger: the profiler is not used (its user may not: give it the role dbAdmin on the database), "
            "nor can be looked at what is at work (its user does not see what others do: give it the role "
            "clusterMonitor)."
        )
        # A real server asks for the first alone.
        watches = [{"role": role, "db": "admin"} for role in ("clusterMonitor", "read")]
        database.command("grantRolesToUser", "reader", roles=watches)
        state = profile(ledger, 0.1)
        assert "The profiler was not used: its user may not: give it the role dbAdmin" in completed(state)
        assert "durations are lower bounds" in artifacts_of(state)["profile-queries-queries-ledger"]
        assert settings(ledger) == BEFORE
    finally:
        database.command("dropUser", "reader")


def test_after_an_election_it_is_put_back_on_the_member_that_was_profiled(
    ledger_on_mongodb: Ledger, sandbox: Sandbox
) -> None:
    ledger, port = ledger_on_mongodb, sandbox.mongodb.port
    former = open_profiler(ledger.profile).observe()
    open_profiler(ledger.profile).turn_on(1)
    secret = ledger.folder / "admin-url"
    secret.write_text(sandbox.endpoints.mongodb_admin_url.replace(f":{port}/", ":9/"))
    secret.chmod(0o600)
    ledger.change(database={"admin_url": f"file:{secret}"})

    on_member = former.model_copy(update={"member": f"127.0.0.1:{port}"})
    assert "is off again" in put_back_profiler.fn(ledger.profile, on_member)
    assert settings(ledger) == BEFORE
    assert not has_profile_collection(ledger)
