"""reset-connections under a real application: what is stuck is gone, it serves, nobody else was touched."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import psycopg
import pytest
from prefect.client.schemas.objects import State
from pymongo import MongoClient

from deployments.sandbox.stack import Sandbox
from flows import resetting
from flows.reset_connections import reset_connections
from tasks import postgresql_termination
from tasks.errors import RefusedError
from tasks.journal import list_open_journals, open_journal
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
    wait_until,
)
from tests.runbooks.walking import events, is_healthy

SECRET = "hunter2-and-a-token"


class Operated:
    """A small service whose application has a user of its own."""

    def __init__(self, ledger: Ledger, sandbox: Sandbox) -> None:
        self.ledger, self._admin_url = ledger, ledger.database.url
        ledger.change(outage={"stuck_after": "PT0.3S", "healthy_for": "PT0.2S"})
        self.user = f"user_of_{ledger.database.name}"
        self._make_user()
        ledger.write_env(self.url)
        ledger.operate(sandbox)
        wait_until(lambda: is_healthy(ledger))

    def _make_user(self) -> None:
        name, at = self.ledger.database.name, self._admin_url.rpartition("@")[2]
        if isinstance(self.ledger.database, MongodbDatabase):
            roles = [{"role": "readWrite", "db": name}]
            self.ledger.database.database.command("createUser", self.user, pwd="pool", roles=roles)
            host = at.partition("/")[0]
            self.url = f"mongodb://{self.user}:pool@{host}/{name}?directConnection=true"
            return
        database = cast("PostgresqlDatabase", self.ledger.database)
        database.execute(
            f"CREATE ROLE {self.user} LOGIN PASSWORD 'pool';"
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {self.user}"
        )
        self.url = f"postgresql://{self.user}:pool@{at}"

    def remove_user(self) -> None:
        if isinstance(self.ledger.database, MongodbDatabase):
            self.ledger.database.database.command("dropUser", self.user)
            return
        database = cast("PostgresqlDatabase", self.ledger.database)
        database.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{self.user}'"
        )
        database.execute(f"DROP OWNED BY {self.user}; DROP ROLE {self.user}")

    def connect(self, application: str = "worker") -> psycopg.Connection:
        """Open a session of the application's user."""
        return psycopg.connect(self.url, application_name=application)

    def connect_as_another(self, application: str = "reports") -> psycopg.Connection:
        """Open a session of somebody else in the same database."""
        return psycopg.connect(self._admin_url, application_name=application)

    def reset(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", reset_connections(self.ledger.name, **parameters, return_state=True))


@pytest.fixture
def operate(ledgers: Ledgers, sandbox: Sandbox) -> Iterator[Callable[[Kind], Operated]]:
    made: list[Operated] = []

    def make(kind: Kind) -> Operated:
        made.append(Operated(ledgers.make(kind), sandbox))
        return made[-1]

    yield make
    for operated in made:
        operated.ledger.remove_application()
        operated.ledger.remove_application = lambda: None
        operated.remove_user()


@pytest.fixture
def operated(operate: Callable[[Kind], Operated]) -> Operated:
    return operate("postgresql")


def forget(connection: psycopg.Connection) -> None:
    """Begin a transaction that locks an account, and leave it open for longer than the profile allows."""
    connection.execute(f"SELECT '{SECRET}' FROM accounts WHERE id = 1 FOR UPDATE".encode())
    time.sleep(0.35)


def is_alive(connection: psycopg.Connection) -> bool:
    with suppress(psycopg.OperationalError):
        connection.execute("SELECT 1")
        return True
    return False


@contextmanager
def waiting_for_an_account(operated: Operated) -> Iterator[threading.Thread]:
    """A session of the application that waits for the first account, until it gets it."""
    with operated.connect("waiter") as waiter:
        update = "UPDATE accounts SET note = 'got it' WHERE id = 1"
        thread = threading.Thread(target=lambda: waiter.execute(update.encode()))
        thread.start()
        with psycopg.connect(operated.ledger.database.url, autocommit=True) as watcher:
            blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
            wait_until(lambda: watcher.execute(blocked, [waiter.info.backend_pid]).fetchone() == (True,))
        yield thread
        thread.join(10)
        assert not thread.is_alive()


# --- It works ---


def test_a_forgotten_transaction_is_ended_who_waited_for_it_goes_on_and_nobody_else_is_touched(
    operated: Operated,
) -> None:
    with (
        operated.connect("forgetful") as forgetful,
        operated.connect_as_another() as other,
        operated.connect("pg_dump") as backup,
        operated.connect("idle") as idle,
    ):
        for spared in (other, backup):
            spared.execute("SELECT 1")
        forget(forgetful)
        pid = forgetful.info.backend_pid
        idle.execute("SELECT 1")
        idle.commit()
        with waiting_for_an_account(operated):
            state = operated.reset()
        assert completed(state) == "ledger: 1 session terminated, and the application is healthy."
        assert not is_alive(forgetful)
        assert all(is_alive(spared) for spared in (other, backup, idle))
    assert is_healthy(operated.ledger)
    assert events(operated.ledger) == ["began", "finished"]
    assert list_open_journals(operated.ledger.profile) == ()
    shown = artifacts_of(state)
    plan = shown["reset-connections-plan-ledger"].replace("\\_", "_")
    assert f"Terminate session {pid} ({operated.user}, forgetful)" in plan
    assert "is idle in a transaction for" in plan
    assert "keeps others waiting" in plan
    assert "FROM accounts WHERE id = ? FOR UPDATE" in plan
    assert SECRET not in str(shown)
    assert "terminating" in shown["reset-connections-done-ledger"]


def test_nothing_is_done_when_nothing_is_stuck(operated: Operated) -> None:
    state = operated.reset()
    assert "none is stuck for 0.3 s." in completed(state)
    assert completed(state).endswith("There was nothing to do.")
    assert not (operated.ledger.folder / "state" / "ledger" / "trail.jsonl").exists()


def test_a_dry_run_shows_the_plan_and_ends_no_session(operated: Operated) -> None:
    with operated.connect("forgetful") as forgetful:
        forget(forgetful)
        state = operated.reset(dry_run=True)
        assert is_alive(forgetful)
    assert completed(state) == "ledger: dry run, the plan is shown and nothing was done."
    assert "forgetful" in artifacts_of(state)["reset-connections-plan-ledger"]


def test_where_the_administrator_may_not_the_applications_own_user_ends_its_sessions(
    operated: Operated,
) -> None:
    operated.ledger.change(database={"admin_url": "env:NOBODY_SET_THIS"})
    with operated.connect("forgetful") as forgetful:
        forget(forgetful)
        completed(operated.reset())
        assert not is_alive(forgetful)


def test_who_waits_for_a_stranger_is_ended_and_the_stranger_is_named_and_left_alone(
    operated: Operated,
) -> None:
    with operated.connect_as_another("nightly import") as stranger, operated.connect("waiter") as waiter:
        stranger.execute("SELECT FROM accounts WHERE id = 1 FOR UPDATE")

        def wait() -> None:
            with pytest.raises(psycopg.OperationalError):
                waiter.execute("UPDATE accounts SET note = '' WHERE id = 1")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.5)
        state = operated.reset()
        thread.join(10)
        assert not thread.is_alive()
        assert is_alive(stranger)
    completed(state)
    plan = artifacts_of(state)["reset-connections-plan-ledger"]
    assert "nightly import), not the application's, which is left alone" in plan


