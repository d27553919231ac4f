"""A database password is replaced on real servers: the new one serves, the old one does not, none is told."""

import logging
import os
import re
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.uri_parser import parse_uri

from deployments.sandbox.stack import Sandbox
from tasks import mongodb as mongodb_connecting
from tasks import rotator_database, rotator_mongodb, rotator_postgresql
from tasks.database_login import DatabaseLogin, find_bare, find_others, find_urls, read_login, replace_login
from tasks.environment_file import read_variables
from tasks.environment_writing import write_variables
from tasks.errors import AccessDeniedError, RunbookError, UnreachableError
from tasks.opening_rotators import open_rotator
from tasks.postgresql import parse_url
from tasks.postgresql_limits import Limits
from tasks.postgresql_refusals import judge_refusal
from tasks.process_manager import manager_of
from tasks.records.credential_care import Credentials, DatabasePassword
from tasks.records.rotation import CredentialFacts, Kept
from tasks.records.service import ServiceProfile
from tasks.rotator import Rotator
from tests.adapters.conftest import silent_about
from tests.adapters.test_process_manager import wait_until

TABLES = """
CREATE TABLE accounts (id serial PRIMARY KEY, owner text);
CREATE TABLE "Odd name" (
    id int GENERATED ALWAYS AS IDENTITY, half int, twice int GENERATED ALWAYS AS (half * 2) STORED
);
CREATE VIEW seen AS SELECT * FROM accounts;
INSERT INTO accounts (owner) SELECT 'owner ' || n FROM generate_series(1, 50) n;
INSERT INTO "Odd name" (half) VALUES (1);
"""
CLOSED_FUNCTION = """
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION one FROM PUBLIC;
GRANT EXECUTE ON FUNCTION one TO ROTATED_a;
"""
NASTY = "p@ss/w:rd%?#[]'\"` \\ü"
# Of SSL, and of GSSAPI.
_REQUEST_FOR_ENCRYPTION = 8


@dataclass
class Case:
    """A service with a database and two users of its own, of whom the first is in its URL.

    ``run`` lets the administrator do something in the database; its users are ``<name>_a`` and ``<name>_b``,
    each with its letter for a password.
    """

    profile: ServiceProfile
    folder: Path
    name: str
    variable: str
    run: Callable[..., Any]
    at: str

    def url(self, user: str, password: str) -> str:
        return self.at.replace("LOGIN", f"{user}:{quote(password, safe='')}")

    def open(self, profile: ServiceProfile | None = None, **terms: Any) -> Rotator:
        taken = (profile or self.profile).model_copy(
            update={"credentials": Credentials(database_password=DatabasePassword(**terms))}
        )
        return open_rotator(taken, "database-password")

    def write(self, **values: str | None) -> None:
        write_variables(self.profile, values, {})

    def present(self, facts: CredentialFacts) -> Kept:
        variables = read_variables(self.profile)
        return Kept("now", {name: variables.get(name) for name in facts.variables})

    def refusal(self, profile: ServiceProfile | None = None, **terms: Any) -> str:
        return self.open(profile, **terms).observe().refusal or "not refused"

    def admin_as(self, url: str) -> ServiceProfile:
        secret = self.folder / "other-admin"
        secret.write_text(url)
        secret.chmod(0o600)
        database = self.profile.database.model_copy(update={"admin_url": f"file:{secret}"})
        return self.profile.model_copy(update={"database": database})


def lay_out(profile: ServiceProfile, folder: Path, url: str) -> ServiceProfile:
    (folder / ".env").write_text(f'OTHER=1\n{profile.database.url_variable}="{url}"\n')
    application = profile.application.model_copy(update={"directory": folder})
    return profile.model_copy(update={"application": application, "state_directory": folder / "state"})


@pytest.fixture
def postgresql(propertypulse: ServiceProfile, sandbox: Sandbox, tmp_path: Path) -> Iterator[Case]:
    admin_url = (sandbox.state / "secrets" / "postgresql-admin-url").read_text().strip()
    name = f"rotated_{secrets.token_hex(4)}"
    server = admin_url.partition("@")[2].partition("/")[0]
    at = f"postgresql://LOGIN@{server}/{name}?schema=public&connection_limit=5"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name}_owner".encode())
        admin.execute(f"CREATE DATABASE {name} OWNER {name}_owner".encode())
        with psycopg.connect(f"{admin_url.rpartition('/')[0]}/{name}", autocommit=True) as inside:

            def run(text: str) -> Any:
                found = inside.execute(text.replace("ROTATED", name).encode())
                return found.fetchall() if found.description else None

            run("ALTER SCHEMA public OWNER TO ROTATED_owner; SET ROLE ROTATED_owner")
            run(TABLES)
            run("RESET ROLE")
            for one in ("a", "b"):
                run(f"CREATE ROLE ROTATED_{one} LOGIN PASSWORD '{one}' IN ROLE ROTATED_owner")
                run(f"ALTER ROLE ROTATED_{one} SET role = ROTATED_owner")
            url = at.replace("LOGIN", f"{name}_a:a")
            yield Case(lay_out(propertypulse, tmp_path, url), tmp_path, name, "DATABASE_URL", run, at)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        admin.execute(f"DROP ROLE {name}_a, {name}_b, {name}_owner".encode())


