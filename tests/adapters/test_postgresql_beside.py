"""A set is restored beside the real database, into one that the application can be given instead."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deployments.sandbox.endpoints import Endpoints
from tasks import postgresql_archive
from tasks.errors import ConfigurationError, DamagedSetError, UnreachableError
from tasks.postgresql import parse_url
from tasks.postgresql_beside import restore_beside
from tasks.postgresql_dump import DUMP_KEY, save_database
from tasks.postgresql_replication import observe_replication
from tasks.postgresql_restore import drop_database, observe_restored_database
from tasks.postgresql_snapshot import hold_snapshot
from tasks.records.backup import PostgresqlContent, PostgresqlFacts
from tasks.records.replication import Replication
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import ZSTD
from tests.adapters.conftest import make_location

PASSWORD = "Ab1%@:/ ?#"
# Roles: {app} logs in and owns the database, {keeper} only owns, {reader} is let in to read.
CONTENT = """
SET ROLE {app};
CREATE TABLE accounts (id serial PRIMARY KEY, owner text UNIQUE, balance numeric CHECK (balance >= 0));
INSERT INTO accounts (owner, balance) SELECT 'owner ' || n, n / 3.0 FROM generate_series(1, 2000) n;
SELECT setval('accounts_id_seq', 77777);
CREATE SEQUENCE never_used START 5;
CREATE MATERIALIZED VIEW totals AS SELECT sum(balance) FROM accounts;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
GRANT SELECT (id, owner) ON accounts TO {reader};
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader};
RESET ROLE;
CREATE SCHEMA kept AUTHORIZATION {keeper};
SET ROLE {keeper};
CREATE TABLE kept.laws (id int PRIMARY KEY, account int, law text);
INSERT INTO kept.laws SELECT n, n, repeat('law', 100) FROM generate_series(1, 500) n;
GRANT USAGE ON SCHEMA kept TO {app};
GRANT SELECT, INSERT ON kept.laws TO {app} WITH GRANT OPTION;
RESET ROLE;
ALTER TABLE kept.laws ADD FOREIGN KEY (account) REFERENCES public.accounts (id);
SELECT lo_from_bytea(4711, 'a large object');
ALTER LARGE OBJECT 4711 OWNER TO {app};
"""
PROPERTIES = """
ALTER DATABASE {real} CONNECTION LIMIT 17;
ALTER DATABASE {real} SET search_path = "$user", public, "odd, one";
ALTER DATABASE {real} SET statement_timeout = '23s';
ALTER DATABASE {real} SET row_security = off;
ALTER DATABASE {real} SET app.tenant = 'it''s "odd"';
ALTER ROLE {app} IN DATABASE {real} SET role = {app};
ALTER ROLE {app} IN DATABASE {real} SET search_path = '';
COMMENT ON DATABASE {real} IS 'of the "invoices"';
REVOKE ALL ON DATABASE {real} FROM PUBLIC;
GRANT CONNECT ON DATABASE {real} TO {reader} WITH GRANT OPTION;
GRANT TEMPORARY ON DATABASE {real} TO {keeper};
"""
# Read from the catalog as it stands, apart from what only says which database it is.
ROW = """
    SELECT to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid,datacl}'::text[],
           (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(datacl) acl),
           (SELECT array_agg(setrole::regrole || ' ' || array_to_string(setconfig, ';') ORDER BY setrole)
            FROM pg_db_role_setting WHERE setdatabase = d.oid),
           shobj_description(oid, 'pg_database')
    FROM pg_database d WHERE datname = %s"""
OWNERS_AND_PRIVILEGES = """
    SELECT relkind, n.nspname, relname, pg_get_userbyid(relowner), relacl::text, nspacl::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'kept')
    UNION ALL SELECT 'f', '', proname, pg_get_userbyid(proowner), proacl::text, NULL
    FROM pg_proc WHERE proname = 'twice'
    UNION ALL SELECT 'd', '', '', pg_get_userbyid(defaclrole), defaclacl::text, NULL FROM pg_default_acl
    UNION ALL SELECT 'l', '', oid::text, pg_get_userbyid(lomowner), lomacl::text, NULL
    FROM pg_largeobject_metadata ORDER BY 1, 2, 3"""


@dataclass(frozen=True)
class Original:
    """A saved database with roles of its own, the set that it is in, and a name beside it."""

    admin: str
    profile: ServiceProfile
    client_directory: Path
    location: SetLocation
    names: dict[str, str]
    content: PostgresqlContent

    def restore(self, real: str | None = None) -> None:
        restore_beside.fn(
            self.profile.database.admin_url,
            real or self.names["real"],
            self.names["beside"],
            self.names["app"],
            self.content,
            self.client_directory,
            self.location,
        )

    def ask(self, name: str, query: str, *arguments: str) -> list[tuple[object, ...]]:
        unbound = "-c statement_timeout=0"
        with psycopg.connect(self.admin, dbname=self.names[name], options=unbound) as connection:
            return connection.execute(query.encode(), arguments or None).fetchall()

    def observe(self) -> PostgresqlFacts:
        reference = self.profile.database.admin_url
        return observe_restored_database.fn(reference, self.names["beside"], self.client_directory)


def execute(url: str, script: str, names: dict[str, str], database: str | None = None) -> None:
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    with psycopg.connect(make_conninfo(url, dbname=database), autocommit=True) as connection:
        for statement in script.split(";\n"):
            connection.execute(sql.SQL(statement).format(**identifiers))


@pytest.fixture
def original(endpoints: Endpoints, propertypulse: ServiceProfile, tmp_path: Path) -> Iterator[Original]:
    admin, name = endpoints.postgresql_admin_url, f"test_{uuid.uuid4().hex[:8]}"
    names = {word: f"{name} {word}" for word in ("real", "beside", "app", "keeper", "reader")}
    execute(
        admin,
        f"""CREATE ROLE {{app}} LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE {{keeper}};
