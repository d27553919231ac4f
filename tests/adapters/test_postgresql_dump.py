"""PostgreSQL's dump: one moment, whole, restorable by the official tool, and nothing left when it fails."""

import contextlib
import hashlib
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import zstandard
from psycopg import sql

from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.stack import Sandbox
from flows.decisions.comparison import compare_postgresql
from tasks import postgresql_dump, postgresql_snapshot
from tasks.errors import AccessDeniedError, ConfigurationError, DamagedSetError, SourceError, UnreachableError
from tasks.postgresql import connect, parse_url, translated
from tasks.postgresql_copy_sections import CopySections
from tasks.postgresql_dump import DUMP_KEY, decode, read_archive, save_database
from tasks.postgresql_restore import (
    drop_database,
    list_databases,
    observe_restored_database,
    restore_database,
)
from tasks.postgresql_snapshot import hold_snapshot, observe_tables
from tasks.records.backup import PostgresqlContent, PostgresqlFacts
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import ZSTD
from tests.adapters.conftest import make_location

CANARY = "canary7f3a"
REAL = "propertypulse"
# By this locale É has no small letter; by the sandbox's own it has one, and the row would be refused.
OTHER_LOCALE = "CREATE DATABASE {} TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER libc LOCALE 'C'"
LARGE_LETTERS = """
    CREATE TABLE names (name text PRIMARY KEY CHECK (lower(name) = 'É'));
    INSERT INTO names VALUES ('É')"""


@pytest.fixture
def location(tmp_path: Path) -> SetLocation:
    return make_location(tmp_path / "store")