@pytest.fixture
def mongodb(invoice: ServiceProfile, sandbox: Sandbox, tmp_path: Path) -> Iterator[Case]:
    admin_url = (sandbox.state / "secrets" / "mongodb-admin-url").read_text().strip()
    name = f"rotated_{secrets.token_hex(4)}"
    server = admin_url.partition("@")[2].partition("/")[0]
    at = f"mongodb://LOGIN@{server}/{name}?authSource={name}&directConnection=true"
    client: MongoClient[dict[str, Any]]
    with MongoClient(admin_url) as client:
        database: Database[dict[str, Any]] = client[name]

        def run(command: str, *arguments: Any, **more: Any) -> Any:
            return database.command(command, *arguments, **more)

        database["accounts"].insert_many([{"_id": number, "owner": number or None} for number in range(20)])
        database["accounts"].create_index("owner", unique=True)
        database.create_collection("events", capped=True, size=4096).insert_one({"_id": 1})
        database.create_collection("seen", viewOn="accounts", pipeline=[])
        for one in ("a", "b"):
            run("createUser", f"{name}_{one}", pwd=one, roles=["readWrite"])
        url = at.replace("LOGIN", f"{name}_a:a")
        yield Case(lay_out(invoice, tmp_path, url), tmp_path, name, "MONGODB_URI", run, at)
        for one in ("a", "b"):
            run("dropUser", f"{name}_{one}")
        client.drop_database(name)


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One server alone settles at once."""
    monkeypatch.setattr(rotator_mongodb.MongodbUsers, "settled_within", 0.5)
    monkeypatch.setattr(rotator_postgresql.PostgresqlUsers, "settled_within", 0.5)


@pytest.fixture(params=["postgresql", "mongodb"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def open_session(kept: Kept, name: str = "") -> psycopg.Connection:
    """Open a session as the application would with these values."""
    values = parse_url(kept.value("DATABASE_URL")).parameters.values
    return psycopg.connect(make_conninfo("", **values), application_name=name)


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which nobody answers, and nobody else can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# --- The URL ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://app:old@db:5432/x?schema=public&connection_limit=5",
            "postgresql://LOGIN@db:5432/x?schema=public&connection_limit=5",
        ),
        ("postgres://app:o%40ld@a,b:1/x", "postgres://LOGIN@a,b:1/x"),
        ("mongodb+srv://app:old@cluster.example.com/x?retryWrites=true&w=majority", None),
        ("mongodb://app:old@a:1,b:2,[::1]:3/x?authSource=admin&replicaSet=rs0", None),
        ("mongodb://app:old@%2Ftmp%2Fmongodb.sock/x", None),
        ("postgresql://app:old@/x?host=/var/run/postgresql", None),
        ("postgresql://app:old@db/x?options=-c%20search_path%3Dapp&a=+", None),
    ],
)
def test_a_url_gets_another_login_and_keeps_everything_else(url: str, expected: str | None) -> None:
    written = replace_login(url, DatabaseLogin("new app", NASTY))
    login = f"new%20app:{quote(NASTY, safe='')}"
    assert written == (expected or re.sub("app:old(?=@)", "LOGIN", url)).replace("LOGIN", login)
    assert read_login(written) == DatabaseLogin("new app", NASTY)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(user=st.text(min_size=1), password=st.text(min_size=1))
def test_any_login_survives_its_url_and_is_what_the_drivers_read(user: str, password: str) -> None:
    login = DatabaseLogin(user, password)
    assume("\0" not in user + password)
    for url in ("postgresql://a:b@db:5432/x?schema=public", "mongodb://a:b@db/x"):
        written = replace_login(url, login)
        assert read_login(written) == login
        if url.startswith("mongodb"):
            assert (parse_uri(written)["username"], parse_uri(written)["password"]) == (user, password)
        else:
            address = parse_url(written)
            assert (address.user, address.parameters.values["password"]) == (user, password)
            assert (address.host, address.database) == ("db", "x")


@pytest.mark.parametrize(
    "url", ["", "x", "postgresql://db/x", "postgresql://app@db/x", "postgresql://:p@db/x"]
)
def test_a_url_without_user_and_password_has_no_login(url: str) -> None:
    assert read_login(url) is None


def test_every_url_with_the_login_is_found_and_no_other() -> None:
    variables = {
        "DATABASE_URL": "postgresql://app:p%40ss@pooler:6432/x?pgbouncer=true",
        "DIRECT_URL": "postgresql://app:p@ss@db:5432/x",
        "ESCAPED_DIRECT_URL": "postgresql://app:p%40ss@db:5432/x",
        "OTHERS_URL": "postgresql://other:p%40ss@db:5432/x",
        "SHADOW_URL": "postgres://app:p%40ss@db:5432/shadow",
        "REDIS_URL": "redis://app:p%40ss@cache:6379",
        "MONGODB_URI": "mongodb://app:p%40ss@documents/x",
        "PGPASSWORD": "p@ss",
        "APP_DB_PASS": "p@ss",
        "REDIS_PASSWORD": "p@ss",
        "MONGO_PASSWORD": "p@ss",
        "GREETING": "p@ss",
        "NOTE": "nothing",
    }
    url = variables["DATABASE_URL"]
    assert [*find_urls(variables, url)] == ["DATABASE_URL", "DIRECT_URL", "ESCAPED_DIRECT_URL", "SHADOW_URL"]
    assert [*find_bare(variables, url)] == ["PGPASSWORD", "APP_DB_PASS"]
    assert [*find_others(variables, url)] == [
        "REDIS_URL",
        "MONGODB_URI",
        "REDIS_PASSWORD",
        "MONGO_PASSWORD",
        "GREETING",
    ]
    assert [*find_urls(variables, variables["MONGODB_URI"])] == ["MONGODB_URI"]
    assert [*find_bare(variables, variables["MONGODB_URI"])] == ["APP_DB_PASS", "MONGO_PASSWORD"]
    seeded = {"MONGODB_URI": "mongodb+srv://app:p%40ss@cluster.example.com/x"}
    assert [*find_urls(seeded, variables["MONGODB_URI"])] == ["MONGODB_URI"]


# --- One user ---


def test_one_user_gets_a_new_password_and_the_old_one_is_refused(case: Case) -> None:
    rotator = case.open()
    facts = rotator.observe()
    assert facts.refusal is None
    assert facts.provider == {f"{case.name}_a": "in use"}
    assert "a" not in [*facts.variables.values()]
    previous = case.present(facts)
    pending = rotator.make("one", facts.provider)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (True, False)

    for _ in range(2):
        # As after a kill.
        rotator.put_in_force(pending, previous)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (False, True)
    rotator.exercise(pending, previous)
    case.write(**pending.variables)
    assert rotator.prove_application(pending, previous) is None
    assert rotator.find_use(facts.stages[0].name, previous) is None
    assert rotator.prove_refused(facts.stages[0].name, previous) == (
        f"A new connection of {case.name}_a with the old password is refused."
    )


def test_what_failed_is_put_back_and_the_new_password_is_refused(case: Case) -> None:
    rotator = case.open()
    facts = rotator.observe()
    previous, pending = case.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    for _ in range(2):
        rotator.put_back(pending, previous)
        rotator.discard("one", facts.provider, pending)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (True, False)
    rotator.discard("one", facts.provider, None)


def test_an_old_password_that_is_known_a_moment_later_was_put_back(postgresql: Case) -> None:
    rotator = postgresql.open()
    facts = rotator.observe()
    previous, pending = postgresql.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    # As a pooler does, which tries no login for a while after one that failed.
    postgresql.run("ALTER ROLE ROTATED_a VALID UNTIL '2020-01-01'")
    known = threading.Timer(0.2, postgresql.run, ["ALTER ROLE ROTATED_a VALID UNTIL 'infinity'"])
    known.start()
    rotator.put_back(pending, previous)
    assert rotator.accepts(previous)
    known.join()


@pytest.mark.parametrize("is_single", [True, False], ids=["one user", "two users"])
def test_a_password_that_is_dead_already_is_replaced(case: Case, is_single: bool) -> None:
    case.write(**{case.variable: case.url(f"{case.name}_a", "of yesterday")})
    rotator = case.open() if is_single else case.open(alternate=turns(case))
    facts = rotator.observe()
    assert facts.refusal is None
    assert facts.is_dead
    assert facts.provider[f"{case.name}_a"] == "refused"
    assert f"refuses the password in {case.variable} already: it is never put back" in facts.warnings[0]
    previous, pending = case.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    rotator.exercise(pending, previous)
    case.write(**pending.variables)
    rotator.retire(facts.stages[0].name, pending, previous)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (False, True)
    assert not rotator.observe().is_dead


def test_of_a_dead_password_the_second_user_may_still_not_do_less(case: Case) -> None:
    case.write(**{case.variable: case.url(f"{case.name}_a", "of yesterday")})
    assert case.refusal(alternate=turns(case)) == "not refused"
    if case.variable == "DATABASE_URL":
        case.run("REVOKE ROTATED_owner FROM ROTATED_b")
    else:
        case.run("updateUser", f"{case.name}_b", roles=["read"])
    assert f"{case.name}_b may less than {case.name}_a in" in case.refusal(alternate=turns(case))


def test_every_url_and_the_bare_password_change_together(postgresql: Case) -> None:
    url = read_variables(postgresql.profile)["DATABASE_URL"]
    postgresql.write(DIRECT_URL=url.replace("&connection_limit=5", ""), PGPASSWORD="a")
    rotator = postgresql.open()
    facts = rotator.observe()
    assert [*facts.variables] == ["DATABASE_URL", "DIRECT_URL", "PGPASSWORD"]
    values = rotator.make("one", facts.provider).variables
    password = values["PGPASSWORD"]
    assert password is not None
    assert len(password) == 43
    assert values["DATABASE_URL"] == url.replace("_a:a@", f"_a:{password}@")
    assert values["DIRECT_URL"] == url.replace("_a:a@", f"_a:{password}@").replace("&connection_limit=5", "")
    assert "takes turns" not in " ".join(facts.warnings)


def test_a_url_of_another_server_is_tried_before_anything_is_promoted(postgresql: Case) -> None:
    """It may have users and passwords of its own, and its URL the same login by chance."""
    url = read_variables(postgresql.profile)["DATABASE_URL"]
    by_name = url.replace("127.0.0.1", "localhost").partition("?")[0]
    with closed_port() as port:
        for elsewhere, kind, said in (
            (by_name, None, ""),
            # As a server that knows another password.
            (
                f"{by_name}?password=another",
                RunbookError,
                "REPORTS_URL has the login of DATABASE_URL, and leads",
            ),
            (re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", url), UnreachableError, f"127.0.0.1:{port}"),
        ):
            postgresql.write(REPORTS_URL=elsewhere)
            rotator = postgresql.open()
            facts = rotator.observe()
            assert "REPORTS_URL" in facts.variables
            previous, pending = postgresql.present(facts), rotator.make("one", facts.provider)
            rotator.put_in_force(pending, previous)
            if kind is None:
                rotator.exercise(pending, previous)
            else:
                with pytest.raises(kind, match=re.escape(said)):
                    rotator.exercise(pending, previous)
            rotator.put_back(pending, previous)


def test_what_only_has_the_same_password_stays_and_the_plan_says_so(postgresql: Case) -> None:
    postgresql.write(REDIS_PASSWORD="a", GRADE="a")
    facts = postgresql.open().observe()
    assert [*facts.variables] == ["DATABASE_URL"]
    assert "REDIS_PASSWORD, GRADE: the same password" in " ".join(facts.warnings)


def test_a_password_of_any_characters_is_replaced(case: Case) -> None:
    user = f"{case.name}_a"
    if case.variable == "DATABASE_URL":
        case.run(f"ALTER ROLE {user} PASSWORD {sql.quote(NASTY)}")
    else:
        case.run("updateUser", user, pwd=NASTY)
    case.write(**{case.variable: case.url(user, NASTY)})
    rotator = case.open()
    facts = rotator.observe()
    assert facts.refusal is None
    previous, pending = case.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    assert not rotator.accepts(previous)
    rotator.put_back(pending, previous)
    assert rotator.accepts(previous)


def test_sessions_of_the_old_password_end_and_those_of_the_new_one_live(
    postgresql: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotator = postgresql.open()
    facts = rotator.observe()
    previous, pending = postgresql.present(facts), rotator.make("one", facts.provider)
    with open_session(previous) as old:
        rotator.put_in_force(pending, previous)
        opened = time.monotonic()
        wait_until(lambda: time.monotonic() > opened + 0.6)
        # As if the application had been started now.
        started = datetime.now(UTC) - timedelta(seconds=0.3)
        measure = lambda _: datetime.now(UTC) - started  # noqa: E731
        monkeypatch.setattr(rotator_database.DatabaseRotator, "_measure_age", measure)
        with open_session(pending) as new:
            rotator.retire(facts.stages[0].name, pending, previous)
            assert new.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError):
                old.execute("SELECT 1")


def test_the_age_of_the_applications_processes_bounds_which_sessions_end(postgresql: Case) -> None:
    """The real one: both processes of the sandbox's application are older than this test."""
    rotator = postgresql.open()
    assert isinstance(rotator, rotator_database.DatabaseRotator)
    oldest = min(psutil.Process(pid).create_time() for pid in manager_of(postgresql.profile).list_pids())
    earliest = time.time() - oldest
    age = rotator._measure_age().total_seconds()
    # The kernel's clock and ours differ by less than a second, and so much earlier that nothing new ends.
    assert earliest + 1 < age < time.time() - oldest + 3


