"""How a real PostgreSQL server is: who blocks whom, who holds what open, and what this user may not see."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from deployments.sandbox.endpoints import Endpoints
from tasks import postgresql_health
from tasks.errors import UnreachableError
from tasks.postgresql import parse_url
from tasks.postgresql_health import observe_postgresql
from tasks.records.database_health import (
    Connections,
    DatabaseHealth,
    Disk,
    Replication,
    Sessions,
    Troubles,
)
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 22, 6, 15, tzinfo=UTC)
SECRET = "hunter2-and-a-token"


@dataclass(frozen=True)
class Patient:
    """A database of the test's own, and the profile of a service that works on it."""

    admin: str
    name: str
    profile: ServiceProfile

    def connect(self, application: str = "api") -> psycopg.Connection:
        return psycopg.connect(self.admin, dbname=self.name, application_name=application, autocommit=True)

    def observe(self) -> DatabaseHealth:
        return observe_postgresql.fn(self.profile, NOW)


def make_profile(like: ServiceProfile, folder: Path, url: str, admin_url: str) -> ServiceProfile:
    """A profile whose application and administrator have these URLs."""
    (folder / ".env").write_text(f"DATABASE_URL={url}\n")
    secret = folder / "admin-url"
    secret.touch(mode=0o600)
    secret.write_text(admin_url)
    return like.model_copy(
        update={
            "application": like.application.model_copy(update={"directory": folder}),
            "database": like.database.model_copy(update={"admin_url": f"file:{secret}"}),
        }
    )


@pytest.fixture
def patient(endpoints: Endpoints, propertypulse: ServiceProfile, tmp_path: Path) -> Iterator[Patient]:
    admin, name = endpoints.postgresql_admin_url, f"health_{uuid.uuid4().hex[:8]}"
    made = Patient(
        admin, name, make_profile(propertypulse, tmp_path, f"{admin.rpartition('/')[0]}/{name}", admin)
    )
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with made.connect() as connection:
        connection.execute("CREATE TABLE books (id int PRIMARY KEY, title text)")
        connection.execute("INSERT INTO books SELECT n, 'title ' || n FROM generate_series(1, 500) n")
        connection.execute('CREATE SCHEMA "old"; CREATE TABLE old."Odd |name" (id int); ANALYZE books')
    yield made
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.01)


@contextmanager
def waiting(patient: Patient, statement: str) -> Iterator[int]:
    """A session that waits for a lock; its statement is let go or cancelled at the end."""
    with patient.connect("waiter") as connection:
        pid = connection.info.backend_pid

        def wait() -> None:
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(statement.encode())

        thread = threading.Thread(target=wait)
        thread.start()
        with patient.connect("watcher") as watcher:
            blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
            try:
                wait_until(lambda: watcher.execute(blocked, [pid]).fetchone() == (True,))
                yield pid
            finally:
                watcher.execute("SELECT pg_cancel_backend(%s)", [pid])
                thread.join()


def sessions_of(health: DatabaseHealth) -> Sessions:
    assert isinstance(health.sessions, Sessions), health.sessions
    return health.sessions


def test_sizes_connections_and_counters_are_observed(patient: Patient) -> None:
    with patient.connect("pool-of-three"), patient.connect("pool-of-three"), patient.connect("pool-of-three"):
        health = patient.observe()
    assert isinstance(health.relations, tuple)
    sizes = {size.name: size for size in health.relations}
    assert set(sizes) == {"books", "old.Odd |name"}
    assert (sizes["books"].entries, sizes["old.Odd |name"].entries) == (500, None)
    assert sizes["books"].index_bytes >= 16_384
    assert isinstance(health.total_bytes, int)
    assert health.total_bytes > sizes["books"].total_bytes
    assert isinstance(health.connections, Connections)
    # 50, of which PostgreSQL keeps three for administrators.
    assert health.connections.limit == 47
    (pool,) = [group for group in health.connections.groups if group.application == "pool-of-three"]
    assert (pool.number, pool.state) == (3, "idle")
    assert isinstance(health.troubles, Troubles)
    assert not [found for found in health.observations if isinstance(found, Unknown)]


