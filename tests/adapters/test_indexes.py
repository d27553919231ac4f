"""Indexes on real servers: listed rightly, built without blocking; what keeps one from being unique."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from socket import SHUT_RDWR, create_connection, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from deployments.sandbox.endpoints import Endpoints
from tasks import mongodb_indexes, postgresql_indexes
from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError, UnreachableError
from tasks.mongodb_indexes import MongodbIndexes
from tasks.postgresql_indexes import PostgresqlIndexes
from tasks.records.data_care import RecommendedIndex
from tasks.records.indexes import DuplicateValue, IndexFacts
from tests.mongodb_relay import relay_to_mongodb

SCHEMA = """
CREATE TABLE "Mixed" (
    "userId" int PRIMARY KEY, "E mail" text, born date, body text, code text UNIQUE, held int NOT NULL);
CREATE INDEX "Odd ""Name" ON "Mixed" ("E mail" DESC, born);
CREATE INDEX expression ON "Mixed" (lower("E mail"), born DESC);
CREATE INDEX collated_expression ON "Mixed" (lower("E mail") COLLATE "C", born DESC);
CREATE INDEX partial ON "Mixed" (born) WHERE body IS NOT NULL;
CREATE INDEX covering ON "Mixed" (born) INCLUDE (body, code);
CREATE INDEX pattern ON "Mixed" ("E mail" text_pattern_ops);
CREATE INDEX collated ON "Mixed" (body COLLATE "C");
CREATE INDEX nulls ON "Mixed" (born NULLS FIRST, body DESC NULLS LAST);
CREATE INDEX hashed ON "Mixed" USING hash (body);
CREATE UNIQUE INDEX one_null ON "Mixed" (born) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX referenced ON "Mixed" (held);
CREATE TABLE child (held int REFERENCES "Mixed" (held), n int, text text);
CREATE SCHEMA other;
CREATE TABLE other."Mixed" (id int);
CREATE INDEX ON other."Mixed" (id);
CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE part PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON parts (id);
CREATE VIEW seen AS SELECT * FROM child;
"""


def index(source: str, name: str, *key: tuple[str, str], **facts: Any) -> IndexFacts:
    return IndexFacts(source=source, name=name, key=key, **facts)


def want(source: str, *fields: str, unique: bool = True) -> RecommendedIndex:
    return RecommendedIndex.model_validate(
        {"source": source, "key": dict.fromkeys(fields, 1), "unique": unique}
    )


class Postgresql:
    """A database of the test's own, and its indexes."""

    def __init__(self, url: str) -> None:
        self.url, self.server = url, PostgresqlIndexes(url)

    def run(self, text: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(text.encode())

    @contextmanager
    def open_transaction(self, text: str) -> Iterator[None]:
        """A transaction of the application's that does not end."""
        with psycopg.connect(self.url) as connection:
            connection.execute(text.encode())
            yield

    def leave_invalid(self, name: str) -> None:
        """Let a unique build fail as it does at a shell."""
        with pytest.raises(psycopg.errors.UniqueViolation):
            self.run(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON child (n)")

    def names(self, source: str = "child") -> dict[str, bool]:
        return {one.name: one.is_valid for one in self.server.list_indexes() if one.source == source}


@pytest.fixture
def postgresql(endpoints: Endpoints) -> Iterator[Postgresql]:
    name = f"indexed_{os.getpid()}_{time.monotonic_ns() % 10**12}"
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made = Postgresql(f"{endpoints.postgresql_admin_url.rpartition('/')[0]}/{name}")
        made.run(SCHEMA)
        yield made
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def mongodb(endpoints: Endpoints) -> Iterator[Database[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]]
    with MongoClient(endpoints.mongodb_admin_url) as client:
        name = f"indexed_{os.getpid()}_{time.monotonic_ns() % 10**12}"
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def of_mongodb(endpoints: Endpoints, mongodb: Database[dict[str, Any]]) -> MongodbIndexes:
    return MongodbIndexes(endpoints.mongodb_admin_url.replace("/admin?", f"/{mongodb.name}?"))


# --- Listed rightly ---


def test_every_kind_of_postgresql_index_is_listed_as_it_is(postgresql: Postgresql) -> None:
    assert postgresql.server.list_sources() == ("Mixed", "child", "other.Mixed", "part", "parts")
    found = postgresql.server.list_indexes()
    assert all(one.bytes > 0 for one in found if one.source == "Mixed")
    assert all(one.is_valid and not one.is_building for one in found)
    assert all(one.uses == 0 for one in found if one.source == "Mixed")
    assert {(one.source, one.name, one.key, one.special) for one in found} == {
        ("Mixed", "Mixed_pkey", (("userId", "1"),), ""),
        ("Mixed", "Mixed_code_key", (("code", "1"),), ""),
        ("Mixed", 'Odd "Name', (("E mail", "-1"), ("born", "1")), ""),
        ("Mixed", "expression", (('lower("E mail")', "1"), ("born", "-1")), ""),
        (
            "Mixed",
            "collated_expression",
            (('lower("E mail")', "1"), ("born", "-1")),
            'lower("E mail") collation C',
        ),
        ("Mixed", "partial", (("born", "1"),), "WHERE body IS NOT NULL"),
        ("Mixed", "covering", (("born", "1"),), "INCLUDE (body, code)"),
        ("Mixed", "pattern", (("E mail", "1"),), "E mail text_pattern_ops"),
        ("Mixed", "collated", (("body", "1"),), "body collation C"),
        ("Mixed", "nulls", (("born", "1"), ("body", "-1")), "born NULLS FIRST, body NULLS LAST"),
        ("Mixed", "hashed", (("body", "hash"),), ""),
        ("Mixed", "one_null", (("born", "1"),), "NULLS NOT DISTINCT"),
        ("Mixed", "referenced", (("held", "1"),), ""),
        ("other.Mixed", "Mixed_id_idx", (("id", "1"),), ""),
        ("parts", "parts_id_idx", (("id", "1"),), ""),
        ("part", "part_id_idx", (("id", "1"),), ""),
    }
    assert {one.name for one in found if one.unique} == {
        "Mixed_pkey",
        "Mixed_code_key",
        "one_null",
        "referenced",
    }
    # A key that another table refers to nobody can drop; what is a partitioned table's only by barring it.
    held = {"Mixed_pkey", "Mixed_code_key", "referenced", "parts_id_idx", "part_id_idx"}
    assert {one.name for one in found if one.is_constraint} == held
    for name in ("parts_id_idx", "part_id_idx"):
        with pytest.raises(psycopg.Error, match=r"partitioned index|requires it"):
            postgresql.run(f"DROP INDEX CONCURRENTLY {name}")


def test_a_postgresql_index_is_made_again_by_its_definition(postgresql: Postgresql) -> None:
    before = {one.name: one for one in postgresql.server.list_indexes()}
    for name in ('Odd "Name', "expression", "partial", "nulls"):
        postgresql.server.drop(before[name])
        assert name not in postgresql.names("Mixed")
        postgresql.run(before[name].definition)
    assert {one.name: one for one in postgresql.server.list_indexes()} == before


def test_every_kind_of_mongodb_index_is_listed_as_it_is(
    mongodb: Database[dict[str, Any]], of_mongodb: MongodbIndexes
) -> None:
    odd = mongodb["odd name/%"]
    # A direction may be any number, from a shell.
    built = {"key": {"a": 5, "b": -1.0}, "name": "by a and b", "unique": True}
    mongodb.command({"createIndexes": "odd name/%", "indexes": [built]})
    odd.create_index("a", name="partial", partialFilterExpression={"b": {"$gt": 1}}, sparse=False)
    odd.create_index("b", expireAfterSeconds=60, hidden=True)
    odd.create_index("c", collation={"locale": "de", "strength": 2}, sparse=True)
    odd.create_index([("place", "2d")])
    german = mongodb.create_collection("german", collation={"locale": "de"})
    german.create_index("name", collation={"locale": "de"})
    of_mongodb.build(index("german", "ours", ("n", "1")))
    mongodb.create_collection("seen", viewOn="german", pipeline=[])

    assert of_mongodb.list_sources() == ("german", "odd name/%")
    found = of_mongodb.list_indexes()
    assert {(one.source, one.name, one.key, one.unique, one.special) for one in found} == {
        ("german", "_id_", (("_id", "1"),), True, ""),
        # They have the collection's own collation.
        ("german", "name_1", (("name", "1"),), False, ""),
        ("german", "ours", (("n", "1"),), False, ""),
        ("odd name/%", "_id_", (("_id", "1"),), True, ""),
        ("odd name/%", "by a and b", (("a", "1"), ("b", "-1")), True, ""),
        ("odd name/%", "partial", (("a", "1"),), False, 'partial {"b": {"$gt": 1}}'),
        ("odd name/%", "b_1", (("b", "1"),), False, "hidden, TTL 60 s"),
        ("odd name/%", "c_1", (("c", "1"),), False, "sparse, collation de, strength 2"),
        ("odd name/%", "place_2d", (("place", "2d"),), False, ""),
    }
    assert {one.name for one in found if one.is_constraint} == {"_id_"}
    assert all(one.is_valid for one in found)


# --- Built and dropped ---


def test_a_postgresql_index_is_built_as_it_was_asked_for_and_used(postgresql: Postgresql) -> None:
    for asked in (
        index("Mixed", 'new "one"', ("E mail", "1"), ("body", "-1")),
        index("other.Mixed", "other one", ("id", "-1"), unique=True),
    ):
        postgresql.server.build(asked)
        (built,) = (one for one in postgresql.server.list_indexes() if one.name == asked.name)
        assert (built.source, built.key, built.unique) == (asked.source, asked.key, asked.unique)
        assert built.is_valid
        assert built.special == ""
        assert postgresql.server.explain(built) == asked.name
        postgresql.server.drop(built)
        postgresql.server.drop(built)
        assert asked.name not in postgresql.names(asked.source)


def test_a_mongodb_index_is_built_as_it_was_asked_for_and_used(
    mongodb: Database[dict[str, Any]], of_mongodb: MongodbIndexes
) -> None:
    mongodb["odd name/%"].insert_many([{"a": n, "b": {"c": n}} for n in range(50)])
    asked = index("odd name/%", "new one", ("a", "1"), ("b.c", "-1"), unique=True)
    of_mongodb.build(asked)
    (built,) = (one for one in of_mongodb.list_indexes() if one.name == asked.name)
    assert (built.source, built.key, built.unique) == (asked.source, asked.key, True)
    assert built.bytes > 0
    assert of_mongodb.explain(built) == asked.name
    assert of_mongodb.clear(built)
    of_mongodb.drop(built)
    of_mongodb.drop(built)
    assert not of_mongodb.clear(built)
    with pytest.raises(RunbookError):
        of_mongodb.explain(built)


STANDALONE, ROUTER = {"setName": None, "msg": None}, {"setName": None, "msg": "isdbgrid"}


@pytest.mark.parametrize(
    ("server", "waits_for"),
    [
        (([8, 2, 11, 0], {}), "majority"),
        (([4, 4, 0, 0], {}), "majority"),
        (([4, 4, 0, 0], ROUTER), "majority"),
        # Before 4.4 there is no such option, and a server without members refuses it.
        (([4, 2, 24, 0], {}), None),
        (([8, 2, 11, 0], STANDALONE), None),
    ],
)
def test_a_build_waits_for_most_members_and_not_for_each_that_votes(
    server: tuple[list[int], dict[str, str | None]],
    waits_for: str | None,
    mongodb: Database[dict[str, Any]],
    endpoints: Endpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version, topology = server

    def present(said: dict[str, Any]) -> dict[str, Any]:
        if "versionArray" in said:
            return said | {"versionArray": version}
        changed = said | topology if "setName" in said else said
        return {name: value for name, value in changed.items() if value is not None}

    listener = _Listener()
    monkeypatch.setattr("tasks.mongodb.MongoClient", partial(MongoClient, event_listeners=[listener]))
    mongodb["child"].insert_one({"n": 1})
    asked = index("child", "new", ("n", "1"))
    with relay_to_mongodb(
        endpoints.mongodb_admin_url.replace("/admin?", f"/{mongodb.name}?"), present
    ) as url:
        MongodbIndexes(url).build(asked)
    (sent,) = (command for name, command in listener.sent if name == "createIndexes")
    assert sent.get("commitQuorum") == waits_for
    assert "new" in mongodb["child"].index_information()


class _Listener(CommandListener):
    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


def test_a_killed_runs_build_that_does_not_end_is_not_waited_for_for_ever(
    mongodb: Database[dict[str, Any]], endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb_indexes, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(mongodb_indexes, "_CLEAR_SECONDS", 0.3)
    mongodb["child"].create_index("n", name="new")

    def build_on(said: dict[str, Any]) -> dict[str, Any]:
        return said | {"indexBuilds": ["new"]} if "indexSizes" in said else said

    with relay_to_mongodb(
        endpoints.mongodb_admin_url.replace("/admin?", f"/{mongodb.name}?"), build_on
    ) as url:
        with pytest.raises(RunbookError, match=r"new on child.* is still being built after") as raised:
            MongodbIndexes(url).clear(index("child", "new", ("n", "1")))
        assert not isinstance(raised.value, UnreachableError), "what is not tried again"
        assert "If members of the replica set are away, bring them back" in str(raised.value)


def test_a_build_takes_its_place_though_the_application_writes(postgresql: Postgresql) -> None:
    """The writer of before ends only when the build waits for it; meanwhile others go on writing."""
    asked = index("child", "new", ("n", "1"))
    build = threading.Thread(target=postgresql.server.build, args=(asked,))
    with postgresql.open_transaction("INSERT INTO child (n) VALUES (1)"):
        build.start()
        wait_until(lambda: postgresql.server.read_progress(asked))
        assert "waiting for writers" in str(postgresql.server.read_progress(asked))
        (seen,) = (one for one in postgresql.server.list_indexes() if one.name == "new")
        assert seen.is_building
        assert not seen.is_valid
        postgresql.run("SET lock_timeout = '1s'; INSERT INTO child (n) VALUES (2)")
    build.join()
    assert postgresql.names() == {"new": True}
    assert postgresql.server.read_progress(asked) is None


def wait_until(what: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.01)


# --- Not built ---


def test_a_transaction_that_does_not_end_stops_a_build_whose_rest_goes_when_it_has_ended(
    postgresql: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_indexes, "_LOCK_TIMEOUT", "100ms")
    asked = index("child", "new", ("n", "1"))
    with (
        postgresql.open_transaction("INSERT INTO child (n) VALUES (1)"),
        pytest.raises(RunbookError, match="waited 100ms for a transaction that does not end") as raised,
    ):
        postgresql.server.build(asked)
    assert "What it left could not be dropped" in str(raised.value)
    assert postgresql.names() == {"new": False}
    assert not postgresql.server.clear(asked)
    assert postgresql.names() == {}


def test_a_value_that_is_too_long_stops_a_build_that_leaves_nothing(postgresql: Postgresql) -> None:
    postgresql.run(
        "INSERT INTO child (text) SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n"
    )
    with pytest.raises(RunbookError, match="index row"):
        postgresql.server.build(index("child", "new", ("text", "1")))
    assert postgresql.names() == {}


def test_a_value_that_came_in_twice_is_said_in_one_sentence_without_it(
    postgresql: Postgresql, mongodb: Database[dict[str, Any]], of_mongodb: MongodbIndexes
) -> None:
    postgresql.run("INSERT INTO child (text) VALUES ('ada@example.com'), ('ada@example.com')")
    mongodb["child"].insert_many([{"text": "ada@example.com"}, {"text": "ada@example.com"}])
    servers: list[PostgresqlIndexes | MongodbIndexes] = [postgresql.server, of_mongodb]
    for server in servers:
        with pytest.raises(RunbookError, match="a value came in twice since the plan was made") as raised:
            server.build(index("child", "new", ("text", "1"), unique=True))
        assert "ada" not in str(raised.value)
        assert "new" not in {one.name for one in server.list_indexes()}


def test_what_a_failed_build_left_is_built_again_in_its_place(postgresql: Postgresql) -> None:
    postgresql.run("INSERT INTO child (n) VALUES (1), (1)")
    postgresql.leave_invalid("left_over")
    (left,) = (one for one in postgresql.server.list_indexes() if one.name == "left_over")
    assert (left.is_valid, left.is_building, left.unique) == (False, False, True)

    with pytest.raises(RunbookError, match="came in twice"):
        postgresql.server.build(left)
    assert postgresql.names() == {"left_over": False}, "a rebuild that fails leaves nothing of its own"

    postgresql.run("DELETE FROM child; INSERT INTO child (n) VALUES (1), (2)")
    postgresql.server.build(left)
    assert postgresql.names() == {"left_over": True}
    with pytest.raises(psycopg.errors.UniqueViolation):
        postgresql.run("INSERT INTO child (n) VALUES (1)")


def test_only_what_the_failed_build_left_is_cleared(postgresql: Postgresql) -> None:
    postgresql.run("INSERT INTO child (n) VALUES (1), (1); CREATE INDEX good ON child (n)")
    for name in ("ours", "anothers", "ours_ccnew"):
        postgresql.leave_invalid(name)
    assert not postgresql.server.clear(index("child", "ours", ("n", "1"), unique=True))
    assert postgresql.names() == {"good": True, "anothers": False}
    assert postgresql.server.clear(index("child", "good", ("n", "1")))
    assert postgresql.names() == {"good": True, "anothers": False}


def test_who_may_not_change_indexes_is_told_which_privilege_is_missing(
    postgresql: Postgresql, mongodb: Database[dict[str, Any]], endpoints: Endpoints
) -> None:
    role = f"reader_{postgresql.url.rpartition('/')[2]}"
    postgresql.run(f"CREATE ROLE {role} LOGIN PASSWORD 'reads'; GRANT SELECT ON child TO {role}")
    mongodb["child"].insert_one({"n": 1})
    mongodb.command({"createUser": role, "pwd": "reads", "roles": [{"role": "read", "db": mongodb.name}]})
    place = endpoints.mongodb_admin_url.rpartition("@")[2].partition("/")[0]
    readers: list[tuple[PostgresqlIndexes | MongodbIndexes, str]] = [
        (
            PostgresqlIndexes(f"postgresql://{role}:reads@{postgresql.url.rpartition('@')[2]}"),
            "takes the owner of the table",
        ),
        (
            MongodbIndexes(f"mongodb://{role}:reads@{place}/{mongodb.name}?directConnection=true"),
            "grant it the role readWrite",
        ),
    ]
    try:
        for server, said in readers:
            assert "child" in server.list_sources()
            server.list_indexes()
            with pytest.raises(AccessDeniedError, match=said):
                server.build(index("child", "new", ("n", "1")))
            assert "new" not in {one.name for one in server.list_indexes()}
    finally:
        postgresql.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
        mongodb.command("dropUser", role)


@contextmanager
def pooler_before(url: str) -> Iterator[str]:
    """A relay that, as a pooler, names another process than the server's when it lets somebody in."""

    class Relay(BaseRequestHandler):
        def handle(self) -> None:
            with create_connection(("127.0.0.1", urlsplit(url).port or 5432)) as server:
                asking = threading.Thread(target=self.pass_on, args=(self.request, server), daemon=True)
                asking.start()
                self.pass_on(server, self.request)

        def pass_on(self, source: socket, sink: socket) -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    sink.sendall(re.sub(rb"(?<=K\x00\x00\x00\x0c)....", b"1234", data, flags=re.DOTALL))
                sink.shutdown(SHUT_RDWR)

    with ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
        login = urlsplit(url).netloc.rpartition("@")[0]
        yield urlsplit(url)._replace(netloc=f"{login}@127.0.0.1:{relay.server_address[1]}").geturl()
        relay.shutdown()


def test_nothing_is_built_through_a_pooler_which_would_hand_its_settings_on(postgresql: Postgresql) -> None:
    with pooler_before(postgresql.url) as url:
        server = PostgresqlIndexes(url)
        assert "child" in server.list_sources()
        with pytest.raises(ConfigurationError, match=r"is a pooler's.* DIRECT_URL"):
            server.build(index("child", "new", ("n", "1")))
    assert "new" not in postgresql.names()


# --- What a build would meet ---


def test_what_keeps_a_postgresql_index_from_being_built_is_seen_before(postgresql: Postgresql) -> None:
    assert "partitioned" in postgresql.server.examine(want("parts", "day")).obstacle
    met = postgresql.server.examine(want("Mixed", "email"))
    assert met.columns == ("userId", "E mail", "born", "body", "code", "held")
    assert met.duplicates == ()
    assert met.free_bytes is None


def test_postgresql_duplicates_are_named_by_the_primary_key_or_the_place(postgresql: Postgresql) -> None:
    postgresql.run(
        """DROP INDEX one_null;
           INSERT INTO "Mixed" ("userId", "E mail", born, held)
           SELECT n, CASE WHEN n <= 7 THEN 'same' WHEN n <= 9 THEN 'other' END, NULL, n
           FROM generate_series(1, 12) n;
           INSERT INTO child (n) VALUES (1), (1)"""
    )
    found = postgresql.server.examine(want("Mixed", "E mail")).duplicates
    assert found == (
        DuplicateValue(count=7, entries=tuple(f"userId {n}" for n in range(1, 6))),
        DuplicateValue(count=2, entries=("userId 8", "userId 9")),
    )
    # Nulls are no duplicates, and none of a pair that has one.
    assert postgresql.server.examine(want("Mixed", "E mail", "born")).duplicates == ()
    assert postgresql.server.examine(want("Mixed", "E mail", "userId")).duplicates == ()
    assert postgresql.server.examine(want("Mixed", "E mail", unique=False)).duplicates == ()
    (nameless,) = postgresql.server.examine(want("child", "n")).duplicates
    assert nameless.entries == ("row (0,1)", "row (0,2)")


def test_of_very_many_duplicates_eleven_are_enough(
    postgresql: Postgresql, mongodb: Database[dict[str, Any]], of_mongodb: MongodbIndexes
) -> None:
    postgresql.run("INSERT INTO child (n) SELECT n / 2 FROM generate_series(2, 61) n")
    mongodb["child"].insert_many([{"n": n // 2} for n in range(60)])
    assert len(postgresql.server.examine(want("child", "n")).duplicates) == 11
    assert len(of_mongodb.examine(want("child", "n")).duplicates) == 11


def test_mongodb_duplicates_are_named_by_their_id(
    mongodb: Database[dict[str, Any]], of_mongodb: MongodbIndexes
) -> None:
    an_id = ObjectId()
    mongodb["users"].insert_many(
        [
            *({"_id": n, "email": "same", "b": {"c": 1}} for n in range(6)),
            {"_id": an_id, "email": "other"},
            {"_id": "x", "email": "other"},
        ]
    )
    met = of_mongodb.examine(want("users", "email"))
    assert met.duplicates == (
        DuplicateValue(count=6, entries=tuple(f"_id {n}" for n in range(5))),
        DuplicateValue(count=2, entries=("_id x", f"_id {an_id}")),
    )
    assert met.bytes > 0
    assert of_mongodb.examine(want("users", "b.c", "_id")).duplicates == ()
    (pair,) = of_mongodb.examine(want("users", "b.c", "email")).duplicates[:1]
    assert pair.count == 6


VALUES = st.sampled_from([..., None, 1, 1.0, "a", [], [1, 2], [2, 2], ["a"], {"c": 1}, {"c": None}])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(VALUES, st.sampled_from([..., None, 1])), max_size=4), st.booleans())
def test_mongodb_builds_a_unique_index_just_when_no_duplicates_are_found(
    mongodb: Database[dict[str, Any]], of_mongodb: MongodbIndexes, pairs: list[tuple[Any, Any]], nested: bool
) -> None:
    documents = [{f: v for f, v in (("a", a), ("b", b)) if v is not ...} for a, b in pairs]
    mongodb.drop_collection("any")
    mongodb.create_collection("any")
    if documents:
        mongodb["any"].insert_many(documents)
    fields = ("a.c" if nested else "a", "b")
    found = of_mongodb.examine(want("any", *fields)).duplicates
    try:
        mongodb["any"].create_index([(field, 1) for field in fields], unique=True)
    except DuplicateKeyError:
        # Of arrays without a value for the key, only the build itself knows.
        assert found or any(isinstance(a, list) for a, _ in pairs)
    else:
        assert not found
    assert all(len(one.entries) <= one.count for one in found)