def test_where_sessions_are_to_live_on_nothing_is_ended(postgresql: Case) -> None:
    rotator = postgresql.open(end_sessions=False)
    facts = rotator.observe()
    assert facts.stages[0].name == "leave sessions that the old password opened to end by themselves"
    previous, pending = postgresql.present(facts), rotator.make("one", facts.provider)
    with open_session(previous) as old:
        rotator.put_in_force(pending, previous)
        rotator.retire(facts.stages[0].name, pending, previous)
        assert old.execute("SELECT 1").fetchone() == (1,)


# --- No password is told ---


def test_the_password_is_in_no_statement_that_the_server_logs(postgresql: Case, sandbox: Sandbox) -> None:
    log = sandbox.state / "log" / "postgresql.log"
    postgresql.run("ALTER SYSTEM SET log_statement = 'all'")
    postgresql.run("SELECT pg_reload_conf()")
    try:
        wait_until(lambda: postgresql.run("SHOW log_statement") == [("all",)])
        rotator = postgresql.open()
        facts = rotator.observe()
        previous, pending = postgresql.present(facts), rotator.make("one", facts.provider)
        rotator.put_in_force(pending, previous)
        rotator.exercise(pending, previous)
        password = read_login(pending.value("DATABASE_URL"))
        assert password is not None
        wait_until(lambda: f'ALTER ROLE "{postgresql.name}_a" PASSWORD' in log.read_text(errors="replace"))
        written = log.read_text(errors="replace")
    finally:
        postgresql.run("ALTER SYSTEM RESET log_statement")
        postgresql.run("SELECT pg_reload_conf()")
    assert "SCRAM-SHA-256$4096:" in written
    assert password.password not in written