CREATE ROLE {{reader}};
CREATE DATABASE {{real}} OWNER {{app}} TEMPLATE template0 ENCODING UTF8
    LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'""",
        names,
    )
    execute(admin, CONTENT, names, names["real"])
    execute(admin, PROPERTIES, names)
    location = make_location(tmp_path / "store")
    with hold_snapshot(parse_url(admin, names["real"])) as snapshot:
        content = save_database.fn(snapshot, endpoints.pg_bin, location)
    yield Original(admin, propertypulse, endpoints.pg_bin, location, names, content)
    execute(
        admin,
        """DROP DATABASE IF EXISTS {beside} WITH (FORCE);
DROP DATABASE IF EXISTS {real} WITH (FORCE);
DROP ROLE IF EXISTS {app};
DROP ROLE IF EXISTS {keeper};
DROP ROLE IF EXISTS {reader}""",
        names,
    )


def test_it_is_like_the_real_one_and_holds_what_was_saved(original: Original) -> None:
    original.restore()
    names = original.names
    assert original.ask("beside", ROW, names["beside"]) == original.ask("real", ROW, names["real"])
    assert original.ask("beside", OWNERS_AND_PRIVILEGES) == original.ask("real", OWNERS_AND_PRIVILEGES)
    assert original.observe() == PostgresqlFacts(
        tables=original.content.tables, definitions=original.content.definitions
    )


def test_the_application_works_in_it_as_itself(original: Original) -> None:
    original.restore()
    with psycopg.connect(
        original.admin, user=original.names["app"], password=PASSWORD, dbname=original.names["beside"]
    ) as connection:
        connection.execute("INSERT INTO public.accounts (owner, balance) VALUES ('new', 1)")
        assert connection.execute("SELECT max(id) FROM public.accounts").fetchone() == (77778,)
        connection.execute("INSERT INTO kept.laws VALUES (501, 1, 'new')")
        connection.execute("ALTER TABLE public.accounts ADD COLUMN migrated int")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM kept.laws")


def test_settings_that_bind_the_application_do_not_bind_the_restore(original: Original) -> None:
    settings = """ALTER DATABASE {real} SET statement_timeout = 1;
ALTER DATABASE {real} SET default_transaction_read_only = on"""
    execute(original.admin, settings, original.names)
    original.restore()
    assert original.ask("beside", "SELECT count(*) FROM accounts") == [(2000,)]
    assert original.observe().tables == original.content.tables


def test_its_tables_are_analysed(original: Original) -> None:
    original.restore()
    rows = "SELECT reltuples::int FROM pg_class WHERE relname = 'accounts'"
    assert original.ask("beside", rows) == [(2000,)]


def test_the_real_one_is_not_touched(original: Original) -> None:
    execute(original.admin, "DELETE FROM kept.laws", original.names, original.names["real"])
    before = original.ask("real", "SELECT xmin, xmax, * FROM accounts ORDER BY id")
    original.restore()
    assert original.ask("real", "SELECT xmin, xmax, * FROM accounts ORDER BY id") == before
    assert original.ask("real", "SELECT count(*) FROM kept.laws") == [(0,)]


def test_a_subscription_is_not_restored_as_no_database_with_one_can_be_dropped(
    original: Original, tmp_path: Path
) -> None:
    real, reference = original.names["real"], original.profile.database.admin_url
    making = "CREATE SUBSCRIPTION orders CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)"
    execute(original.admin, making, {}, real)
    try:
        assert observe_replication.fn(reference, real) == Replication(subscriptions=("orders",))
        location = make_location(tmp_path / "subscribed")
        with hold_snapshot(parse_url(original.admin, real)) as snapshot:
            content = save_database.fn(snapshot, original.client_directory, location)
        replace(original, location=location, content=content).restore()
        assert observe_replication.fn(reference, original.names["beside"]) == Replication()
    finally:
        leaving = "ALTER SUBSCRIPTION orders SET (slot_name = NONE);\nDROP SUBSCRIPTION orders"
        execute(original.admin, leaving, {}, real)