def test_a_blocked_session_is_named_with_its_blocker_and_no_value_is_seen(
    patient: Patient,
) -> None:
    with patient.connect("forgetful") as blocker:
        blocker.execute("BEGIN")
        blocker.execute(f"UPDATE books SET title = '{SECRET}' WHERE id = 1".encode())
        with (
            waiting(patient, f"UPDATE books SET title = 'mine, {SECRET}' WHERE id = 1") as on_a_row,
            waiting(patient, "ALTER TABLE books ADD author text") as on_the_table,
        ):
            health = patient.observe()
        pid = blocker.info.backend_pid
    blocked = {wait.session.identity: wait for wait in sessions_of(health).blocked}
    row, table = blocked[f"session {on_a_row}"], blocked[f"session {on_the_table}"]
    assert (row.session.who, row.session.doing, row.waits_for) == (
        "postgres, waiter",
        "UPDATE",
        "a row's lock",
    )
    (by,) = row.by
    assert (by.identity, by.who) == (f"session {pid}", "postgres, forgetful")
    assert by.doing == "idle in transaction after UPDATE"
    assert (table.session.doing, table.waits_for) == ("ALTER", "a lock on books")
    assert f"session {pid}" in {session.identity for session in table.by}
    assert SECRET not in health.model_dump_json()


def test_a_wait_in_another_database_of_the_server_is_none_of_this_one(
    patient: Patient, propertypulse: ServiceProfile, tmp_path: Path
) -> None:
    admin = patient.admin
    (tmp_path / "neighbour").mkdir()
    neighbour = make_profile(propertypulse, tmp_path / "neighbour", admin, admin)
    with patient.connect("forgetful") as blocker:
        blocker.execute("BEGIN; LOCK TABLE books IN ACCESS EXCLUSIVE MODE")
        with waiting(patient, "SELECT * FROM books") as waiter:
            there = sessions_of(observe_postgresql.fn(neighbour, NOW))
            here = sessions_of(patient.observe())
    assert f"session {waiter}" in {wait.session.identity for wait in here.blocked}
    assert f"session {waiter}" not in {wait.session.identity for wait in there.blocked}


def test_a_session_that_is_idle_in_a_transaction_is_named_with_how_long(patient: Patient) -> None:
    with patient.connect("forgetful") as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute(f"/* {SECRET} */ SELECT count(*) FROM books".encode())
        began = time.monotonic()
        pid = connection.info.backend_pid
        found = sessions_of(patient.observe())
        took = time.monotonic() - began
    (idle,) = [one for one in found.idle_in_transaction if one.identity == f"session {pid}"]
    assert idle.doing == "idle in transaction after a command"
    assert 0 <= idle.seconds <= took + 0.1
    assert idle.identity in {one.identity for one in found.working}
    assert found.oldest_snapshot_holder


@contextmanager
def autovacuuming(patient: Patient) -> Iterator[int]:
    """A worker of autovacuum that takes minutes for a table, unless somebody needs the table."""
    slowly = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    at_once = "autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0"
    worker = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'autovacuum: VACUUM%%heavy'"
    with patient.connect("watcher") as watcher:
        watcher.execute(f"CREATE TABLE heavy (id int, filler text) WITH ({slowly}, {at_once})".encode())
        watcher.execute("INSERT INTO heavy SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n")
        watcher.execute("DELETE FROM heavy WHERE id % 2 = 0")
        watcher.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        watcher.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: watcher.execute(worker, [patient.name]).fetchone() is not None)
            ((pid,),) = watcher.execute(worker, [patient.name]).fetchall()
            yield pid
        finally:
            watcher.execute("ALTER SYSTEM RESET autovacuum_naptime")
            watcher.execute("SELECT pg_reload_conf()")


def test_nobody_is_told_to_end_autovacuum_however_long_it_takes(patient: Patient) -> None:
    with autovacuuming(patient) as worker, patient.connect() as connection:
        for _ in range(3):
            connection.execute("SELECT pg_current_xact_id()")
        found = sessions_of(patient.observe())
        assert f"session {worker}" not in {one.identity for one in found.working}
        assert found.oldest_snapshot_holder != f"session {worker}"


def test_autovacuum_is_named_where_somebody_waits_for_it(patient: Patient) -> None:
    with patient.connect() as connection:
        # By then the server would end the worker for the sake of who waits.
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '1min'").format(sql.Identifier(patient.name))
        )
    with autovacuuming(patient) as worker, waiting(patient, "ALTER TABLE heavy ADD note text") as waiter:
        blocked = {wait.session.identity: wait for wait in sessions_of(patient.observe()).blocked}
    (by,) = blocked[f"session {waiter}"].by
    assert (by.identity, by.who) == (f"session {worker}", "the server itself")