def test_the_driver_of_mongodb_logs_no_password(mongodb: Case, caplog: pytest.LogCaptureFixture) -> None:
    rotator = mongodb.open()
    facts = rotator.observe()
    previous, pending = mongodb.present(facts), rotator.make("one", facts.provider)
    with caplog.at_level(logging.DEBUG, logger="pymongo"):
        rotator.put_in_force(pending, previous)
        rotator.exercise(pending, previous)
    login = read_login(pending.value("MONGODB_URI"))
    assert login is not None
    assert "updateUser" in caplog.text
    assert login.password not in caplog.text


def test_a_user_of_mongodb_keeps_its_roles_and_mechanisms(mongodb: Case) -> None:
    before = mongodb.run("usersInfo", turns(mongodb)[0])["users"]
    rotator = mongodb.open()
    facts = rotator.observe()
    rotator.put_in_force(rotator.make("one", facts.provider), mongodb.present(facts))
    after = mongodb.run("usersInfo", turns(mongodb)[0])["users"]
    assert before[0]["mechanisms"]
    assert after == before


# --- Two users that take turns ---


def turns(case: Case) -> tuple[str, str]:
    return f"{case.name}_a", f"{case.name}_b"


def test_of_two_users_both_work_until_the_turn_of_the_old_one_is_over(case: Case) -> None:
    rotator = case.open(alternate=turns(case), grace="PT1H")
    facts = rotator.observe()
    assert facts.refusal is None
    assert facts.stages[0].after == timedelta(hours=1)
    previous, pending = case.present(facts), rotator.make("one", facts.provider)
    assert pending.facts == {"user": turns(case)[1]}
    rotator.put_in_force(pending, previous)
    rotator.exercise(pending, previous)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (True, True)
    case.write(**pending.variables)

    rotator.retire(facts.stages[0].name, pending, previous)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (False, True)
    assert "is refused" in rotator.prove_refused(facts.stages[0].name, previous)

    # And back, though the first has no password any more.
    again = case.open(alternate=turns(case)).observe()
    assert again.refusal is None
    old, new = case.present(again), rotator.make("two", again.provider)
    assert new.facts == {"user": turns(case)[0]}
    rotator.put_in_force(new, old)
    rotator.exercise(new, old)
    assert rotator.accepts(new)


