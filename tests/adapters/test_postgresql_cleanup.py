"""Cleanup of a real PostgreSQL: what is old goes and nothing else, and comes back to the byte."""

import subprocess
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from deployments.sandbox.endpoints import Endpoints
from tasks.archives import ArchiveStore
from tasks.copy_lines import read_field, split_line
from tasks.errors import AccessDeniedError, ConfigurationError, RefusedError, SourceError, UnreachableError
from tasks.object_store_directory import DirectoryStore
from tasks.opening_cleanup import open_cleanup_source
from tasks.postgresql import parse_url
from tasks.postgresql_cleanup import PostgresqlCleanup
from tasks.records.data_care import CleanupRule
from tasks.records.service import ServiceProfile

WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"""
CUTOFF = datetime(2025, 6, 15, 12, tzinfo=UTC)
# Every kind of value that does not survive carelessness, ten rows of each month from 2024-12 to 2025-11.
SCHEMA = r"""
CREATE SCHEMA logs;
CREATE TYPE severity AS ENUM ('low', 'high');
CREATE DOMAIN moment AS timestamptz;
CREATE TABLE "AuditTrail" (
    "auditId" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "validUntil" timestamptz, "userId" int, kept json, details jsonb, ratio float8, small float4, body bytea,
    note text, tags text[], amount numeric, level severity, span interval, padded char(5), day date,
    doubled int GENERATED ALWAYS AS ("userId" * 2) STORED, dropped int, address inet, part point
);
ALTER TABLE "AuditTrail" DROP COLUMN dropped;
CREATE INDEX "byTime" ON "AuditTrail" ("validUntil");
INSERT INTO "AuditTrail" ("validUntil", "userId", kept, details, ratio, small, body, note, tags, amount,
    level, span, padded, day, address, part)
SELECT '2024-12-05 23:30:00+00'::timestamptz + n / 10 * interval '1 month' + n * interval '1 microsecond', n,
    ('{"b": 1,   "a": ' || n || ', "b": 2}')::json, jsonb_build_object('a', n, 'ü', E'\t'), n / 7.0, n / 3.0,
    set_byte('\x000a5c09ff', 4, n), CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'a\tb\nc\\d\r\\.'
    ELSE '\N' END, ARRAY['', NULL, 'NULL', E'\\'], n / 3.0, 'high', n * interval '1 hour 1 month', 'ab',
    'infinity', '::1', '(1e-300,-0)'
FROM generate_series(0, 119) n;
INSERT INTO "AuditTrail" ("validUntil", "userId", ratio) VALUES ('infinity', 500, 'NaN'), (NULL, 501, '-0'),
    ('-infinity', 502, 'Infinity'), ('0044-03-15 12:00+00 BC', 503, 1e-307);
CREATE TABLE logs.tokens (
    kind text, token char(8), at timestamp, day date, at_domain moment, text_time text,
    PRIMARY KEY (kind, token)
);
INSERT INTO logs.tokens SELECT 'k' || n % 2, 'x' || n, t, t, t, t
    FROM generate_series(0, 9) n, LATERAL (SELECT '2025-06-15 07:00'::timestamp + n * interval '1 hour' AS t);
