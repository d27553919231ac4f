"""The care of indexes against real servers: what is empty, dead, near its end, left over or not counted."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from bson import json_util
from psycopg import sql
from pymongo import MongoClient
from pymongo.database import Database

from deployments.sandbox.endpoints import Endpoints
from flows.decisions.index_findings import find_leftovers
from tasks import postgresql_index_care
from tasks.errors import NotFoundError, RunbookError
from tasks.mongodb import address_member
from tasks.mongodb_index_care import MongodbIndexCare, read_reusable
from tasks.postgresql_bloat import Pages, estimate_wasted
from tasks.postgresql_index_care import PostgresqlIndexCare
from tasks.records.index_care import CareAct, IndexCareFacts
from tests.mongodb_relay import NOBODY, add_member_away, relay_to_mongodb

# Vacuum is the test's own business here.
SCHEMA = """
CREATE SCHEMA other;
CREATE TABLE wide (id serial PRIMARY KEY, body text, number int) WITH (autovacuum_enabled = false);
CREATE INDEX wide_body ON wide (body);
CREATE INDEX wide_expression ON wide (lower(body)) WITH (fillfactor = 50);
CREATE TABLE other.wide (id int PRIMARY KEY, note text);
CREATE INDEX "Odd Name" ON other.wide (note DESC NULLS LAST) INCLUDE (id) WHERE note <> '';
INSERT INTO wide (body, number) SELECT repeat(md5(n::text), 3), n FROM generate_series(1, 10000) n;
"""


class Postgresql:
    """A database of the test's own, and its care."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        reference = folder / "admin-url"
        reference.write_text(url)
        reference.chmod(0o600)
        self.care = PostgresqlIndexCare(f"file:{reference}", url)

    def run(self, *statements: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = None
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor and cursor.description else []

    def bloat(self) -> dict[str, tuple[float, bool]]:
        return {bloat.name: (bloat.wasted, bloat.measured) for bloat in self.care.observe().bloat}

    @contextmanager
    def open_transaction(self, statement: str) -> Iterator[None]:
        """A transaction of the application's that does not end."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SET application_name = 'a long report'")
            connection.execute(statement.encode())
            yield
            connection.rollback()


@pytest.fixture
def postgresql(endpoints: Endpoints, tmp_path: Path) -> Iterator[Postgresql]:
    name = f"care_{os.getpid()}_{time.monotonic_ns() % 10**12}"
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made = Postgresql(f"{endpoints.postgresql_admin_url.rpartition('/')[0]}/{name}", tmp_path)
        made.run(SCHEMA)
        yield made
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def mongodb(
    endpoints: Endpoints, tmp_path: Path
) -> Iterator[tuple[MongodbIndexCare, Database[dict[str, Any]]]]:
    name = f"care_{os.getpid()}_{time.monotonic_ns() % 10**12}"
    reference = tmp_path / "admin-url"
    reference.write_text(endpoints.mongodb_admin_url)
    reference.chmod(0o600)
    url = endpoints.mongodb_admin_url.replace("/admin?", f"/{name}?")
    client: MongoClient[dict[str, Any]] = MongoClient(endpoints.mongodb_admin_url)
    with client:
        client[name]["users"].insert_many([{"_id": n, "email": f"{n}@x"} for n in range(20)])
        client[name]["users"].create_index([("email", -1)], name="by_email", sparse=True)
        yield MongodbIndexCare(f"file:{reference}", url), client[name]
        client.drop_database(name)


# --- PostgreSQL: bloat ---


def test_the_estimate_and_the_measurement_agree_before_and_after_rows_went(postgresql: Postgresql) -> None:
    postgresql.run("REINDEX TABLE wide", "VACUUM ANALYZE wide")
    estimated = postgresql.bloat()
    postgresql.run("CREATE SCHEMA extras", "CREATE EXTENSION pgstattuple SCHEMA extras")
    measured = postgresql.bloat()
    for name in ("wide_body", "wide_expression", "wide_pkey"):
        assert estimated[name][0] == pytest.approx(0, abs=0.07)
        assert measured[name][0] == pytest.approx(0, abs=0.07)
    assert not estimated["wide_body"][1]
    assert measured["wide_body"][1]

    postgresql.run("DELETE FROM wide WHERE number % 10 > 0", "VACUUM ANALYZE wide")
    measured = postgresql.bloat()
    postgresql.run("DROP EXTENSION pgstattuple")
    estimated = postgresql.bloat()
    for name in ("wide_body", "wide_pkey"):
        assert measured[name][0] == pytest.approx(0.85, abs=0.06)
        assert estimated[name][0] == pytest.approx(measured[name][0], abs=0.1)


def test_without_statistics_nothing_is_estimated(postgresql: Postgresql) -> None:
    assert "wide_body" not in postgresql.bloat()
    assert {table.wasted_bytes for table in postgresql.care.observe().tables} == {0}


def test_an_empty_index_wastes_nothing() -> None:
    assert estimate_wasted(0, 0, 0, Pages(8192, 90)) == 0
    assert estimate_wasted(8192, 0, 0, Pages(8192, 90)) == 0
    assert estimate_wasted(819_200, 0, 8, Pages(8192, 90)) == pytest.approx(0.99)


def test_how_empty_a_table_is_is_estimated(postgresql: Postgresql) -> None:
    def empty_share() -> float:
        postgresql.run("VACUUM ANALYZE wide")
        (table,) = (table for table in postgresql.care.observe().tables if table.source == "wide")
        ((size,),) = postgresql.run("SELECT pg_relation_size('wide')")
        return table.wasted_bytes / float(size)

    assert empty_share() < 0.05
    postgresql.run("DELETE FROM wide WHERE number % 10 > 0")
    assert empty_share() == pytest.approx(0.9, abs=0.03)


# --- PostgreSQL: tables, sequences, transactions ---


def test_dead_and_changed_rows_are_counted_against_what_autovacuum_reckons_with(
    postgresql: Postgresql,
) -> None:
    postgresql.run("VACUUM ANALYZE wide")
    postgresql.run(
        "ALTER TABLE wide SET (autovacuum_vacuum_threshold = 7, autovacuum_vacuum_scale_factor = 0.5)"
    )
    postgresql.run("DELETE FROM wide WHERE number > 4000", "SELECT pg_stat_force_next_flush()")
    (table,) = (table for table in postgresql.care.observe().tables if table.source == "wide")
    assert (table.live, table.dead, table.vacuum_above) == (4000, 6000, 5007)
    assert (table.modified, table.analyze_above, table.index_writes) == (6000, 1050, 10_000)
    assert table.last_vacuum is not None
    assert datetime.now(UTC) - table.last_vacuum < timedelta(minutes=5)


def test_a_sequence_ends_where_its_column_does(postgresql: Postgresql) -> None:
    postgresql.run(
        "CREATE TABLE fed (id int, small smallint GENERATED ALWAYS AS IDENTITY, big bigserial)",
        "CREATE SEQUENCE wider AS bigint",
        "ALTER TABLE fed ALTER id SET DEFAULT nextval('wider')",
        "CREATE SEQUENCE never_used",
        "CREATE SEQUENCE round_again MAXVALUE 10 CYCLE",
        "SELECT setval('wider', 2000000000), setval('round_again', 9)",
        "INSERT INTO fed DEFAULT VALUES",
    )
    found = {one.feeds: (one.name, one.last, one.limit) for one in postgresql.care.observe().sequences}
    assert found == {
        "fed.id": ("public.wider", 2_000_000_001, 2**31 - 1),
        "fed.small": ("public.fed_small_seq", 1, 2**15 - 1),
        "fed.big": ("public.fed_big_seq", 1, 2**63 - 1),
        "wide.id": ("public.wide_id_seq", 10_000, 2**31 - 1),
    }


def test_the_age_of_transactions_names_who_keeps_them_old(postgresql: Postgresql) -> None:
    transactions, multixacts = postgresql.care.observe().ages
    assert 0 < transactions.age < 10_000_000
    assert transactions.vacuum_above == 200_000_000
    assert multixacts.vacuum_above == 400_000_000
    assert transactions.held_by == ""


# --- PostgreSQL: acts ---


def acts_of(facts: IndexCareFacts, kind: str, key: str) -> CareAct:
    index = facts.find(key)
    assert index is not None
    return CareAct.model_validate(
        {"kind": kind, "source": index.source, "name": index.name, "definition": index.definition}
    )


def test_an_index_is_rebuilt_smaller_and_stays_the_same(postgresql: Postgresql) -> None:
    postgresql.run("DELETE FROM wide WHERE number % 10 > 0", "VACUUM wide")
    before = postgresql.care.observe()
    for key in ("wide/wide_body", "other.wide/Odd Name", "wide/wide_pkey"):
        postgresql.care.apply(acts_of(before, "rebuild", key))
    after = postgresql.care.observe()
    for index in after.indexes:
        assert index.is_valid
    old, new = before.find("wide/wide_body"), after.find("wide/wide_body")
    assert old is not None
    assert new is not None
    assert new.bytes < old.bytes / 5
    assert new.definition == old.definition
    assert {index.name for index in after.indexes} == {index.name for index in before.indexes}


def test_a_dropped_index_is_gone_may_be_dropped_again_and_is_made_again_by_its_definition(
    postgresql: Postgresql,
) -> None:
    before = postgresql.care.observe()
    drop = acts_of(before, "drop", "other.wide/Odd Name")
    for _ in range(2):
        postgresql.care.apply(drop)
    assert postgresql.care.observe().find(drop.key) is None
    postgresql.run(drop.definition)
    old, new = before.find(drop.key), postgresql.care.observe().find(drop.key)
    assert old is not None
    assert old == new


def test_dead_rows_go_and_statistics_are_made(postgresql: Postgresql) -> None:
    postgresql.run("DELETE FROM wide WHERE number > 100")
    postgresql.care.apply(CareAct(kind="vacuum", source="wide"))
    (table,) = (table for table in postgresql.care.observe().tables if table.source == "wide")
    assert (table.dead, table.modified) == (0, 0)
    postgresql.run("INSERT INTO wide (number) VALUES (1)", "SELECT pg_stat_force_next_flush()")
    postgresql.care.apply(CareAct(kind="analyze", source="wide"))
    (table,) = (table for table in postgresql.care.observe().tables if table.source == "wide")
    assert table.modified == 0


def test_an_act_on_a_table_that_is_gone_says_so(postgresql: Postgresql) -> None:
    with pytest.raises(NotFoundError, match="The table gone is gone"):
        postgresql.care.apply(CareAct(kind="vacuum", source="gone"))


def test_a_rebuild_that_finds_no_lock_says_so_and_what_it_built_can_be_dropped_later(
    postgresql: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_index_care, "_WORKING", "-c lock_timeout=300ms")
    before = postgresql.care.observe()
    with (
        postgresql.open_transaction("INSERT INTO wide (number) VALUES (1)"),
        pytest.raises(RunbookError, match=r"wide/wide_body could not be taken care of"),
    ):
        postgresql.care.apply(acts_of(before, "rebuild", "wide/wide_body"))
    leftovers = find_leftovers(postgresql.care.observe())
    assert [left.name for left in leftovers] == ["wide_body_ccnew"]
    for left in leftovers:
        postgresql.care.apply(CareAct(kind="remove", source=left.source, name=left.name))
    after = postgresql.care.observe()
    assert [(index.key, index.is_valid) for index in after.indexes] == [
        (index.key, True) for index in before.indexes
    ]


def test_the_session_of_a_killed_run_is_ended_and_nobody_elses(postgresql: Postgresql) -> None:
    ours = psycopg.connect(postgresql.url, autocommit=True, application_name="runbooks")
    # A reader is waited for before the old index is dropped; the new one is in its place by then.
    with closing(ours), postgresql.open_transaction("SELECT count(*) FROM wide"):
        ours.pgconn.send_query(b"REINDEX INDEX CONCURRENTLY wide_body")
        deadline = time.monotonic() + 10
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {}"
        while not postgresql.run(asked.format("wait_event_type = 'Lock'"))[0][0]:
            assert time.monotonic() < deadline
        postgresql.care.end_own_work()
        assert postgresql.run(asked.format("application_name = 'runbooks'"))[0][0] == 0
        assert postgresql.run(asked.format("application_name = 'a long report'"))[0][0] == 1
    left = find_leftovers(postgresql.care.observe())
    assert [index.name for index in left] == ["wide_body_ccold"]
    postgresql.care.apply(CareAct(kind="remove", source="wide", name="wide_body_ccold"))
    assert all(index.is_valid for index in postgresql.care.observe().indexes)


def test_uses_are_not_believed_where_the_server_does_not_count(postgresql: Postgresql) -> None:
    assert postgresql.care.observe_use().uncounted == ""
    name = postgresql.url.rpartition("/")[2]
    postgresql.run(f"ALTER DATABASE {name} SET track_counts = off")
    assert "track_counts is off" in postgresql.care.observe_use().uncounted


# --- MongoDB ---


def test_a_server_whose_count_stays_after_a_read_is_not_believed(
    mongodb: tuple[MongodbIndexCare, Database[dict[str, Any]]],
) -> None:
    care, database = mongodb
    assert "users was read by _id_ a moment ago, and the count stayed at 0" in care.observe_use().uncounted
    database["users"].delete_many({})
    assert care.observe_use().uncounted == (
        "no collection has a document by which to see whether this server counts uses."
    )


def test_a_server_without_compact_rebuilds_nothing_and_says_why(
    mongodb: tuple[MongodbIndexCare, Database[dict[str, Any]]],
) -> None:
    facts = mongodb[0].observe()
    assert facts.cannot_rebuild.startswith("Nothing is rebuilt: this server offers no compact")
    assert facts.spaces == ()
    with pytest.raises(RunbookError):
        mongodb[0].apply(CareAct(kind="compact", source="users"))


def test_a_member_that_does_not_answer_is_left_out_and_named(
    mongodb: tuple[MongodbIndexCare, Database[dict[str, Any]]],
    endpoints: Endpoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.mongodb._SELECTION_MILLISECONDS", 500)
    _, database = mongodb
    with relay_to_mongodb(endpoints.mongodb_admin_url, add_member_away) as url:
        (tmp_path / "admin-url").write_text(url)
        facts = MongodbIndexCare(f"file:{tmp_path / 'admin-url'}", f"mongodb://a/{database.name}").observe()
    (space,) = facts.spaces
    assert (space.source, space.is_primary) == ("users", True)
    assert space.member == urlsplit(endpoints.mongodb_admin_url).netloc.rpartition("@")[2]
    assert facts.away == (NOBODY,)
    assert facts.find("users/by_email") is not None


def test_a_dropped_index_of_a_collection_is_made_again_by_its_definition(
    mongodb: tuple[MongodbIndexCare, Database[dict[str, Any]]],
) -> None:
    care, database = mongodb
    drop = acts_of(care.observe(), "drop", "users/by_email")
    for _ in range(2):
        care.apply(drop)
    assert care.observe().find("users/by_email") is None
    assert json.loads(drop.definition)["createIndexes"] == "users"
    database.command(json_util.loads(drop.definition))
    made = care.observe().find("users/by_email")
    assert made is not None
    assert (made.key, made.special, made.definition) == ((("email", "-1"),), "sparse", drop.definition)


def test_each_member_of_a_replica_set_is_asked_by_itself() -> None:
    several = "mongodb://admin:p%40ss@a:1,b:2/admin?replicaSet=rs0&directConnection=false"
    one = "mongodb://admin:p%40ss@b:2/admin?replicaSet=rs0&directConnection=true"
    assert address_member(several, "b:2") == one
    assert address_member("mongodb+srv://u:p@cluster.example.com/x?authSource=users", "b:2") == (
        "mongodb://u:p@b:2/x?authSource=users&tls=true&directConnection=true"
    )
    assert address_member("mongodb://a:1", "b:2") == "mongodb://b:2/?directConnection=true"
    assert address_member(several, "") == several


def test_free_space_is_read_as_newer_and_older_servers_say_it() -> None:
    blocks = {"wiredTiger": {"block-manager": {"file bytes available for reuse": 4096}}}
    assert read_reusable({"freeStorageSize": 8192, **blocks}) == 8192
    assert read_reusable(blocks) == 4096
    assert read_reusable({}) == 0