def test_a_logical_slot_is_of_the_database_and_goes_with_it(original: Original) -> None:
    names, reference = original.names, original.profile.database.admin_url
    execute(original.admin, "CREATE DATABASE {beside}", names)
    make = "SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')"
    execute(original.admin, make, {}, names["beside"])
    execute(original.admin, "ALTER DATABASE {beside} RENAME TO {aside}", {**names, "aside": "slot aside"})
    assert observe_replication.fn(reference, "slot aside") == Replication(slots=("warehouse",))
    assert observe_replication.fn(reference, names["real"]) == Replication()
    drop_database.fn(reference, "slot aside")
    assert original.ask("real", "SELECT count(*) FROM pg_replication_slots") == [(0,)]


def test_where_the_real_one_was_dropped_the_owner_of_the_url_gets_it(original: Original) -> None:
    execute(original.admin, "DROP DATABASE {real}", original.names)
    original.restore()
    query = "SELECT pg_get_userbyid(datdba), datconnlimit, datacl FROM pg_database WHERE datname = %s"
    assert original.ask("beside", query, original.names["beside"]) == [(original.names["app"], -1, None)]
    assert original.observe().tables == original.content.tables


def test_a_role_that_is_missing_is_named(original: Original) -> None:
    names = original.names
    execute(
        original.admin, "REASSIGN OWNED BY {keeper} TO {app};\nDROP OWNED BY {keeper}", names, names["real"]
    )
    execute(original.admin, "DROP ROLE {keeper}", names)
    with pytest.raises(ConfigurationError, match=f"needs the role {names['keeper']}, which"):
        original.restore()


def test_an_owner_that_is_missing_is_named(original: Original) -> None:
    execute(original.admin, "DROP DATABASE {real};\nDROP ROLE {app}", original.names)
    with pytest.raises(ConfigurationError, match=f'role "{original.names["app"]}" does not exist'):
        original.restore()


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_dump_that_is_cut_short_does_not_pass(original: Original, kept: float) -> None:
    folder = SetFolder(original.location)
    raw = b"".join(folder.load(DUMP_KEY, ZSTD))
    folder.save(DUMP_KEY, [raw[: int(kept * len(raw))]], ZSTD)
    with pytest.raises(DamagedSetError, match="The dump does not restore"):
        original.restore()


def test_a_row_that_breaks_a_constraint_does_not_pass(original: Original) -> None:
    folder = SetFolder(original.location)
    raw = b"".join(folder.load(DUMP_KEY, ZSTD))
    # Every row has its length before it.
    assert raw.count(b"\x007\t7\tlaw") == 1
    folder.save(DUMP_KEY, [raw.replace(b"\x007\t7\tlaw", b"\x008\t7\tlaw")], ZSTD)
    with pytest.raises(DamagedSetError, match="could not create unique index"):
        original.restore()


def test_the_head_is_found_however_much_is_in_it(
    original: Original, monkeypatch: pytest.MonkeyPatch, endpoints: Endpoints
) -> None:
    """It is looked for from the first bytes on, in chunks that end anywhere."""
    monkeypatch.setattr(postgresql_archive, "_FIRST_LOOK_BYTES", 1)
    raw = b"".join(SetFolder(original.location).load(DUMP_KEY, ZSTD))
    execute(original.admin, "CREATE DATABASE {beside}", original.names)
    address = parse_url(original.admin, original.names["beside"])
    chunks = (raw[at : at + 4000] for at in range(0, len(raw), 4000))
    postgresql_archive.restore_archive(chunks, address, endpoints.pg_bin)
    assert original.observe().definitions == original.content.definitions
    assert original.observe().tables == original.content.tables


def test_a_server_that_goes_away_says_nothing_against_the_dump(
    original: Original, endpoints: Endpoints
) -> None:
    def chunks() -> Iterator[bytes]:
        raw = b"".join(SetFolder(original.location).load(DUMP_KEY, ZSTD))
        # Enough of it that pg_restore has connected, and is waiting for the rest.
        most = len(raw) * 9 // 10
        yield raw[:most]
        deadline = time.monotonic() + 60
        # Each look is a transaction of its own: one sees the same sessions for as long as it lasts.
        with psycopg.connect(original.admin, autocommit=True) as connection:
            query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            while not connection.execute(query, (original.names["beside"],)).fetchall():
                assert time.monotonic() < deadline, "pg_restore never connected"
        yield raw[most:]

    execute(original.admin, "CREATE DATABASE {beside}", original.names)
    address = parse_url(original.admin, original.names["beside"])
    with pytest.raises(UnreachableError):
        postgresql_archive.restore_archive(chunks(), address, endpoints.pg_bin)