CREATE TABLE keyless (at timestamptz);
CREATE TABLE parents (id int PRIMARY KEY, at timestamptz DEFAULT '2020-01-01');
INSERT INTO parents VALUES (1), (2), (3);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents);
INSERT INTO children VALUES (1, 2);
CREATE TABLE split (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE VIEW looked AS SELECT * FROM parents;
CREATE TABLE unique_names (id int PRIMARY KEY, name text UNIQUE, at timestamptz DEFAULT '2020-01-01');
INSERT INTO unique_names SELECT n, 'name ' || n FROM generate_series(1, 20) n;
"""


EMPTY = """
DROP SCHEMA IF EXISTS public, logs CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;"""


@pytest.fixture(scope="module")
def database(endpoints: Endpoints) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"cleanup_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield urlsplit(endpoints.postgresql_admin_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def url(database: str) -> str:
    """The URL of a database in which everything is as it was at first."""
    execute(database, EMPTY + SCHEMA)
    return database


@pytest.fixture
def source(url: str) -> PostgresqlCleanup:
    return PostgresqlCleanup(url, url)


def execute(url: str, script: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(script.encode())


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def content(url: str, endpoints: Endpoints, table: str) -> list[bytes]:
    """Return a table's rows as psql, which is not ours, copies them."""
    command = [str(endpoints.pg_bin / "psql"), "-XAtq", "-c", f"COPY (SELECT * FROM {table}) TO STDOUT"]
    copied = subprocess.run(command, env=parse_url(url).environment(), capture_output=True, check=True)
    return sorted(copied.stdout.splitlines())


def rule(source: str = "AuditTrail", time_field: str = "validUntil", **changed: Any) -> CleanupRule:
    fields = {"name": "audit", "source": source, "time_field": time_field, "older_than": "P1D", **changed}
    return CleanupRule.model_validate(fields)


def read(source: PostgresqlCleanup, cleanup: CleanupRule) -> tuple[bytes, ...]:
    return source.read_expired(cleanup, CUTOFF, 10_000, 1 << 30)


# --- What a rule meets ---


def test_what_has_expired_is_counted_by_month_with_its_bytes(source: PostgresqlCleanup) -> None:
    facts = source.observe(rule(legal_hold="\"userId\" BETWEEN 10 AND 14 -- 'ACME'"), CUTOFF)
    assert {found.month: found.entries for found in facts.months if found.month > "2000"} == {
        "2024-12": 10,
        "2025-01": 5,
        "2025-02": 10,
        "2025-03": 10,
        "2025-04": 10,
        "2025-05": 10,
        "2025-06": 10,
    }
    # And that of the Ides of March.
    assert (facts.expired, facts.held, facts.entries) == (66, 5, 124)
    # Null and both infinities never expire.
    assert facts.without_time == 3
    assert facts.newest == datetime(2025, 11, 5, 23, 30, 0, 119, tzinfo=UTC)
    assert (facts.exists, facts.has_time_field, facts.wrong_type) == (True, True, 0)
    assert facts.index == "byTime"
    assert facts.obstacles == ()
    assert all(10 * 100 < found.raw_bytes < 10 * 1000 for found in facts.months if found.entries == 10)
    assert facts.storage_bytes > 16384
    assert "doubled" not in facts.columns
    assert facts.columns[:3] == ("auditId", "validUntil", "userId")


def test_a_table_that_is_not_there_is_told_with_those_that_are(source: PostgresqlCleanup) -> None:
    facts = source.observe(rule("audittrail"), CUTOFF)
    assert not facts.exists
    assert {"public.AuditTrail", "logs.tokens", "public.parents"} <= set(facts.others)
    with pytest.raises(SourceError, match="no table audittrail"):
        read(source, rule("audittrail"))


def test_a_name_may_have_its_schema(source: PostgresqlCleanup) -> None:
    assert source.observe(rule("public.AuditTrail"), CUTOFF).entries == 124
    assert source.observe(rule("logs.tokens", "at"), CUTOFF).entries == 10
    assert not source.observe(rule("tokens", "at"), CUTOFF).exists


def test_a_column_that_is_missing_or_no_time_is_told_and_nothing_is_read(source: PostgresqlCleanup) -> None:
    missing = source.observe(rule("logs.tokens", "nowhere"), CUTOFF)
    assert (missing.has_time_field, missing.wrong_type, missing.entries) == (False, 0, 10)
    wrong = source.observe(rule("logs.tokens", "text_time"), CUTOFF)
    assert (wrong.has_time_field, wrong.wrong_type, wrong.months) == (True, 10, ())
    assert wrong.wrong_type_example == "the column text_time of logs.tokens is text"
    for column in ("nowhere", "text_time"):
        with pytest.raises(SourceError, match=f"column {column} .*no date or timestamp"):
            read(source, rule("logs.tokens", column))


@pytest.mark.parametrize(("column", "expected"), [("at", 5), ("at_domain", 5), ("day", 0)])
def test_times_without_a_zone_are_utc_and_a_day_is_over_at_its_end(
    url: str, column: str, expected: int
) -> None:
    tokyo = f"{url}?options=-c%20TimeZone%3DAsia/Tokyo"
    execute(url, "UPDATE logs.tokens SET at_domain = at AT TIME ZONE 'UTC'")
    source, tokens = PostgresqlCleanup(tokyo, url), rule("logs.tokens", column)
    assert source.observe(tokens, CUTOFF).expired == expected
    assert len(read(source, tokens)) == expected
    next_day = CUTOFF.replace(day=16, hour=0)
    assert len(source.read_expired(tokens, next_day, 100, 1 << 20)) == 10


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("keyless", "no primary key"),
        ("split", "a partitioned table"),
        ("looked", "a view"),
    ],
)
def test_what_cannot_be_cleaned_is_an_obstacle(source: PostgresqlCleanup, table: str, said: str) -> None:
    assert said in source.observe(rule(table, "at"), CUTOFF).obstacles[0]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_foreign_key_that_would_change_another_table_is_an_obstacle(
    source: PostgresqlCleanup, url: str, action: str
) -> None:
    assert source.observe(rule("parents", "at"), CUTOFF).obstacles == ()
    execute(
        url,
        f"ALTER TABLE children ADD CONSTRAINT away FOREIGN KEY (parent) REFERENCES parents "
        f"ON DELETE {action}",
    )
    (obstacle,) = source.observe(rule("parents", "at"), CUTOFF).obstacles
    assert "public.children (foreign key away)" in obstacle