def test_all_sessions_of_the_application_wait_for_a_person_who_cannot_be_asked_here(
    operated: Operated,
) -> None:
    said = failed(operated.reset(all_of_the_application=True))
    assert "needs somebody's approval" in said
    assert said.endswith("Nothing was changed.")


@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
def test_with_approval_all_sessions_of_the_application_are_ended_and_it_connects_again(
    operate: Callable[[Kind], Operated], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    operated = operate(kind)
    monkeypatch.setattr("flows.reset_connections.approve", lambda *_, **__: None)
    before = addresses(operated)
    assert before
    state = operated.reset(all_of_the_application=True)
    assert completed(state).endswith("terminated, and the application is healthy.")
    assert not before & addresses(operated)
    assert is_healthy(operated.ledger)


def addresses(operated: Operated) -> set[str]:
    """Return the addresses from which the application's user is connected, and that its server knows."""
    if operated.ledger.kind == "postgresql":
        with operated.connect_as_another() as watcher:
            rows = watcher.execute(
                "SELECT client_addr || ':' || client_port FROM pg_stat_activity WHERE usename = %s",
                [operated.user],
            )
            return {address for (address,) in rows}
    client: MongoClient[dict[str, Any]] = cast("MongodbDatabase", operated.ledger.database).client
    found = client.admin.command("currentOp")["inprog"]
    return {
        op["client"]
        for op in found
        if operated.user in {user["user"] for user in op.get("effectiveUsers", ())}
    }


# --- It fails ---


def test_an_application_that_is_not_healthy_afterwards_is_no_success(operated: Operated) -> None:
    operated.ledger.change(application={"health_url": "http://127.0.0.1:9/health", "start_within": "PT0.5S"})
    with operated.connect("forgetful") as forgetful:
        forget(forgetful)
        said = failed(operated.reset())
        assert not is_alive(forgetful)
    assert "was not healthy within" in said
    assert list_open_journals(operated.ledger.profile) == ()
    assert events(operated.ledger) == ["began", "failed"]


def test_a_session_that_does_not_end_is_named_and_the_others_are_ended(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is in the kernel does not hear its end: here it is the signal that is not sent."""
    monkeypatch.setattr("tasks.postgresql_termination._GONE_SECONDS", 0.2)
    with operated.connect("deaf") as deaf, operated.connect("forgetful") as forgetful:
        pid = deaf.info.backend_pid
        spare = f"SELECT pid <> {pid} AND pg_terminate_backend(pid)"
        sparing = postgresql_termination._TERMINATE.replace("SELECT pg_terminate_backend(pid)", spare)
        monkeypatch.setattr(postgresql_termination, "_TERMINATE", sparing)
        deaf.execute("SELECT 1")
        forget(forgetful)
        said = failed(operated.reset())
        assert not is_alive(forgetful)
        assert is_alive(deaf)
    assert f"1 session terminated; still there: session {pid}." in said


def test_a_session_that_went_on_meanwhile_is_left_alone(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operated.connect("forgetful") as forgetful, operated.connect("slow") as slow:
        slow.execute("SELECT 1")
        forget(forgetful)
        monkeypatch.setattr("flows.reset_connections.approve", lambda *_, **__: slow.commit())
        said = completed(operated.reset())
        assert not is_alive(forgetful)
        assert is_alive(slow)
    assert said == (
        "ledger: 1 session terminated; 1 had gone on or ended meanwhile, and the application is healthy."
    )


# --- It is killed ---


@pytest.mark.parametrize("order", [{"kill_after_journal": 2}, {"kill_after_journal": 3}])
def test_killed_between_two_sessions_the_next_run_ends_the_rest(
    operated: Operated, children: Children, order: dict[str, Any]
) -> None:
    with operated.connect("first") as first, operated.connect("second") as second:
        second.execute("SELECT 1")
        forget(first)
        assert children.start(operated.ledger, "reset_connections", **order).wait() is None
        assert list_open_journals(operated.ledger.profile) == ("reset-connections",)
        assert failed(operated.reset(dry_run=True)).endswith("it puts that right first.")
        completed(operated.reset())
        assert not is_alive(first)
        assert not is_alive(second)
    assert list_open_journals(operated.ledger.profile) == ()
    assert events(operated.ledger) == ["began", "settled", "began", "finished"]


# --- As a remedy ---


def test_as_a_remedy_only_those_that_the_diagnosis_names_and_that_are_stuck_are_ended(
    operated: Operated,
) -> None:
    profile = operated.ledger.profile
    journal = open_journal(profile, "outage-triage")
    with operated.connect("named") as named, operated.connect("also stuck") as also:
        also.execute("SELECT 1")
        forget(named)
        target = f"session {named.info.backend_pid}, session 999999"
        assert resetting.reset(profile, target, journal) == "1 session terminated."
        assert not is_alive(named)
        assert is_alive(also)
        also.commit()
        with pytest.raises(RefusedError, match="nothing was terminated"):
            resetting.reset(profile, f"session {also.info.backend_pid}", journal)
        assert is_alive(also)