def test_a_turn_that_is_given_up_leaves_the_first_user_and_not_the_second(case: Case) -> None:
    rotator = case.open(alternate=turns(case))
    facts = rotator.observe()
    previous, pending = case.present(facts), rotator.make("one", facts.provider)
    # Never given to the server: the second user's own is left alone.
    rotator.discard("one", facts.provider, pending)
    assert rotator.accepts(Kept("x", {case.variable: case.url(turns(case)[1], "b")}))
    rotator.put_in_force(pending, previous)
    for _ in range(2):
        rotator.put_back(pending, previous)
        rotator.discard("one", facts.provider, pending)
    assert (rotator.accepts(previous), rotator.accepts(pending)) == (True, False)


def test_an_old_user_with_open_sessions_is_still_in_use_and_they_end_with_it(postgresql: Case) -> None:
    old, new = turns(postgresql)
    rotator = postgresql.open(alternate=(old, new))
    facts = rotator.observe()
    previous, pending = postgresql.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    with open_session(previous, "cron") as session:
        with pytest.raises(UnreachableError, match=rf"{new} has no session, .* {old} has 1\."):
            rotator.prove_application(pending, previous)
        postgresql.write(**pending.variables)
        assert rotator.find_use("x", previous) == f"{old} still has 1 sessions open, from 127.0.0.1 (cron)"
        with open_session(pending):
            assert (
                rotator.prove_application(pending, previous) == f"The application's sessions are {new}'s (1)."
            )
            rotator.retire(facts.stages[0].name, pending, previous)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    wait_until(lambda: rotator.find_use("x", previous) is None)


def test_connections_of_an_old_user_of_mongodb_are_seen_though_they_do_nothing(mongodb: Case) -> None:
    old, new = turns(mongodb)
    rotator = mongodb.open(alternate=(old, new))
    facts = rotator.observe()
    previous, pending = mongodb.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    with pytest.raises(UnreachableError, match=rf"{new} has no session, .* {old} has 0\."):
        rotator.prove_application(pending, previous)
    mongodb.write(**pending.variables)
    client: MongoClient[dict[str, Any]]
    with MongoClient(previous.value("MONGODB_URI"), appname="cron") as client:
        client[mongodb.name]["accounts"].find_one()
        assert rotator.find_use("x", previous) == f"{old} still has 1 sessions open, from 127.0.0.1 (cron)"
    wait_until(lambda: rotator.find_use("x", previous) is None)
    with MongoClient(pending.value("MONGODB_URI")) as client:
        client[mongodb.name]["accounts"].find_one()
        assert rotator.prove_application(pending, previous) == f"The application's sessions are {new}'s (1)."