def test_a_foreign_key_to_the_table_that_a_partition_is_of_is_an_obstacle(
    source: PostgresqlCleanup, url: str
) -> None:
    execute(
        url,
        "CREATE TABLE split_2019 PARTITION OF split FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');"
        "CREATE TABLE parts (id int, at timestamptz) PARTITION BY LIST (id);"
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    )
    assert source.observe(rule("split_2019", "at"), CUTOFF).obstacles == ()
    execute(
        url,
        "ALTER TABLE parts ADD CONSTRAINT away FOREIGN KEY (id, at) REFERENCES split ON DELETE CASCADE",
    )
    # Once, though the catalog has it for the partition of either side.
    (obstacle,) = source.observe(rule("split_2019", "at"), CUTOFF).obstacles
    assert "public.parts (foreign key" in obstacle


def test_a_foreign_key_without_an_index_is_a_caution(source: PostgresqlCleanup, url: str) -> None:
    (caution,) = source.observe(rule("parents", "at"), CUTOFF).cautions
    assert "public.children has no index on its foreign key children_parent_fkey" in caution
    execute(url, "CREATE INDEX ON children (parent) WHERE id > 1; CREATE INDEX ON children (id, parent)")
    assert source.observe(rule("parents", "at"), CUTOFF).cautions == (caution,)
    execute(url, "CREATE INDEX ON children (parent)")
    assert source.observe(rule("parents", "at"), CUTOFF).cautions == ()


def test_a_trigger_that_fires_at_a_deletion_is_a_caution(source: PostgresqlCleanup, url: str) -> None:
    assert source.observe(rule("unique_names", "at"), CUTOFF).cautions == ()
    execute(
        url,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
        "CREATE TRIGGER told AFTER DELETE ON unique_names FOR EACH STATEMENT EXECUTE FUNCTION note();"
        "CREATE TRIGGER off BEFORE DELETE ON unique_names FOR EACH ROW EXECUTE FUNCTION note();"
        "ALTER TABLE unique_names DISABLE TRIGGER off;"
        "CREATE TRIGGER grows BEFORE INSERT OR UPDATE ON unique_names FOR EACH ROW EXECUTE FUNCTION note()",
    )
    (caution,) = source.observe(rule("unique_names", "at"), CUTOFF).cautions
    assert "public.unique_names has the trigger told for DELETE" in caution