@pytest.fixture
def database(endpoints: Endpoints) -> Iterator[str]:
    """The URL of a database of the test's own."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield urlsplit(endpoints.postgresql_admin_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def execute(url: str, script: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(script.encode())


def save(url: str, endpoints: Endpoints, location: SetLocation) -> PostgresqlContent:
    with hold_snapshot(parse_url(url)) as snapshot:
        return save_database.fn(snapshot, endpoints.pg_bin, location)


def files(location: SetLocation) -> list[Path]:
    root = Path(location.destination.url.removeprefix("file://"))
    return [path for path in root.rglob("*") if path.is_file()]


def raw_dump(location: SetLocation) -> bytes:
    return b"".join(SetFolder(location).load(DUMP_KEY, ZSTD))


@pytest.fixture(scope="module")
def seeded(
    endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PostgresqlContent, SetLocation]:
    store = tmp_path_factory.mktemp("seeded") / "store"
    location = make_location(store)
    return save(endpoints.postgresql_url, endpoints, location), location


def test_a_restore_has_every_fact_of_the_seeded_database(
    seeded: tuple[PostgresqlContent, SetLocation], propertypulse: ServiceProfile, endpoints: Endpoints
) -> None:
    content, location = seeded
    assert {table.table for table in content.tables} >= {
        "public.users",
        'public."AuditTrail"',
        "public.payments",
    }
    scratch = f"scratch_{uuid.uuid4().hex[:8]}"
    admin = propertypulse.database.admin_url
    try:
        restore_database.fn(admin, REAL, scratch, content, endpoints.pg_bin, location)
        assert scratch in list_databases.fn(admin)
        found = observe_restored_database.fn(admin, scratch, endpoints.pg_bin)
    finally:
        drop_database.fn(admin, scratch)
    assert found.tables == content.tables
    assert found.definitions == content.definitions
    assert scratch not in list_databases.fn(admin)
    drop_database.fn(admin, scratch)


def test_the_hashes_are_those_of_psqls_own_copy(
    seeded: tuple[PostgresqlContent, SetLocation], endpoints: Endpoints
) -> None:
    content, _ = seeded
    for table in content.tables:
        copied = subprocess.run(
            [endpoints.pg_bin / "psql", "-XAtq", "-c", f"COPY {table.table} TO STDOUT"],
            env=parse_url(endpoints.postgresql_url).environment(),
            capture_output=True,
            check=True,
        ).stdout
        assert hashlib.sha256(copied).hexdigest() == table.content_hash, table.table
        assert copied.count(b"\n") == table.rows


def test_the_official_tools_read_and_restore_what_was_stored(
    seeded: tuple[PostgresqlContent, SetLocation], endpoints: Endpoints, database: str, tmp_path: Path
) -> None:
    content, location = seeded
    packed = b"".join(SetFolder(location).stream(DUMP_KEY))
    assert (len(packed), hashlib.sha256(packed).hexdigest()) == (content.dump.bytes, content.dump.sha256)
    archive = tmp_path / "database.dump"
    archive.write_bytes(zstandard.ZstdDecompressor().stream_reader(packed).read())
    assert archive.stat().st_size == content.dump.raw_bytes
    pg_restore = str(endpoints.pg_bin / "pg_restore")
    listed = subprocess.run(
        [pg_restore, "--list", archive], capture_output=True, check=True, text=True
    ).stdout
    assert listed.count("TABLE DATA") == len(content.tables)
    address = parse_url(database)
    command = [pg_restore, "--exit-on-error", "--no-owner", f"--dbname={address.database}", str(archive)]
    subprocess.run(command, env=address.environment(), check=True, capture_output=True)
    with connect(address) as connection:
        for table in content.tables:
            counted = connection.execute(f"SELECT count(*) FROM {table.table}".encode()).fetchone()
            assert counted == (table.rows,), table.table


def test_rows_that_come_while_the_moment_is_held_are_not_in_the_dump(
    endpoints: Endpoints, database: str, location: SetLocation
) -> None:
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v text);"
        "INSERT INTO t SELECT n, 'old' FROM generate_series(1, 1000) n",
    )
    with hold_snapshot(parse_url(database)) as snapshot:
        assert snapshot.consistency.method == "exported-snapshot"
        execute(
            database, "INSERT INTO t VALUES (5000, 'new'); DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new'"
        )
        content = save_database.fn(snapshot, endpoints.pg_bin, location)
    (table,) = content.tables
    expected = b"".join(b"%d\told\n" % n for n in range(1, 1001))
    assert (table.rows, table.content_hash) == (1000, hashlib.sha256(expected).hexdigest())


def test_what_is_defined_anew_while_the_dump_is_under_way_is_neither_in_it_nor_in_what_is_said_of_it(
    endpoints: Endpoints,
    database: str,
    location: SetLocation,
    propertypulse: ServiceProfile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(
        database,
        "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 30) AS v FROM generate_series(1, 20000) n;"
        "CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 41'",
    )
    original, changed = postgresql_dump.decode, threading.Event()

    def meanwhile(*arguments: object) -> Iterator[bytes]:
        for number, chunk in enumerate(original(*arguments)):  # type: ignore[arg-type]
            yield chunk
            if number == 2:
                # pg_dump holds the tables: only what nobody needs to lock can be changed.
                execute(
                    database, "CREATE OR REPLACE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'"
                )
                execute(database, "CREATE TABLE made_meanwhile (id int)")
                changed.set()

    monkeypatch.setattr(postgresql_dump, "decode", meanwhile)
    content = save(database, endpoints, location)
    assert changed.is_set()
    found = restore_beside(content, endpoints, location, propertypulse)
    assert "SELECT 41" in content.definitions["routine"][0]
    assert (found.tables, found.definitions) == (content.tables, content.definitions)


def restore_beside(
    content: PostgresqlContent,
    endpoints: Endpoints,
    location: SetLocation,
    service: ServiceProfile,
    real: str = REAL,
) -> PostgresqlFacts:
    """Restore what was saved into a database of its own, look at that, and drop it."""
    admin, scratch = service.database.admin_url, f"scratch_{uuid.uuid4().hex[:8]}"
    try:
        restore_database.fn(admin, real, scratch, content, endpoints.pg_bin, location)
        return observe_restored_database.fn(admin, scratch, endpoints.pg_bin)
    finally:
        drop_database.fn(admin, scratch)


def test_what_holds_by_the_real_databases_locale_holds_in_the_scratch_one(
    endpoints: Endpoints, database: str, location: SetLocation, propertypulse: ServiceProfile
) -> None:
    name = urlsplit(database).path[1:]
    with psycopg.connect(endpoints.postgresql_admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL(OTHER_LOCALE).format(sql.Identifier(name)))
    execute(database, LARGE_LETTERS)
    content = save(database, endpoints, location)
    found = restore_beside(content, endpoints, location, propertypulse, name)
    assert found.tables == content.tables
    with pytest.raises(DamagedSetError, match="names_name_check"):
        restore_beside(content, endpoints, location, propertypulse)


def test_values_that_the_real_database_prints_in_another_way_are_the_same_in_the_scratch_one(
    endpoints: Endpoints, database: str, location: SetLocation, propertypulse: ServiceProfile
) -> None:
    name = urlsplit(database).path[1:]
    execute(
        database,
        f"""
        ALTER DATABASE "{name}" SET bytea_output TO 'escape';
        ALTER DATABASE "{name}" SET datestyle TO 'German';
        CREATE TABLE young (day date DEFAULT '2024-01-31', picture bytea);
        INSERT INTO young VALUES (now(), '\\xdeadbeef')""",
    )
    content = save(database, endpoints, location)
    found = restore_beside(content, endpoints, location, propertypulse, name)
    assert compare_postgresql(content, found) == ()


def test_moments_in_definitions_are_the_same_in_whatever_time_zone_they_are_printed(
    endpoints: Endpoints, database: str, location: SetLocation, propertypulse: ServiceProfile
) -> None:
    name = urlsplit(database).path[1:]
    execute(
        database,
        f"""
        ALTER DATABASE "{name}" SET timezone TO 'America/New_York';
        CREATE TABLE young (at timestamptz DEFAULT '2024-01-01 00:00+00' CHECK (at > '2020-07-01 00:00+00'));
        CREATE INDEX ON young (at) WHERE at > '2024-07-01 00:00:00+00'""",
    )
    content = save(database, endpoints, location)
    assert "2024-06-30 20:00:00-04" in content.definitions["index"][0]
    found = restore_beside(content, endpoints, location, propertypulse, name)
    assert compare_postgresql(content, found) == ()


ODD = """
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."a (b) FROM stdin;" ("x ""y"" (z)" text);
INSERT INTO "Odd Schema"."a (b) FROM stdin;" VALUES (E'\\\\.'), (E'a\\n\\\\.\\nb'), (NULL), ('');
CREATE TABLE nothing_but_rows ();
INSERT INTO nothing_but_rows DEFAULT VALUES; INSERT INTO nothing_but_rows DEFAULT VALUES;
CREATE TABLE empty (id int);
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS id;
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1), (2);
CREATE TABLE parent (id int); CREATE TABLE child (more int) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM parted;
CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int GENERATED ALWAYS AS IDENTITY);
INSERT INTO generated (a) VALUES (21);
SELECT lo_from_bytea(0, repeat('large object', 9999)::bytea);
CREATE EXTENSION citext; CREATE TABLE names (name citext UNIQUE); INSERT INTO names VALUES ('Ä');
"""
# Of these the server prints another text once they were dumped and restored, and means the same.
LISTS = """
CREATE TABLE leases (
    status varchar CHECK (status IN ('open', 'it''s "odd", ]::text[]', 'a\\b')), kind varchar(9) NOT NULL,
    again varchar CHECK (again NOT IN ('', NULL) AND 'x' = ANY (ARRAY[status, kind]))
);
CREATE INDEX open_leases ON leases (kind) WHERE status IN ('open', 'late');
CREATE VIEW open_leases_seen AS
    SELECT kind FROM leases WHERE status IN ('open', 'late') OR kind IN ('a', 'b');