@pytest.mark.parametrize(
    ("take", "said"),
    [
        ("REVOKE ROTATED_owner FROM ROTATED_b", "CREATE on the database"),
        ("ALTER ROLE ROTATED_b RESET role", "the settings of"),
        ("ALTER ROLE ROTATED_b CONNECTION LIMIT 2", "as many connections"),
        ("ALTER ROLE ROTATED_a BYPASSRLS", "the attribute BYPASSRLS"),
        ("GRANT pg_monitor TO ROTATED_a", "the role pg_monitor"),
        ("CREATE TABLE mine (n int); GRANT INSERT ON mine TO ROTATED_a", "INSERT on mine"),
        ("CREATE TABLE mine (n int); GRANT UPDATE (n) ON mine TO ROTATED_a", "UPDATE on mine.n"),
        ("CREATE SEQUENCE counts; GRANT USAGE ON SEQUENCE counts TO ROTATED_a", "USAGE on counts"),
        ("CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO ROTATED_a", "USAGE on schema other"),
        ("ALTER TABLE accounts OWNER TO ROTATED_a", "accounts"),
        ("CREATE POLICY theirs ON accounts TO ROTATED_a USING (true)", "the policy theirs on accounts"),
        (
            CLOSED_FUNCTION,
            "EXECUTE on one()",
        ),
    ],
)
def test_a_second_role_that_may_less_is_refused_by_what_it_lacks(
    postgresql: Case, take: str, said: str
) -> None:
    assert postgresql.refusal(alternate=turns(postgresql)) == "not refused"
    postgresql.run(take)
    refusal = postgresql.refusal(alternate=turns(postgresql))
    assert refusal.startswith(f"{postgresql.name}_b may less than {postgresql.name}_a in PostgreSQL database")
    assert said in refusal
    assert "let both be members of one role that owns everything" in refusal
    rotator = postgresql.open(alternate=turns(postgresql))
    previous = postgresql.present(postgresql.open().observe())
    pending = Kept("x", {"DATABASE_URL": postgresql.url(f"{postgresql.name}_b", "b")})
    # It may also have been taken since the plan.
    with pytest.raises(AccessDeniedError, match="may less than"):
        rotator.exercise(pending, previous)


def test_a_second_user_that_may_less_is_refused_and_would_be_noticed_later_too(mongodb: Case) -> None:
    first, second = turns(mongodb)
    rotator = mongodb.open(alternate=(first, second))
    facts = rotator.observe()
    previous, pending = mongodb.present(facts), rotator.make("one", facts.provider)
    rotator.put_in_force(pending, previous)
    mongodb.run("updateUser", second, roles=["read"])
    refusal = mongodb.refusal(alternate=(first, second))
    assert refusal.startswith(f"{second} may less than {first} in MongoDB database {mongodb.name}")
    with pytest.raises(AccessDeniedError, match=r"may not write to accounts.*; the old may"):
        rotator.exercise(pending, previous)


# --- Refusals, with the way out ---


def test_a_url_without_a_password_is_managed_elsewhere(case: Case) -> None:
    case.write(**{case.variable: case.at.replace("LOGIN@", "")})
    assert "are managed elsewhere" in case.refusal()


def test_an_administrator_who_is_the_application_is_refused(case: Case) -> None:
    profile = case.admin_as(case.url(f"{case.name}_a", "a").partition("?")[0] + f"?authSource={case.name}")
    if case.variable == "DATABASE_URL":
        profile = case.admin_as(case.url(f"{case.name}_a", "a"))
    assert "would lock the runbooks out: give them a" in case.refusal(profile)
    assert "would lock the runbooks out: give them a" in case.refusal(
        case.admin_as(case.url(f"{case.name}_b", "b")), alternate=turns(case)
    )


def test_a_user_that_is_not_there_is_named_with_where_it_stands(case: Case) -> None:
    missing = case.refusal(alternate=(f"{case.name}_a", f"{case.name}_c"))
    assert f"{case.name}_c" in missing
    assert missing.endswith("create it, or correct credentials.database_password.alternate.")


def test_a_user_that_takes_no_turns_is_named(case: Case) -> None:
    assert f"has the user {case.name}_a, who is none of" in case.refusal(alternate=("x", "y"))


def test_a_bare_password_cannot_change_its_user(case: Case) -> None:
    case.write(DB_PASSWORD="a")
    assert "DB_PASSWORD holds the password without its user" in case.refusal(alternate=turns(case))
    assert case.refusal() == "not refused"