def test_rows_that_a_policy_hides_are_a_caution(source: PostgresqlCleanup, url: str) -> None:
    execute(
        url,
        "ALTER TABLE unique_names ENABLE ROW LEVEL SECURITY;"
        "ALTER TABLE unique_names FORCE ROW LEVEL SECURITY",
    )
    user = f"reader_{uuid.uuid4().hex[:8]}"
    execute(
        url,
        f"CREATE ROLE {user} LOGIN PASSWORD 'reads'; GRANT SELECT ON unique_names TO {user};"
        f"CREATE POLICY own ON unique_names TO {user} USING (id > 1)",
    )
    # A superuser is above all policies.
    assert source.observe(rule("unique_names", "at"), CUTOFF).cautions == ()
    limited = PostgresqlCleanup(f"postgresql://{user}:reads@{url.rpartition('@')[2]}", url)
    try:
        facts = limited.observe(rule("unique_names", "at"), CUTOFF)
    finally:
        execute(url, f"DROP OWNED BY {user}; DROP ROLE {user}")
    assert facts.expired == 19
    (caution,) = facts.cautions
    assert f"rows that its policies hide from {user} are not counted" in caution


def test_a_table_whose_rows_are_in_others_that_inherit_from_it_is_an_obstacle(
    source: PostgresqlCleanup, url: str
) -> None:
    execute(url, "CREATE TABLE parents_2019 () INHERITS (parents); CREATE INDEX ON parents_2019 (at)")
    (obstacle,) = source.observe(rule("parents", "at"), CUTOFF).obstacles
    assert obstacle.startswith("What looks like rows of public.parents is in 1 table that inherit")


def test_an_index_that_does_not_begin_with_the_time_is_none(source: PostgresqlCleanup, url: str) -> None:
    execute(
        url,
        "CREATE INDEX second ON parents (id, at); CREATE INDEX partial ON parents (at) WHERE id > 1;"
        "CREATE INDEX other ON parents USING hash (at)",
    )
    assert source.observe(rule("parents", "at"), CUTOFF).index is None


@pytest.mark.parametrize("hold", ["nowhere = 1", "userId", "1 = ", "'x'"])
def test_a_hold_that_is_no_condition_is_refused(source: PostgresqlCleanup, hold: str) -> None:
    with pytest.raises(ConfigurationError, match="legal hold of the rule audit is no condition"):
        source.observe(rule(legal_hold=hold), CUTOFF)


def test_a_hold_of_another_database_is_refused(source: PostgresqlCleanup) -> None:
    with pytest.raises(ConfigurationError, match="is a MongoDB query"):
        source.observe(rule(legal_hold={"userId": 1}), CUTOFF)


# --- Reading ---


def test_the_oldest_are_read_first_up_to_either_limit(source: PostgresqlCleanup) -> None:
    whole = read(source, rule())
    assert len(whole) == 71
    assert source.read_expired(rule(), CUTOFF, 7, 1 << 30) == whole[:7]
    assert source.read_expired(rule(), CUTOFF, 1000, 1) == whole[:1]
    some = source.read_expired(rule(), CUTOFF, 1000, 900)
    assert sum(map(len, some[:-1])) < 900 <= sum(map(len, some))
    assert some == whole[: len(some)]
    assert source.read_expired(rule(), CUTOFF.replace(year=2023), 1000, 1 << 30) == whole[:1]


def test_what_is_held_is_not_read_and_what_may_be_held_is(source: PostgresqlCleanup) -> None:
    # Null answers neither yes nor no: only what matches is held.
    found = read(
        source, rule(legal_hold='CASE WHEN "userId" < 30 THEN TRUE WHEN "userId" < 40 THEN NULL END')
    )
    assert len(found) == 41


# --- Deleting ---


def test_exactly_what_was_read_is_deleted_and_again_is_nothing(
    source: PostgresqlCleanup, url: str, endpoints: Endpoints
) -> None:
    before = content(url, endpoints, '"AuditTrail"')
    entries = read(source, rule())
    assert source.delete(rule(), CUTOFF, entries[:50]) == 50
    assert source.delete(rule(), CUTOFF, entries) == 21
    assert source.delete(rule(), CUTOFF, entries) == 0
    assert source.delete(rule(), CUTOFF, ()) == 0
    left = content(url, endpoints, '"AuditTrail"')
    assert len(left) == 124 - 71
    assert set(left) < set(before)
    assert read(source, rule()) == ()