def test_a_replication_slot_that_nobody_uses_is_named_with_what_it_holds(patient: Patient) -> None:
    with patient.connect() as connection:
        connection.execute("SELECT pg_create_physical_replication_slot('left_over', true)")
        try:
            connection.execute("SELECT pg_switch_wal()")
            health = patient.observe()
        finally:
            connection.execute("SELECT pg_drop_replication_slot('left_over')")
    assert isinstance(health.replication, Replication)
    (slot,) = health.replication.slots
    assert (slot.name, slot.active, slot.lost) == ("left_over", False, False)
    assert slot.held_bytes > 0


@pytest.fixture
def narrow(patient: Patient, propertypulse: ServiceProfile, tmp_path: Path) -> Iterator[ServiceProfile]:
    """The profile of a service whose administrator does not see what others do."""
    role = sql.Identifier(patient.name)
    with patient.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'narrow'").format(role))
    parts = parse_url(patient.admin)
    url = f"postgresql://{patient.name}:narrow@{parts.host}:{parts.port}/{patient.name}"
    yield make_profile(propertypulse, tmp_path, url, url)
    with patient.connect() as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_what_this_user_may_not_see_is_not_known_and_the_rest_is(narrow: ServiceProfile) -> None:
    health = observe_postgresql.fn(narrow, NOW)
    unknown = {name for name, value in health if isinstance(value, Unknown)}
    assert unknown == {"disk", "sessions", "replication"}
    for name in unknown:
        why = getattr(health, name).why
        assert why.endswith(": give the user of database.admin_url the role pg_monitor."), why


def test_connections_are_counted_also_by_a_user_who_does_not_see_what_others_do(
    patient: Patient, narrow: ServiceProfile
) -> None:
    with ExitStack() as pool:
        for _ in range(9):
            pool.enter_context(patient.connect("pool-of-nine"))
        found = observe_postgresql.fn(narrow, NOW).connections
    assert isinstance(found, Connections)
    (seen,) = [group for group in found.groups if group.application == "pool-of-nine"]
    assert (seen.user, seen.state, seen.number) == ("postgres", "not shown", 9)
    assert found.current >= 10
    assert all(group.user for group in found.groups), "the server's own processes are no clients"


def test_a_look_that_hangs_does_not_lose_the_others(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_health, "_LOCK_SECONDS", 0.1)
    with patient.connect() as connection:
        connection.execute("BEGIN; LOCK TABLE books IN ACCESS EXCLUSIVE MODE")
        health = patient.observe()
    assert {name for name, value in health if isinstance(value, Unknown)} == {"relations"}
    assert isinstance(health.relations, Unknown)
    assert "lock timeout" in health.relations.why


def test_a_server_that_falls_silent_is_not_waited_for(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_health, "_SECONDS", 0.2)
    monkeypatch.setattr(postgresql_health, "_SILENT_SECONDS", 0.1)

    def hang(connection: psycopg.Connection) -> None:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SELECT pg_sleep(60)")

    found = postgresql_health._observe(parse_url(patient.admin, patient.name), hang)
    assert isinstance(found, Unknown)
    assert "does not answer" in found.why


def test_the_disk_is_that_of_the_data_directory_on_this_host_and_of_no_other(patient: Patient) -> None:
    disk = patient.observe().disk
    assert isinstance(disk, Disk)
    with patient.connect() as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    found = os.statvfs(folder)
    assert disk.total_bytes <= found.f_blocks * found.f_frsize
    assert disk.used_bytes == pytest.approx((found.f_blocks - found.f_bfree) * found.f_frsize, rel=0.05)
    ourselves = psutil.Process()
    assert postgresql_health._is_here(ourselves.pid, ourselves.create_time())
    assert not postgresql_health._is_here(ourselves.pid, ourselves.create_time() - 60)


def test_a_server_that_is_away_is_an_error(propertypulse: ServiceProfile, tmp_path: Path) -> None:
    nobody = "postgresql://postgres:x@127.0.0.1:1/books"
    with pytest.raises(UnreachableError, match="does not answer"):
        observe_postgresql.fn(make_profile(propertypulse, tmp_path, nobody, nobody), NOW)