def test_an_administrator_without_the_right_is_refused_with_what_to_grant(
    postgresql: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = postgresql.name
    postgresql.run("CREATE ROLE ROTATED_admin LOGIN PASSWORD 'admin'")
    profile = postgresql.admin_as(postgresql.url(f"{user}_admin", "admin"))
    try:
        assert f"GRANT {user}_a TO {user}_admin WITH ADMIN OPTION" in postgresql.refusal(profile)
        postgresql.run(
            "ALTER ROLE ROTATED_admin CREATEROLE; GRANT ROTATED_a TO ROTATED_admin WITH ADMIN OPTION"
        )
        postgresql.run("GRANT ROTATED_a TO ROTATED_admin WITH INHERIT FALSE")
        assert f"GRANT pg_read_all_stats TO {user}_admin" in postgresql.refusal(profile)
        postgresql.run("GRANT pg_read_all_stats TO ROTATED_admin")
        assert f"GRANT pg_signal_backend TO {user}_admin" in postgresql.refusal(profile)
        postgresql.run("GRANT pg_signal_backend TO ROTATED_admin")
        assert postgresql.refusal(profile) == "not refused"
        rotator = postgresql.open(profile)
        previous, pending = postgresql.present(rotator.observe()), rotator.make("one", {})
        with open_session(previous) as old:
            monkeypatch.setattr(rotator_database.DatabaseRotator, "_measure_age", lambda _: timedelta(0))
            rotator.put_in_force(pending, previous)
            rotator.retire("end", pending, previous)
            assert rotator.accepts(pending)
            with pytest.raises(psycopg.OperationalError):
                old.execute("SELECT 1")
    finally:
        postgresql.run("DROP OWNED BY ROTATED_admin; DROP ROLE ROTATED_admin")


def test_a_role_whose_password_has_ended_is_refused_and_one_whose_ends_soon_is_warned_of(
    postgresql: Case,
) -> None:
    """The date stays when the password is replaced: the new one would be refused as well."""
    user = f"{postgresql.name}_a"
    remedy = f"let the administrator say ALTER ROLE {user} VALID UNTIL 'infinity', or a later date."
    postgresql.run(f"ALTER ROLE {user} VALID UNTIL '2020-01-01 12:00+00'")
    refusal = postgresql.refusal()
    assert f"lets {user} in until 2020-01-01" in refusal
    assert refusal.endswith(remedy)
    postgresql.run(f"ALTER ROLE {user} VALID UNTIL '{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}'")
    facts = postgresql.open().observe()
    assert facts.refusal is None
    assert facts.warnings[-1].endswith(remedy)
    postgresql.run(f"ALTER ROLE {user} VALID UNTIL 'infinity'")
    assert not any("VALID UNTIL" in warning for warning in postgresql.open().observe().warnings)


def test_a_role_that_may_not_log_in_takes_no_turn(postgresql: Case) -> None:
    postgresql.run("ALTER ROLE ROTATED_b NOLOGIN")
    assert "may not log in" in postgresql.refusal(alternate=turns(postgresql))


def test_an_external_user_of_mongodb_is_managed_elsewhere(mongodb: Case) -> None:
    url = read_variables(mongodb.profile)["MONGODB_URI"]
    mongodb.write(MONGODB_URI=re.sub("authSource=[^&]*", "authSource=$external", url))
    assert "a certificate, LDAP, Kerberos or a cloud's IAM lets it in: rotate it there" in mongodb.refusal()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("trust", "lets ROTATED_a in without the URL's password"),
        ("password", "asks ROTATED_a for the password in clear"),
    ],
)
def test_a_server_that_checks_no_password_of_its_own_is_refused(
    postgresql: Case, sandbox: Sandbox, method: str, said: str
) -> None:
    rules = Path(postgresql.run("SHOW hba_file")[0][0])
    before = rules.read_text()
    try:
        rules.write_text(f"host {postgresql.name} {postgresql.name}_a 127.0.0.1/32 {method}\n{before}")
        postgresql.run("SELECT pg_reload_conf()")
        wait_until(lambda: said.replace("ROTATED", postgresql.name) in postgresql.refusal())
    finally:
        rules.write_text(before)
        postgresql.run("SELECT pg_reload_conf()")
    wait_until(lambda: postgresql.refusal() == "not refused")


# --- Servers that do not answer ---


def test_a_server_that_is_away_says_neither_yes_nor_no(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb_connecting, "_SELECTION_MILLISECONDS", 300)
    url = read_variables(case.profile)[case.variable]
    with closed_port() as port:
        gone = Kept("x", {case.variable: re.sub(r":\d+/", f":{port}/", url)})
        with pytest.raises(UnreachableError):
            case.open().accepts(gone)


def test_a_server_that_falls_silent_hangs_nobody(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb_connecting, "_SOCKET_MILLISECONDS", 300)
    monkeypatch.setattr(rotator_postgresql, "_LIMITS", Limits(statement=0.2, lock=0.2, silence=0.3))
    word = b"statement_timeout" if case.variable == "DATABASE_URL" else b"ping"
    began = time.monotonic()
    with (
        silent_about(read_variables(case.profile)[case.variable], word) as silent,
        pytest.raises(UnreachableError, match="does not answer"),
    ):
        case.open().accepts(Kept("x", {case.variable: silent}))
    assert time.monotonic() - began < 10