def test_a_key_of_several_columns_and_padding_is_found(source: PostgresqlCleanup, url: str) -> None:
    tokens = rule("logs.tokens", "at")
    assert source.delete(tokens, CUTOFF, read(source, tokens)[1:3]) == 2
    assert rows(url, "SELECT token FROM logs.tokens ORDER BY 1")[:3] == [
        ("x0      ",),
        ("x3      ",),
        ("x4      ",),
    ]


@pytest.mark.parametrize(
    "change",
    [
        "note = 'changed'",
        'kept = \'{"b": 1, "a": 1, "b": 2}\'',
        "ratio = ratio + 1e-15",
        "body = body || '\\x00'",
        "note = NULL",
        '"validUntil" = now()',
        "\"validUntil\" = 'infinity'",
        '"userId" = 7000',
    ],
)
def test_a_row_that_changed_since_it_was_read_stays(source: PostgresqlCleanup, url: str, change: str) -> None:
    cleanup = rule(legal_hold='"userId" = 7000')
    entries = read(source, cleanup)
    execute(url, f'UPDATE "AuditTrail" SET {change} WHERE "userId" = 21')
    assert source.delete(cleanup, CUTOFF, entries) == 70
    assert rows(url, 'SELECT count(*) FROM "AuditTrail"') == [(54,)]


def test_rows_of_a_table_that_was_altered_since_stay(source: PostgresqlCleanup, url: str) -> None:
    entries = read(source, rule())
    execute(url, 'ALTER TABLE "AuditTrail" ADD added int')
    assert source.delete(rule(), CUTOFF, entries) == 0
    assert source.delete(rule(), CUTOFF, read(source, rule())) == 71


def test_rows_that_another_table_refers_to_stay_and_the_sentence_names_it(
    source: PostgresqlCleanup, url: str
) -> None:
    parents = rule("parents", "at")
    with pytest.raises(RefusedError, match=r"public\.children still refers to rows of parents"):
        source.delete(parents, CUTOFF, read(source, parents))
    assert len(read(source, parents)) == 3
    execute(url, "ALTER TABLE children ALTER CONSTRAINT children_parent_fkey DEFERRABLE INITIALLY DEFERRED")
    with pytest.raises(RefusedError, match=r"public\.children still refers"):
        source.delete(parents, CUTOFF, read(source, parents))
    assert len(read(source, parents)) == 3


def test_a_lock_of_the_application_is_not_waited_for(source: PostgresqlCleanup, url: str) -> None:
    entries = read(source, rule())
    with psycopg.connect(url) as application:
        application.execute('SELECT FROM "AuditTrail" WHERE "userId" = 3 FOR UPDATE')
        with pytest.raises(UnreachableError, match="holds a lock on AuditTrail"):
            source.delete(rule(), CUTOFF, entries)
    assert source.delete(rule(), CUTOFF, entries) == 71


def test_a_row_that_changes_while_it_is_being_deleted_stays(source: PostgresqlCleanup, url: str) -> None:
    entries = read(source, rule())
    deleted: list[int] = []
    with psycopg.connect(url) as application, psycopg.connect(url) as looking:
        application.execute('UPDATE "AuditTrail" SET note = \'late\' WHERE "userId" = 3')
        cleaning = threading.Thread(target=lambda: deleted.append(source.delete(rule(), CUTOFF, entries)))
        cleaning.start()
        while looking.execute(WAITING).fetchone() == (0,):
            looking.rollback()
        application.commit()
        cleaning.join()
    assert deleted == [70]
    assert rows(url, 'SELECT note FROM "AuditTrail" WHERE "userId" = 3') == [("late",)]


# --- Giving back ---


def test_what_was_deleted_comes_back_to_the_byte(
    source: PostgresqlCleanup, url: str, endpoints: Endpoints, tmp_path: Path
) -> None:
    before = content(url, endpoints, '"AuditTrail"')
    columns = source.observe(rule(), CUTOFF).columns
    archives = ArchiveStore(DirectoryStore(tmp_path), "app", "postgresql")
    part = archives.write_part("audit", "one", 1, read(source, rule()))
    entries = archives.read_part(part, "postgresql")
    source.delete(rule(), CUTOFF, entries)
    assert source.compare("AuditTrail", columns, entries) == (71, ())
    assert source.insert_missing("AuditTrail", columns, entries) == (71, ())
    assert content(url, endpoints, '"AuditTrail"') == before
    assert source.compare("AuditTrail", columns, entries) == (0, ())
    assert source.insert_missing("AuditTrail", columns, entries) == (0, ())


