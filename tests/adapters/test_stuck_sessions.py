"""The application's sessions, told from everybody else's, and the end of exactly one."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from bson.binary import Binary, UuidRepresentation
from pymongo import MongoClient

from deployments.sandbox.endpoints import Endpoints
from tasks.errors import ConfigurationError
from tasks.mongodb_health import read_sessions
from tasks.mongodb_termination import User, read_application_operation, read_user
from tasks.records.service import ServiceProfile
from tasks.records.stuck_sessions import ApplicationSession, SessionIdentity
from tasks.stuck_sessions import observe_application_sessions, terminate_session

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
USER = User("app", "invoice")
LSID = UUID("00000000-0000-4000-8000-00000000002a")
# As MongoDB 7.0 answers currentOp, shortened.
OPERATION: dict[str, Any] = {
    "type": "op",
    "desc": "conn77",
    "connectionId": 77,
    "client": "10.0.0.5:40112",
    "appName": "invoice-backend",
    "active": True,
    "opid": 81234,
    "secs_running": 75,
    "microsecs_running": 75_400_000,
    "op": "query",
    "ns": "invoice.users",
    "command": {"find": "users", "filter": {"token": "hunter2"}, "lsid": {"id": LSID}, "$db": "invoice"},
    "waitingForLock": False,
    "effectiveUsers": [{"user": "app", "db": "invoice"}],
}
TRANSACTION: dict[str, Any] = {
    "type": "idleSession",
    "desc": "inactive transaction",
    "client": "10.0.0.5:40113",
    "appName": "invoice-backend",
    "active": False,
    "waitingForLock": False,
    "lsid": {"id": LSID, "uid": Binary(USER.digest)},
    "transaction": {
        "parameters": {"txnNumber": 3, "autocommit": False},
        "timeOpenMicros": 190_000_000,
        "timeActiveMicros": 10_000,
        "timeInactiveMicros": 180_000_000,
    },
}


def read(line: dict[str, Any], **changes: Any) -> ApplicationSession | None:
    return read_application_operation({**line, **changes}, USER, "invoice", NOW)


def test_a_mongodb_operation_is_read_with_what_identifies_it() -> None:
    found = read(OPERATION)
    assert found is not None
    assert found.identity == SessionIdentity(
        kind="operation", number="81234", since=NOW - timedelta(seconds=75.4), client="10.0.0.5:40112"
    )
    assert (found.who, found.state, found.seconds) == ("app, invoice-backend", "find on invoice.users", 75.4)
    assert (found.waiting_seconds, found.reads_only) == (None, True)
    # What says who asks is no part of what is asked.
    assert set(found.command) == {"find", "filter"}
    assert "hunter2" not in repr(found)


def test_a_mongodb_operation_that_waits_for_a_lock_says_for_how_long() -> None:
    found = read(OPERATION, waitingForLock=True, op="update", command={"update": "users"})
    assert found is not None
    assert (found.waiting_seconds, found.reads_only) == (75.4, False)


def test_a_mongodb_transaction_that_is_open_and_idle_is_read_by_its_session() -> None:
    for identity in (LSID, Binary.from_uuid(LSID, UuidRepresentation.STANDARD)):
        found = read(TRANSACTION, lsid={"id": identity, "uid": Binary(USER.digest)})
        assert found is not None
        assert found.identity.kind == "transaction"
        assert found.identity.number == LSID.hex
        assert found.identity.since == NOW - timedelta(seconds=190)
        assert (found.state, found.seconds) == ("idle in transaction", 180)


@pytest.mark.parametrize(
    "changes",
    [
        {"effectiveUsers": [{"user": "app", "db": "admin"}]},
        {"effectiveUsers": [{"user": "reports", "db": "invoice"}]},
        {"effectiveUsers": []},
        {"ns": "billing.users"},
        {"appName": "runbooks"},
        {"appName": "mongodump"},
        {"appName": "", "clientMetadata": {"application": {"name": "runbooks"}}},
        {"active": False},
        {"command": {"hello": 1}},
        {"command": {"createIndexes": "users"}},
        {"type": "idleCursor", "active": None, "opid": None},
    ],
)
def test_what_is_not_the_applications_or_has_to_stay_is_not_its_session(changes: dict[str, Any]) -> None:
    assert read(OPERATION, **changes) is None


def test_an_idle_transaction_of_another_user_is_not_the_applications() -> None:
    assert read(TRANSACTION, lsid={"id": LSID, "uid": Binary(User("app", "admin").digest)}) is None


def test_an_idle_session_without_a_transaction_holds_nothing_up() -> None:
    without = {key: value for key, value in TRANSACTION.items() if key != "transaction"}
    assert read(without) is None


def test_the_user_of_a_mongodb_url_is_of_the_database_that_it_logs_in_at() -> None:
    assert read_user("mongodb://app:x@h/invoice") == USER
    assert read_user("mongodb://app:x@h/invoice?authSource=admin") == User("app", "admin")
    with pytest.raises(ConfigurationError, match="names no user"):
        read_user("mongodb://h/invoice")


def test_a_server_that_is_locked_for_a_backup_shows_as_writes_that_wait() -> None:
    (waiting,) = read_sessions({"inprog": [], "fsyncLock": True, "ok": 1}, "invoice").blocked
    assert (waiting.session.identity, waiting.waits_for) == ("every write", "db.fsyncUnlock()")
    # Nobody has to wait yet: it is locked until a person ends it.
    assert waiting.lasts
    assert read_sessions({"inprog": [], "ok": 1}, "invoice").blocked == ()


# --- On real servers ---


@pytest.fixture
def worker(endpoints: Endpoints) -> Iterator[psycopg.Connection]:
    """A session of the application of the service on PostgreSQL."""
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(endpoints.postgresql_url, application_name="worker") as connection,
    ):
        yield connection


def find_worker(profile: ServiceProfile, worker: psycopg.Connection) -> SessionIdentity:
    number = str(worker.info.backend_pid)
    found = {one.identity.number: one for one in observe_application_sessions.fn(profile).sessions}
    assert found[number].who.endswith(", worker")
    return found[number].identity


def test_a_postgresql_session_is_ended_only_if_it_is_the_same(
    propertypulse: ServiceProfile, worker: psycopg.Connection
) -> None:
    identity = find_worker(propertypulse, worker)
    younger = identity.model_copy(update={"since": identity.since + timedelta(microseconds=1)})
    assert terminate_session.fn(propertypulse, younger) == "over"
    assert worker.execute("SELECT 1").fetchone() == (1,)
    assert terminate_session.fn(propertypulse, identity) == "gone"
    with pytest.raises(psycopg.OperationalError):
        worker.execute("SELECT 1")
    assert terminate_session.fn(propertypulse, identity) == "over"


def test_a_postgresql_session_of_another_user_or_database_is_never_seen_or_ended(
    propertypulse: ServiceProfile, endpoints: Endpoints
) -> None:
    admin = endpoints.postgresql_admin_url
    there = admin.rpartition("/")[0] + "/" + endpoints.postgresql_url.rpartition("/")[2]
    with psycopg.connect(admin) as elsewhere, psycopg.connect(there) as another:
        found = {one.identity.number for one in observe_application_sessions.fn(propertypulse).sessions}
        for other in (elsewhere, another):
            began = other.execute(
                "SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ).fetchone()
            assert began is not None
            number = str(other.info.backend_pid)
            assert number not in found
            identity = SessionIdentity(kind="session", number=number, since=began[0])
            assert terminate_session.fn(propertypulse, identity) == "over"
            assert other.execute("SELECT 1").fetchone() == (1,)


def test_a_mongodb_operation_is_ended_only_if_it_is_of_the_same_client(
    invoice: ServiceProfile, endpoints: Endpoints
) -> None:
    client: MongoClient[dict[str, Any]]
    with MongoClient(endpoints.mongodb_url, appname="worker") as client:
        client["invoice"]["users"].find_one()
        found = observe_application_sessions.fn(invoice).sessions
        # This server shows each connection with the last that it did.
        identity = next(one.identity for one in found if one.who.endswith(", worker"))
        other = identity.model_copy(update={"client": "10.0.0.5:1"})
        assert terminate_session.fn(invoice, other) == "over"
        assert terminate_session.fn(invoice, identity) == "gone"
        assert client["invoice"]["users"].find_one() is not None
