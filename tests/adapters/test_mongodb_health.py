"""How a MongoDB server is: what it says is put in one form, and what it does not say is not known."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from deployments.sandbox.endpoints import Endpoints
from tasks import mongodb, mongodb_health
from tasks.errors import AccessDeniedError, SourceError, UnreachableError
from tasks.mongodb_health import (
    observe_mongodb,
    read_cache,
    read_connections,
    read_disk,
    read_operation,
    read_sessions,
)
from tasks.mongodb_replication import read_replica_set
from tasks.records.database_health import CacheReads, Connections, DatabaseHealth, Disk
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tests.adapters.conftest import silent_about

NOW = datetime(2026, 11, 22, 6, 15, tzinfo=UTC)
Document = dict[str, Any]


@pytest.fixture
def database(endpoints: Endpoints) -> Iterator[Database[Document]]:
    client: MongoClient[Document]
    with MongoClient(endpoints.mongodb_admin_url) as client:
        made: Database[Document] = client[f"health_{uuid.uuid4().hex[:8]}"]
        made["books"].insert_many([{"_id": number, "title": "t" * 100} for number in range(50)])
        made["books"].create_index("title")
        made["odd |name"].insert_one({"_id": 1})
        made.create_collection("shelf", viewOn="books", pipeline=[])
        yield made
        client.drop_database(made.name)


def observe(invoice: ServiceProfile, folder: Path, url: str, database: str) -> DatabaseHealth:
    """Observe as the user of this URL, which is of another database perhaps."""
    (folder / ".env").write_text(f"MONGODB_URI=mongodb://nobody@127.0.0.1:9/{database}\n")
    secret = folder / "admin-url"
    secret.touch(mode=0o600)
    secret.write_text(url)
    profile = invoice.model_copy(
        update={
            "application": invoice.application.model_copy(update={"directory": folder}),
            "database": invoice.database.model_copy(update={"admin_url": f"file:{secret}"}),
        }
    )
    return observe_mongodb.fn(profile, NOW)


def test_sizes_are_of_every_collection_and_views_take_nothing(
    database: Database[Document], endpoints: Endpoints, invoice: ServiceProfile, tmp_path: Path
) -> None:
    health = observe(invoice, tmp_path, endpoints.mongodb_admin_url, database.name)
    assert isinstance(health.relations, tuple)
    assert [(size.name, size.entries) for size in health.relations] == [("books", 50), ("odd |name", 1)]
    assert health.relations[0].data_bytes > 50 * 100
    assert health.relations[0].index_bytes > 0
    assert isinstance(health.total_bytes, int)
    assert health.total_bytes >= health.relations[0].total_bytes
    assert isinstance(health.connections, Connections)
    assert health.connections.current > 0
    assert not isinstance(health.sessions, Unknown)
    assert not isinstance(health.replication, Unknown)


def test_what_this_user_may_not_see_is_not_known_and_the_rest_is(
    endpoints: Endpoints, invoice: ServiceProfile, tmp_path: Path
) -> None:
    health = observe(invoice, tmp_path, endpoints.mongodb_url, "invoice")
    refused = [
        found.why for found in health.observations if isinstance(found, Unknown) and "role" in found.why
    ]
    # Connections, sessions, cache.
    assert len(refused) == 3
    for why in refused:
        assert why.startswith("MongoDB does not allow this user: ")
        assert why.endswith(
            ": give the user of database.admin_url the role clusterMonitor, and read on the database."
        )
    assert isinstance(health.relations, tuple)


def test_a_look_that_hangs_does_not_lose_the_others(
    database: Database[Document],
    endpoints: Endpoints,
    invoice: ServiceProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mongodb_health, "_SIZES_SECONDS", 0.3)
    with silent_about(endpoints.mongodb_admin_url, b"collStats") as url:
        health = observe(invoice, tmp_path, url, database.name)
    assert isinstance(health.relations, Unknown)
    assert "does not answer" in health.relations.why
    assert isinstance(health.total_bytes, int)
    assert isinstance(health.connections, Connections)


def test_a_server_that_is_away_and_one_that_refuses_the_user_are_errors(
    endpoints: Endpoints, invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb, "_SELECTION_MILLISECONDS", 300)
    with pytest.raises(UnreachableError, match="does not answer"):
        observe(invoice, tmp_path, "mongodb://127.0.0.1:9/admin?directConnection=true", "books")
    stranger = endpoints.mongodb_admin_url.replace("mongodb://", "mongodb://x", 1)
    with pytest.raises(AccessDeniedError, match="refuses the user"):
        observe(invoice, tmp_path, stranger, "books")


def test_the_disk_is_what_the_server_says_of_it() -> None:
    assert read_disk({"fsTotalSize": 1000.0, "fsUsedSize": 300.0}) == Disk(total_bytes=1000, free_bytes=700)
    with pytest.raises(SourceError, match="does not say how large its disk is"):
        read_disk({"dataSize": 5})


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ({"current": 20, "available": 80, "totalCreated": 500}, 100),
        ({"current": 100, "available": 0, "active": 3, "totalCreated": 500}, 100),
        ({"current": 5, "available": 0, "totalCreated": 15}, None),
    ],
)
def test_the_limit_of_connections_is_what_the_server_says_of_it(said: Document, limit: int | None) -> None:
    found = read_connections({"connections": said})
    assert found == Connections(current=said["current"], limit=limit)


def test_the_cache_is_counted_in_pages() -> None:
    cache = {"pages requested from the cache": 900, "pages read into cache": 30, "bytes": 1}
    assert read_cache({"wiredTiger": {"cache": cache}}) == CacheReads(wanted=900, from_disk=30)
    for status in ({}, {"wiredTiger": {"cache": {"pages read into cache": 30}}}):
        with pytest.raises(SourceError, match="does not count"):
            read_cache(status)


def operation(**changed: Any) -> Document:
    """An operation as ``currentOp`` of a real server has it."""
    return {
        "active": True,
        "opid": 4711,
        "op": "command",
        "ns": "invoice.auditLogs",
        "client": "10.0.0.5:40000",
        "appName": "backend",
        "effectiveUsers": [{"user": "app", "db": "invoice"}],
        "secs_running": 90,
        "waitingForLock": False,
        "command": {"aggregate": "auditLogs", "pipeline": [{"$match": {"token": "hunter2"}}]},
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "doing"),
    [
        ({}, "aggregate on invoice.auditLogs"),
        ({"op": "update", "command": {"q": {"token": "hunter2"}, "u": {}}}, "update on invoice.auditLogs"),
        ({"op": "query", "ns": "", "command": {"find": 1}}, "query"),
        ({"command": {"hunter2 is the token": 1}}, "a command on invoice.auditLogs"),
        ({"command": {}}, "a command on invoice.auditLogs"),
    ],
)
def test_an_operation_is_shown_by_its_commands_name_and_no_value(changed: Document, doing: str) -> None:
    (session,) = read_operation(operation(**changed))
    assert (session.identity, session.who, session.doing) == ("operation 4711", "app, backend", doing)
    assert session.seconds == 90
    assert "hunter2" not in session.model_dump_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"active": False},
        {"secs_running": 0},
        {"ns": "local.oplog.rs", "op": "getmore"},
        {"command": {"hello": 1}, "ns": "admin.$cmd"},
        {"op": "none"},
        {"command": {"createIndexes": "auditLogs"}},
        {"client": ""},
    ],
    ids=["idle", "just begun", "a replica's", "a driver's", "nothing", "an index", "the server's own"],
)
def test_what_is_left_open_on_purpose_is_no_long_operation(changed: Document) -> None:
    assert list(read_operation(operation(**changed))) == []


def test_one_that_waits_for_a_lock_is_told_from_the_first_second() -> None:
    (session,) = read_operation(operation(secs_running=0, waitingForLock=True))
    assert session.seconds == 0


def test_only_who_waits_in_the_services_own_database_is_told_to_wait() -> None:
    ours = operation(waitingForLock=True)
    others = operation(opid=4712, ns="invoice_archive.books", waitingForLock=True)
    found = read_sessions({"inprog": [ours, others]}, "invoice")
    assert [wait.session.identity for wait in found.blocked] == ["operation 4711"]
    assert len(found.working) == 2


def member(name: str, state: int, said: str, behind: float, health: float = 1.0) -> Document:
    return {
        "name": name,
        "state": state,
        "stateStr": said,
        "health": health,
        "optimeDate": NOW - timedelta(seconds=behind),
    }


def test_replicas_are_held_against_the_primary() -> None:
    found = read_replica_set(
        {
            "members": [
                member("a", 1, "PRIMARY", 0),
                member("b", 2, "SECONDARY", 12),
                member("c", 2, "SECONDARY", -1),
                {"name": "d", "state": 7, "stateStr": "ARBITER", "health": 1.0},
                member("e", 8, "(not reachable/healthy)", 900, health=0.0),
                member("f", 3, "RECOVERING", 900),
                member("g", 2, "SECONDARY", 3605),
            ]
        },
        {"g": 3600.0},
    )
    assert found.has_primary
    seen = [(one.name, one.healthy, one.lag_seconds) for one in found.replicas]
    assert seen == [
        ("b", True, 12),
        ("c", True, 0),
        ("d", True, None),
        ("e", False, None),
        ("f", False, None),
        # Behind on purpose, by an hour.
        ("g", True, 5),
    ]


def test_a_set_without_a_primary_is_told() -> None:
    found = read_replica_set({"members": [member("b", 2, "SECONDARY", 0)]}, {})
    assert not found.has_primary
    assert found.replicas[0].lag_seconds is None