def test_the_documented_command_gives_back_to_the_byte(
    source: PostgresqlCleanup, url: str, endpoints: Endpoints, tmp_path: Path
) -> None:
    before = content(url, endpoints, '"AuditTrail"')
    columns = source.observe(rule(), CUTOFF).columns
    archives = ArchiveStore(DirectoryStore(tmp_path), "app", "postgresql")
    entries = read(source, rule())
    for number, some in enumerate((entries[:40], entries[40:]), start=1):
        archives.write_part("audit", "one", number, some)
    source.delete(rule(), CUTOFF, entries)
    quoted = ", ".join(f'"{name}"' for name in columns)
    psql = endpoints.pg_bin / "psql"
    command = f"gunzip -c part-*.copy.gz | {psql} -X -c 'COPY \"AuditTrail\" ({quoted}) FROM STDIN'"
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tmp_path / "app" / "archives" / "audit" / "one",
        env={**parse_url(url).environment(), "PGCLIENTENCODING": "UTF8"},
        check=True,
        capture_output=True,
    )
    assert content(url, endpoints, '"AuditTrail"') == before


def test_a_row_that_is_there_otherwise_is_named_and_left(source: PostgresqlCleanup, url: str) -> None:
    columns = source.observe(rule(), CUTOFF).columns
    entries = read(source, rule())
    source.delete(rule(), CUTOFF, entries[10:20])
    execute(url, 'UPDATE "AuditTrail" SET note = \'newer\' WHERE "userId" = 3')
    assert source.compare("AuditTrail", columns, entries) == (10, ("auditId=4",))
    assert source.insert_missing("AuditTrail", columns, entries) == (10, ("auditId=4",))
    assert source.compare("AuditTrail", columns, entries) == (0, ("auditId=4",))
    assert rows(url, 'SELECT note FROM "AuditTrail" WHERE "userId" = 3') == [("newer",)]


def test_a_row_in_whose_way_another_stands_is_named_and_the_others_come_back(
    source: PostgresqlCleanup, url: str
) -> None:
    names = rule("unique_names", "at")
    entries = read(source, names)
    source.delete(names, CUTOFF, entries)
    execute(url, "INSERT INTO unique_names (id, name) VALUES (100, 'name 7'), (101, 'name 13')")
    assert source.insert_missing("unique_names", ("id", "name", "at"), entries) == (18, ("id=7", "id=13"))
    assert rows(url, "SELECT count(*) FROM unique_names") == [(20,)]


def test_rows_that_refer_to_what_is_gone_do_not_come_back(source: PostgresqlCleanup, url: str) -> None:
    execute(url, "ALTER TABLE children ADD at timestamptz DEFAULT '2020-01-01'")
    children = rule("children", "at")
    entries = read(source, children)
    execute(url, "DELETE FROM children; DELETE FROM parents")
    with pytest.raises(RefusedError, match="refer to others that are no longer there"):
        source.insert_missing("children", ("id", "parent", "at"), entries)


def test_rows_come_back_to_a_table_whose_policies_apply_to_the_application(url: str) -> None:
    user = f"tenant_{uuid.uuid4().hex[:8]}"
    execute(
        url,
        "CREATE TABLE policed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tags text[], at timestamptz);"
        "INSERT INTO policed (tags, at) SELECT array[n::text, E'\\t\\\\', NULL], '2020-01-01'"
        "    FROM generate_series(1, 6) n;"
        "ALTER TABLE policed ENABLE ROW LEVEL SECURITY;"
        f"CREATE ROLE {user} LOGIN PASSWORD 'lives'; GRANT ALL ON policed TO {user};"
        f"CREATE POLICY own ON policed TO {user} USING (id < 6)",
    )
    before = rows(url, "SELECT policed.*::text FROM policed ORDER BY id")
    tenant = PostgresqlCleanup(f"postgresql://{user}:lives@{url.rpartition('@')[2]}", url)
    policed, columns = rule("policed", "at"), ("id", "tags", "at")
    try:
        entries = tenant.read_expired(policed, CUTOFF, 100, 1 << 20)
        assert tenant.delete(policed, CUTOFF, entries) == 5
        assert tenant.insert_missing("policed", columns, entries[:3]) == (3, ())
        assert tenant.insert_missing("policed", columns, entries) == (2, ())
        assert tenant.compare("policed", columns, entries) == (0, ())
    finally:
        execute(url, f"DROP OWNED BY {user}; DROP ROLE {user}")
    assert rows(url, "SELECT policed.*::text FROM policed ORDER BY id") == before