CREATE FUNCTION is_open(status varchar) RETURNS bool LANGUAGE sql
    BEGIN ATOMIC SELECT status IN ('a', 'b'); END;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noted BEFORE UPDATE ON leases
    FOR EACH ROW WHEN (NEW.status IN ('a', 'b')) EXECUTE FUNCTION note();
CREATE TABLE twice (id int); INSERT INTO twice VALUES (1), (1);
CREATE TABLE split (id int) PARTITION BY RANGE (id);
CREATE TABLE one PARTITION OF split FOR VALUES FROM (0) TO (9);
CREATE INDEX not_on_every_partition ON ONLY split (id);
"""


def test_odd_tables_are_saved_and_restored_like_any_other(
    endpoints: Endpoints, database: str, location: SetLocation, propertypulse: ServiceProfile
) -> None:
    execute(database, ODD)
    content = save(database, endpoints, location)
    rows = {table.table: table.rows for table in content.tables}
    assert rows == {
        '"Odd Schema"."a (b) FROM stdin;"': 4,
        "public.nothing_but_rows": 2,
        "public.empty": 0,
        "public.unlogged": 1,
        "public.part": 2,
        "public.parent": 1,
        "public.child": 1,
        "public.generated": 1,
        "public.names": 1,
    }
    found = restore_beside(content, endpoints, location, propertypulse)
    assert (found.tables, found.definitions) == (content.tables, content.definitions)


def test_what_a_restore_makes_the_server_print_anew_is_no_difference(
    endpoints: Endpoints, database: str, location: SetLocation, propertypulse: ServiceProfile
) -> None:
    execute(database, LISTS)
    with (
        psycopg.connect(database, autocommit=True) as connection,
        pytest.raises(psycopg.errors.UniqueViolation),
    ):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY never_built ON twice (id)")
    content = save(database, endpoints, location)
    found = restore_beside(content, endpoints, location, propertypulse)
    # The server still does what it is compared for.
    assert {kind for kind, texts in content.definitions.items() if texts != found.definitions[kind]} == {
        "constraint",
        "index",
        "routine",
        "trigger",
        "view",
    }
    assert [text for text in content.definitions["index"] if "never_built" in text]
    saved = PostgresqlFacts(tables=content.tables, definitions=content.definitions)
    assert compare_postgresql(saved, found) == ()


def test_an_archive_that_is_cut_anywhere_is_refused(
    seeded: tuple[PostgresqlContent, SetLocation], endpoints: Endpoints
) -> None:
    raw = raw_dump(seeded[1])
    read_archive([raw], endpoints.pg_bin)
    for tenths in (0, 1, 4, 6, 9):
        with pytest.raises(DamagedSetError, match="cannot read the archive"):
            read_archive([raw[: len(raw) * tenths // 10]], endpoints.pg_bin)
    with pytest.raises(DamagedSetError):
        read_archive([raw[:-1]], endpoints.pg_bin)


def test_any_flipped_byte_of_the_stored_dump_is_refused(
    seeded: tuple[PostgresqlContent, SetLocation], endpoints: Endpoints
) -> None:
    packed = b"".join(SetFolder(seeded[1]).stream(DUMP_KEY))
    folder = SetFolder(seeded[1])
    path = next(path for path in files(seeded[1]) if path.name.endswith(".zst"))
    try:
        for place in (0, 4, 100, len(packed) // 3, len(packed) // 2, len(packed) - 1):
            path.write_bytes(packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :])
            with pytest.raises(DamagedSetError):
                read_archive(folder.load(DUMP_KEY, ZSTD), endpoints.pg_bin)
    finally:
        path.write_bytes(packed)


def test_a_restore_of_a_damaged_dump_fails_and_names_it(
    endpoints: Endpoints, database: str, location: SetLocation, propertypulse: ServiceProfile
) -> None:
    execute(database, "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n")
    content = save(database, endpoints, location)
    raw = raw_dump(location)
    SetFolder(location).save(DUMP_KEY, [raw[: len(raw) // 2]], ZSTD)
    scratch = f"scratch_{uuid.uuid4().hex[:8]}"
    try:
        with pytest.raises(DamagedSetError, match="does not restore"):
            restore_database.fn(
                propertypulse.database.admin_url, REAL, scratch, content, endpoints.pg_bin, location
            )
    finally:
        drop_database.fn(propertypulse.database.admin_url, scratch)


def test_what_cannot_be_understood_ends_the_dump_instead_of_hanging_it(
    seeded: tuple[PostgresqlContent, SetLocation], endpoints: Endpoints
) -> None:
    class Confused(CopySections):
        def feed(self, chunk: bytes) -> None:
            raise SourceError("no idea what this is")

    raw = raw_dump(seeded[1])
    with pytest.raises(SourceError, match="no idea"):
        list(decode([raw] * 3, endpoints.pg_bin, Confused()))


def test_missing_client_programs_are_named(
    endpoints: Endpoints, location: SetLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_snapshot(parse_url(endpoints.postgresql_url)) as snapshot:
        with pytest.raises(ConfigurationError, match=rf"pg_dump is not in {tmp_path}: install"):
            save_database.fn(snapshot, tmp_path, location)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ConfigurationError, match="pg_dump is not on PATH: install"):
            save_database.fn(snapshot, None, location)
    assert files(location) == []


def test_an_old_pg_dump_is_said_to_be_too_old(
    endpoints: Endpoints, location: SetLocation, tmp_path: Path
) -> None:
    for program, says in (
        ("pg_dump", "pg_dump: error: aborting because of server version mismatch"),
        ("pg_restore", ""),
    ):
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{says}' >&2\nexit 1\n")
        path.chmod(0o755)
    with (
        hold_snapshot(parse_url(endpoints.postgresql_url)) as snapshot,
        pytest.raises(ConfigurationError, match="pg_dump is older than the server"),
    ):
        save_database.fn(snapshot, tmp_path, location)
    assert files(location) == []


def test_a_wrong_password_is_said_to_be_refused(endpoints: Endpoints, location: SetLocation) -> None:
    parts = urlsplit(endpoints.postgresql_url)
    wrong = parts._replace(netloc=f"{parts.username}:{quote(CANARY)}@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(AccessDeniedError, match=r"propertypulse at .* refuses the password") as raised:
        save(wrong, endpoints, location)
    assert CANARY not in str(raised.value)


def test_a_missing_database_is_said_to_be_missing(endpoints: Endpoints, location: SetLocation) -> None:
    missing = urlsplit(endpoints.postgresql_admin_url)._replace(path="/nowhere").geturl()
    with pytest.raises(ConfigurationError, match=r"database nowhere at .* has no such database"):
        save(missing, endpoints, location)


def test_a_port_where_nobody_listens_is_said_not_to_answer(
    endpoints: Endpoints, location: SetLocation
) -> None:
    with pytest.raises(UnreachableError, match=r"at 127\.0\.0\.1:9 does not answer") as raised:
        save(f"postgresql://app:{CANARY}@127.0.0.1:9/db", endpoints, location)
    assert CANARY not in str(raised.value)


def command_lines_until(stop: threading.Event, seen: set[bytes]) -> None:
    while not stop.is_set():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(path.read_bytes())


def test_no_password_is_on_any_command_line_while_a_dump_runs(
    endpoints: Endpoints, location: SetLocation
) -> None:
    stop, seen = threading.Event(), set[bytes]()
    watcher = threading.Thread(target=command_lines_until, args=(stop, seen))
    watcher.start()
    try:
        save(endpoints.postgresql_url, endpoints, location)
    finally:
        stop.set()
        watcher.join()
    assert any(b"pg_dump\0" in line and b"--snapshot" in line for line in seen)
    raw = urlsplit(endpoints.postgresql_url).password or ""
    password = parse_url(endpoints.postgresql_url).parameters.values["password"]
    assert not [line for line in seen if raw.encode() in line or password.encode() in line]
    assert password not in repr(parse_url(endpoints.postgresql_url))


def test_a_server_that_dies_in_mid_dump_leaves_nothing_and_says_so(
    sandbox: Sandbox,
    endpoints: Endpoints,
    database: str,
    location: SetLocation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(
        database, "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 30) AS v FROM generate_series(1, 60000) n"
    )
    original, begun = postgresql_dump.decode, threading.Event()

    def slowly(*arguments: object) -> Iterator[bytes]:
        for number, chunk in enumerate(original(*arguments)):  # type: ignore[arg-type]
            yield chunk
            if number == 2:
                sandbox.postgresql.kill()
                begun.set()

    monkeypatch.setattr(postgresql_dump, "decode", slowly)
    try:
        with pytest.raises(UnreachableError, match=r"pg_dump lost PostgreSQL database test_|does not answer"):
            save(database, endpoints, location)
        assert begun.is_set()
        assert files(location) == []
    finally:
        sandbox.postgresql.start()


def test_a_table_that_somebody_keeps_locked_is_not_waited_for_without_end(
    endpoints: Endpoints, database: str, location: SetLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "CREATE TABLE locked (id int)")
    for module in (postgresql_snapshot, postgresql_dump):
        monkeypatch.setattr(module, "LOCK_MILLISECONDS", 200)
    address = parse_url(database)
    with psycopg.connect(database) as migration:
        migration.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        with hold_snapshot(address) as snapshot:
            dumping = rf"{address}, which pg_dump asked for public\.locked, kept us waiting for a lock"
            with pytest.raises(SourceError, match=dumping):
                save_database.fn(snapshot, endpoints.pg_bin, location)
        with (
            hold_snapshot(address) as snapshot,
            pytest.raises(SourceError, match=rf"{address} kept us waiting .* and end that one\.$"),
        ):
            observe_tables.fn(snapshot)
    assert files(location) == []


def test_tables_to_save_are_listed_with_the_servers_estimates(endpoints: Endpoints) -> None:
    with hold_snapshot(parse_url(endpoints.postgresql_url)) as snapshot:
        tables = observe_tables.fn(snapshot)
    assert [table.name for table in tables] == sorted(table.name for table in tables)
    assert all(table.bytes_estimate > 0 for table in tables if table.name == "public.users")


@pytest.mark.parametrize(
    "query",
    [
        "schema=public",
        "connection_limit=5&pool_timeout=10&schema=public&sslmode=disable",
        "pgbouncer=true&statement_cache_size=0&socket_timeout=3",
        "sslaccept=accept_invalid_certs&schema=a%20b",
    ],
)
def test_prismas_parameters_are_no_hindrance(endpoints: Endpoints, query: str) -> None:
    with connect(parse_url(f"{endpoints.postgresql_url}?{query}")) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("propertypulse",)


def test_libpqs_parameters_are_kept_as_they_are_written(endpoints: Endpoints) -> None:
    url = f"{endpoints.postgresql_url}?schema=public&options=-c%20work_mem%3D7MB&application_name=a+b"
    address = parse_url(url)
    assert address.parameters.values["options"] == "-c work_mem=7MB"
    assert address.environment()["PGOPTIONS"] == "-c work_mem=7MB"
    assert "schema" not in address.parameters.values
    with connect(address) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_a_connection_that_was_lost_is_unreachable_however_often_it_is_asked(endpoints: Endpoints) -> None:
    address = parse_url(endpoints.postgresql_admin_url)
    with connect(address) as other, psycopg.connect(endpoints.postgresql_admin_url) as lost:
        other.execute("SELECT pg_terminate_backend(%s)", [lost.info.backend_pid])
        for said in ("is shutting down", r"does not answer \(the connection is closed\)"):
            with pytest.raises(UnreachableError, match=f"^The server {said}"), translated("The server"):
                lost.execute("SELECT 1")


@pytest.mark.parametrize(("query", "idle"), [("", "60"), ("?keepalives_idle=7", "7")])
def test_a_connection_that_idles_is_kept_alive_unless_the_url_says_otherwise(
    endpoints: Endpoints, query: str, idle: str
) -> None:
    with hold_snapshot(parse_url(f"{endpoints.postgresql_url}{query}")) as snapshot:
        assert snapshot.connection.info.get_parameters()["keepalives_idle"] == idle


@pytest.mark.parametrize(
    "malformed",
    [
        f"postgresql://app:{CANARY}/more@host/db",
        f"postgresql://app:12/{CANARY}@host/db",
        f"postgresql://app:more@{CANARY}@host/db",
        f"postgresql://app:%{CANARY}@host/db",
        f"postgresql://app:{CANARY}@[::1/db",
        f"postgresql://app:{CANARY}@host:port/db",
        f"postgresql://app:{CANARY}@host/db?unknown=1",
        f"mysql://app:{CANARY}@host/db",
        CANARY,
    ],
)
def test_a_malformed_url_is_refused_without_a_piece_of_it(malformed: str) -> None:
    with pytest.raises(ConfigurationError, match=r"malformed: expected postgresql://") as raised:
        parse_url(malformed)
    assert CANARY not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_url_without_a_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="names no database"):
        parse_url("postgresql://u:p@host/")