def say(kind: bytes, content: bytes) -> bytes:
    """Return a message of PostgreSQL's protocol."""
    return kind + (len(content) + 4).to_bytes(4) + content


@contextmanager
def pooler_that_refuses(words: str) -> Iterator[int]:
    """A port at which everybody who comes with a password is told this."""

    class Pooler(BaseRequestHandler):
        def handle(self) -> None:
            while len(asked := self.request.recv(1 << 16)) == _REQUEST_FOR_ENCRYPTION:
                self.request.sendall(b"N")
            assert b"user\0" in asked
            self.request.sendall(say(b"R", (10).to_bytes(4) + b"SCRAM-SHA-256\0\0"))
            self.request.recv(1 << 16)
            self.request.sendall(say(b"E", f"SFATAL\0C08P01\0M{words}\0\0".encode()))

    with ThreadingTCPServer(("127.0.0.1", 0), Pooler) as pooler:
        threading.Thread(target=pooler.serve_forever, args=(0.05,), daemon=True).start()
        yield pooler.server_address[1]
        pooler.shutdown()


@contextmanager
def pooler_with(session: psycopg.Connection) -> Iterator[int]:
    """A port at which everybody is let in, and goes on in a session that a pooler has open at the server."""

    class Pooler(BaseRequestHandler):
        def handle(self) -> None:
            while len(self.request.recv(1 << 16)) == _REQUEST_FOR_ENCRYPTION:
                self.request.sendall(b"N")
            told = say(b"S", b"client_encoding\0UTF8\0") + say(b"S", b"server_version\x0018.0\0")
            self.request.sendall(say(b"R", bytes(4)) + told + say(b"Z", b"I"))
            with socket.socket(fileno=os.dup(session.fileno())) as server:
                ends = {self.request: server, server: self.request}
                while True:
                    for ready in select.select([*ends], [], [])[0]:
                        data = ready.recv(1 << 16)
                        if ready is self.request and (not data or data.startswith(b"X")):
                            return
                        ends[ready].sendall(data)

    with ThreadingTCPServer(("127.0.0.1", 0), Pooler) as pooler:
        threading.Thread(target=pooler.serve_forever, args=(0.05,), daemon=True).start()
        yield pooler.server_address[1]
        pooler.shutdown()


def test_an_old_password_that_still_works_in_a_poolers_session_is_put_back_at_the_server(
    postgresql: Case,
) -> None:
    url = read_variables(postgresql.profile)["DATABASE_URL"]
    direct = Kept("direct", {"DATABASE_URL": url})
    with open_session(direct) as session, pooler_with(session) as port:
        postgresql.write(DATABASE_URL=re.sub(r":\d+/", f":{port}/", url))
        rotator = postgresql.open()
        previous = Kept("one", {**read_variables(postgresql.profile)})
        pending = rotator.make("one", {})
        rotator.put_in_force(pending, previous)
        assert (rotator.accepts(previous), rotator.accepts(direct)) == (True, False)
        rotator.put_back(pending, previous)
        assert rotator.accepts(direct)


def test_a_pooler_whose_own_login_the_server_refuses_lets_nobody_in(postgresql: Case) -> None:
    url = read_variables(postgresql.profile)["DATABASE_URL"]
    with pooler_that_refuses("server login has been failing, try again later (server_login_retry)") as port:
        postgresql.write(DATABASE_URL=re.sub(r":\d+/", f":{port}/", url))
        assert not postgresql.open().accepts(Kept("x", {**read_variables(postgresql.profile)}))
        with pytest.raises(AccessDeniedError, match="compare the pooler's list of passwords"):
            postgresql.open().observe()


def test_a_pooler_that_refuses_the_password_in_words_of_its_own_refuses_it(postgresql: Case) -> None:
    url = read_variables(postgresql.profile)["DATABASE_URL"]
    with pooler_that_refuses("SASL authentication failed") as port:
        refused = re.sub(r":\d+/", f":{port}/", url)
        assert not postgresql.open().accepts(Kept("x", {"DATABASE_URL": refused}))
        with pytest.raises(psycopg.OperationalError) as error:
            psycopg.connect(make_conninfo("", **parse_url(refused).parameters.values))
        assert judge_refusal("it", error.value)[0] == "refuses the password"
        postgresql.write(DATABASE_URL=refused)
        assert postgresql.open().observe().is_dead


def test_a_refusal_of_the_old_password_that_does_not_come_is_an_error(case: Case) -> None:
    rotator = case.open()
    with pytest.raises(RunbookError, match=rf"still accepts the old password of {case.name}_a: see whether"):
        rotator.prove_refused("x", case.present(rotator.observe()))


def test_a_new_password_that_the_server_does_not_accept_is_an_error(case: Case) -> None:
    rotator = case.open()
    facts = rotator.observe()
    with pytest.raises(RunbookError, match=rf"does not accept the new password of {case.name}_a"):
        rotator.exercise(rotator.make("one", facts.provider), case.present(facts))