def test_a_table_that_lost_a_column_does_not_take_them_back(source: PostgresqlCleanup, url: str) -> None:
    columns = source.observe(rule(), CUTOFF).columns
    entries = read(source, rule())
    execute(url, 'ALTER TABLE "AuditTrail" DROP note; ALTER TABLE "AuditTrail" ADD added int DEFAULT 5')
    for give_back in (source.insert_missing, source.compare):
        with pytest.raises(SourceError, match="no column note any more"):
            give_back("AuditTrail", columns, entries)


def test_rows_come_back_into_a_table_that_has_a_new_column(source: PostgresqlCleanup, url: str) -> None:
    columns = source.observe(rule(), CUTOFF).columns
    entries = read(source, rule())
    source.delete(rule(), CUTOFF, entries)
    execute(url, 'ALTER TABLE "AuditTrail" ADD added int DEFAULT 5')
    assert source.insert_missing("AuditTrail", columns, entries) == (71, ())
    assert source.compare("AuditTrail", columns, entries) == (0, ())


def test_a_key_that_is_a_text_is_shown_by_its_beginning(source: PostgresqlCleanup, url: str) -> None:
    execute(
        url,
        "CREATE TABLE otp (token text PRIMARY KEY, at timestamptz);"
        "INSERT INTO otp SELECT repeat('s', 40), '2020-01-01'",
    )
    entries = read(source, rule("otp", "at"))
    execute(url, "UPDATE otp SET at = now()")
    assert source.compare("otp", ("token", "at"), entries) == (0, (f"token={'s' * 11}…",))


# --- The server ---


def test_clock_and_lag_are_the_servers(source: PostgresqlCleanup, endpoints: Endpoints) -> None:
    assert abs(source.read_clock() - datetime.now(UTC)) < timedelta(seconds=30)
    assert source.read_lag() == 0
    # Who may not see replicas is told of none, and no error.
    assert PostgresqlCleanup(endpoints.postgresql_url, endpoints.postgresql_url).read_lag() == 0


def test_the_applications_own_role_is_enough(propertypulse: ServiceProfile) -> None:
    (cleanup,) = propertypulse.cleanup.rules
    with open_cleanup_source(propertypulse) as source:
        facts = source.observe(cleanup, CUTOFF)
        assert facts.obstacles == ()
        entries = source.read_expired(cleanup, CUTOFF, 20, 1 << 20)
        assert entries
        assert source.delete(cleanup, CUTOFF, entries) == len(entries)
        assert source.insert_missing(cleanup.source, facts.columns, entries) == (len(entries), ())
        assert source.compare(cleanup.source, facts.columns, entries) == (0, ())


def test_a_role_that_may_not_delete_says_so(source: PostgresqlCleanup, url: str) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    execute(
        url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'reads'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    try:
        reader = PostgresqlCleanup(f"postgresql://{role}:reads@{url.rpartition('@')[2]}", url)
        with pytest.raises(AccessDeniedError, match="does not allow this user"):
            reader.delete(rule(), CUTOFF, read(reader, rule()))
    finally:
        execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


# --- Lines ---


@given(
    st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), min_size=1)
)
def test_fields_are_read_as_the_format_is_described(values: list[str | None]) -> None:
    escapes = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
    line = "\t".join(
        "\\N" if value is None else "".join(escapes.get(character, character) for character in value)
        for value in values
    )
    assert [read_field(field) for field in split_line(line.encode())] == values
