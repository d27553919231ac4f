"""Whatever is wrong with the application's database is told apart, on real servers, within five seconds."""

import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg
import pytest
from psycopg import sql
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError, OperationFailure, PyMongoError

from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.stack import Sandbox
from tasks import observing_database as observing
from tasks import observing_mongodb
from tasks.errors import ConfigurationError
from tasks.mongodb_refusals import CLOSED, judge_refusal
from tasks.observing_database import observe_database
from tasks.postgresql_limits import Limits, limited
from tasks.records.database_health import Connections, Sessions
from tasks.records.evidence import DatabaseFacts
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tests.adapters.conftest import silent_about

Kind = Literal["mongodb", "postgresql"]
KINDS = pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
PASSWORD = "hunter2-and-a-token"


@dataclass
class Service:
    """A service on one of the two databases whose URLs a test may change."""

    profile: ServiceProfile
    folder: Path
    url: str
    admin_url: str

    def at(self, url: str | None = None, admin_url: str | None = None) -> ServiceProfile:
        """The profile with the application's URL or the administrator's changed."""
        (self.folder / ".env").write_text(f'{self.profile.database.url_variable}="{url or self.url}"\n')
        secret = self.folder / "admin-url"
        secret.touch(mode=0o600)
        secret.write_text(admin_url or self.admin_url)
        return self.profile.model_copy(
            update={
                "application": self.profile.application.model_copy(update={"directory": self.folder}),
                "database": self.profile.database.model_copy(update={"admin_url": f"file:{secret}"}),
            }
        )

    def observe(self, url: str | None = None, admin_url: str | None = None) -> DatabaseFacts:
        """Observe, and assert what holds of every observation."""
        profile = self.at(url, admin_url)
        began = time.monotonic()
        facts = observe_database.fn(profile)
        took = time.monotonic() - began
        assert took < 5
        assert facts.seconds == pytest.approx(took, abs=0.2)
        assert (facts.problem is None) == (facts.state == "answers")
        assert facts.problem is None or facts.problem.endswith(".")
        assert PASSWORD not in facts.model_dump_json()
        return facts


@pytest.fixture
def service(
    kind: Kind, endpoints: Endpoints, invoice: ServiceProfile, propertypulse: ServiceProfile, tmp_path: Path
) -> Service:
    if kind == "mongodb":
        return Service(invoice, tmp_path, endpoints.mongodb_url, endpoints.mongodb_admin_url)
    return Service(propertypulse, tmp_path, endpoints.postgresql_url, endpoints.postgresql_admin_url)


@pytest.fixture
def postgresql(endpoints: Endpoints, propertypulse: ServiceProfile, tmp_path: Path) -> Iterator[Service]:
    """A database of the test's own, and its owner, who is nobody else's."""
    admin, name = endpoints.postgresql_admin_url, f"outage_{uuid.uuid4().hex[:8]}"
    words = sql.Identifier(name)
    at = f"{admin.rpartition('@')[2].rpartition('/')[0]}/{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(words, PASSWORD))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(words, words))
        made = Service(propertypulse, tmp_path, f"postgresql://{name}:{PASSWORD}@{at}", admin)
        with psycopg.connect(made.url, autocommit=True) as own:
            own.execute("CREATE TABLE books AS SELECT 1 AS id; CREATE TABLE shelves AS SELECT 1 AS id")
        yield made
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(words))
        connection.execute(sql.SQL("DROP ROLE {}").format(words))


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.02)


def listener(backlog: int = 5) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


def elsewhere(url: str, port: int, host: str = "127.0.0.1") -> str:
    """The URL with another host and port."""
    before, _, after = url.rpartition("@")
    return f"{before}@{host}:{port}/{after.partition('/')[2]}"


# --- It answers ---


@KINDS
def test_a_database_that_answers_tells_its_time_and_who_is_connected(service: Service) -> None:
    facts = service.observe()
    assert (facts.state, facts.is_empty) == ("answers", False)
    assert facts.clock is not None
    assert facts.clock.source == "the database"
    # It is this host's own clock, which the server cuts to milliseconds.
    assert abs(facts.clock.seconds) <= facts.clock.uncertainty + 0.002
    assert facts.clock.uncertainty < 1
    assert isinstance(facts.connections, Connections)
    assert isinstance(facts.sessions, Sessions)
    assert facts.seconds < 2
    assert facts.where.endswith(service.url.rpartition("@")[2].partition("/")[0]) or "database" in facts.where


def test_how_far_the_databases_clock_is_ahead_is_known_to_half_of_what_asking_took(
    postgresql: Service,
) -> None:
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
            $$SELECT pg_sleep(0.2); SELECT pg_catalog.clock_timestamp() + interval '1 hour'$$;
            ALTER ROLE CURRENT_USER SET search_path = public, pg_catalog
        """)
    clock = postgresql.observe().clock
    assert clock is not None
    assert abs(clock.seconds - 3600) <= clock.uncertainty
    assert 0.1 <= clock.uncertainty < 1


@KINDS
def test_without_the_administrator_the_application_is_still_told(service: Service) -> None:
    with listener() as silent:
        facts = service.observe(admin_url=elsewhere(service.admin_url, silent.getsockname()[1]))
    assert facts.state == "answers"
    assert isinstance(facts.sessions, Unknown)
    # Everybody may count PostgreSQL's.
    assert isinstance(facts.connections, Connections) == (facts.kind == "postgresql")


def test_a_service_without_a_url_is_no_state_of_its_database(service_without_url: ServiceProfile) -> None:
    with pytest.raises(ConfigurationError, match="is not set"):
        observe_database.fn(service_without_url)


@pytest.fixture
def service_without_url(propertypulse: ServiceProfile, tmp_path: Path) -> ServiceProfile:
    (tmp_path / ".env").write_text("PORT=1\n")
    application = propertypulse.application.model_copy(update={"directory": tmp_path})
    return propertypulse.model_copy(update={"application": application})


# --- The URL, the network ---


@KINDS
@pytest.mark.parametrize(
    "broken",
    [
        "{kind}://user:" + PASSWORD + "/with/slashes@127.0.0.1:1/books",
        "{kind}://user:" + PASSWORD + "@127.0.0.1:1/",
        "127.0.0.1/" + PASSWORD,
        "mysql://user:" + PASSWORD + "@127.0.0.1/books",
    ],
)
def test_a_malformed_url_is_one_and_shows_nothing(service: Service, kind: Kind, broken: str) -> None:
    facts = service.observe(broken.format(kind=kind))
    assert facts.state == "malformed url"
    assert service.profile.database.url_variable in facts.where


@KINDS
def test_a_host_that_nobody_knows_is_unknown(service: Service) -> None:
    facts = service.observe(elsewhere(service.url, 27017, "unknown.invalid"))
    assert facts.state == "unknown host"
    assert "unknown.invalid" in str(facts.problem)


@pytest.mark.parametrize("kind", ["mongodb"])
def test_a_name_without_an_srv_record_is_an_unknown_host(service: Service) -> None:
    facts = service.observe(f"mongodb+srv://user:{PASSWORD}@cluster0.unknown.invalid/books")
    assert facts.state == "unknown host"
    assert "SRV" in str(facts.problem)


@KINDS
def test_a_port_on_which_nobody_listens_refuses(service: Service) -> None:
    with listener() as taken:
        port = taken.getsockname()[1]
    facts = service.observe(elsewhere(service.url, port))
    assert facts.state == "refuses connections"
    assert str(port) in str(facts.problem)
    # The administrator still sees the server.
    assert isinstance(facts.connections, Connections)


@KINDS
def test_a_host_that_swallows_what_is_sent_to_it_does_not_answer(service: Service) -> None:
    with listener(backlog=0) as full, ExitStack() as others:
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        facts = service.observe(elsewhere(service.url, full.getsockname()[1]))
    assert facts.state == "does not answer"
    assert "firewall" in str(facts.problem)


@KINDS
def test_a_proxy_that_accepts_and_is_silent_does_not_answer(service: Service) -> None:
    with listener() as silent:
        facts = service.observe(elsewhere(service.url, silent.getsockname()[1]))
    assert facts.state == "does not answer"
    assert "says nothing" in str(facts.problem)


@contextmanager
def closing_at_once() -> Iterator[int]:
    """A port on which every connection is closed without a word."""
    with listener() as accepting:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    accepting.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield accepting.getsockname()[1]
        accepting.shutdown(socket.SHUT_RDWR)
        thread.join()


@KINDS
def test_one_that_closes_every_connection_does_not_answer_and_it_is_said_how(service: Service) -> None:
    with closing_at_once() as port:
        facts = service.observe(elsewhere(service.url, port))
    assert facts.state == "does not answer"
    assert "close" in str(facts.problem)


@KINDS
@pytest.mark.parametrize("word", ["", "late"])
def test_a_server_that_falls_silent_in_the_middle_is_not_waited_for(
    service: Service, kind: Kind, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "_SECONDS", 1.8)
    words = {
        "mongodb": {"": b"listCollections", "late": b"find"},
        "postgresql": {"": b"NOT EXISTS", "late": b"LIMIT 1"},
    }
    with silent_about(service.url, words[kind][word]) as url:
        facts = service.observe(url)
    assert facts.state == "does not answer"
    assert facts.seconds < 2.2


@contextmanager
def stopped(process: psutil.Process | None) -> Iterator[None]:
    assert process is not None
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            one.send_signal(signal.SIGCONT)


@KINDS
def test_a_server_that_is_stopped_like_a_dead_machine_does_not_answer(
    service: Service, kind: Kind, sandbox: Sandbox
) -> None:
    with stopped(sandbox.supervisor.process(kind)):
        facts = service.observe()
    assert facts.state == "does not answer"
    assert isinstance(facts.connections, Unknown)
    assert isinstance(facts.sessions, Unknown)


# --- The server refuses ---


@KINDS
def test_a_wrong_password_is_refused(service: Service) -> None:
    before, _, at = service.url.rpartition("@")
    facts = service.observe(f"{before.rpartition(':')[0]}:{PASSWORD}@{at}")
    assert facts.state == "refuses the password"
    assert isinstance(facts.connections, Connections)


def test_a_user_whom_postgresql_does_not_know_or_let_in_is_told_from_a_wrong_password(
    postgresql: Service,
) -> None:
    role = sql.Identifier(postgresql.url.rpartition("/")[2])
    with psycopg.connect(postgresql.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
        assert postgresql.observe().state == "does not allow it"
        admin.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role))
        admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC, {}").format(role, role))
        facts = postgresql.observe()
    assert facts.state == "does not allow it"
    assert "connect" in str(facts.problem)


def test_a_postgresql_database_that_was_dropped_is_not_there(postgresql: Service) -> None:
    with psycopg.connect(postgresql.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(postgresql.url.rpartition("/")[2])))
    facts = postgresql.observe()
    assert facts.state == "has no such database"


@pytest.mark.parametrize("kind", ["mongodb"])
def test_a_mongodb_database_that_the_server_does_not_list_is_not_there(service: Service) -> None:
    missing = service.admin_url.replace("/admin?", "/nobody_made_it?")
    facts = service.observe(missing)
    assert (facts.state, facts.is_empty) == ("has no such database", True)
    # Without anybody who may list them, an empty one answers.
    seen_by_the_application = service.observe(missing, service.url)
    assert (seen_by_the_application.state, seen_by_the_application.is_empty) == ("answers", True)


def test_a_postgresql_database_without_a_table_is_empty(postgresql: Service) -> None:
    with psycopg.connect(postgresql.url, autocommit=True) as own:
        own.execute("DROP TABLE books, shelves")
    facts = postgresql.observe()
    assert (facts.state, facts.is_empty) == ("answers", True)


@pytest.mark.parametrize("what", ["ROLE", "DATABASE"])
def test_a_limit_of_connections_is_told_by_whose_it_is(postgresql: Service, what: str) -> None:
    name = sql.Identifier(postgresql.url.rpartition("/")[2])
    with (
        psycopg.connect(postgresql.admin_url, autocommit=True) as admin,
        psycopg.connect(postgresql.url),
    ):
        admin.execute(sql.SQL("ALTER {} {} CONNECTION LIMIT 1").format(sql.SQL(what), name))
        facts = postgresql.observe()
    assert facts.state == "has no connection left"
    assert f"the {'role' if what == 'ROLE' else 'database'}'s own limit" in str(facts.problem)
    assert isinstance(facts.connections, Connections)


def test_a_server_all_of_whose_connections_are_in_use_has_none_left_and_the_administrator_sees_whose_they_are(
    postgresql: Service,
) -> None:
    with ExitStack() as pool:
        with suppress(psycopg.OperationalError):
            for _ in range(60):
                pool.enter_context(psycopg.connect(postgresql.url, application_name="leaking"))
        facts = postgresql.observe()
    assert facts.state == "has no connection left"
    assert "max_connections" in str(facts.problem)
    assert isinstance(facts.connections, Connections)
    assert facts.connections.limit is not None
    assert facts.connections.current >= facts.connections.limit
    assert facts.connections.groups[0].application == "leaking"


@pytest.fixture
def shutting_down(sandbox: Sandbox, endpoints: Endpoints) -> Iterator[None]:
    """A PostgreSQL server that lets the last session finish, and takes nobody any more."""
    process = sandbox.supervisor.process("postgresql")
    assert process is not None
    with psycopg.connect(endpoints.postgresql_admin_url):
        process.send_signal(signal.SIGTERM)
        yield
    sandbox.postgresql.stop()
    sandbox.postgresql.start()


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.usefixtures("shutting_down")
def test_a_postgresql_server_that_shuts_down_says_so(service: Service) -> None:
    wait_until(lambda: service.observe().state != "answers")
    facts = service.observe()
    assert facts.state == "is starting or stopping"
    assert "shutting down" in str(facts.problem)


@pytest.mark.parametrize(
    ("code", "state", "said"),
    [
        (11600, "is starting or stopping", "is shutting down"),
        (91, "is starting or stopping", "is shutting down"),
        (13436, "has no primary", "electing one"),
        (10107, "has no primary", "electing one"),
        (11602, "has no primary", "electing one"),
        (13, "does not allow it", "does not allow this user"),
        (18, "refuses the password", "the password of the URL"),
        (50, "does not answer", "takes longer"),
        (96, "refuses otherwise", "code 96"),
    ],
)
def test_what_mongodb_answers_is_told_by_its_code(code: int, state: str, said: str) -> None:
    answer = {"ok": 0, "code": code, "errmsg": "its own words"}
    error: PyMongoError = OperationFailure("its own words", code, answer)
    if code in {91, 11600, 11602, 13436, 10107}:
        error = NotPrimaryError("its own words", answer)
    with closing(MongoClient[dict[str, Any]](connect=False)) as client:
        found, problem = judge_refusal("It", error, client)
    assert found == state
    assert said in problem


@pytest.mark.parametrize("kind", ["mongodb"])
def test_a_mongodb_server_that_is_no_primary_takes_no_writes(service: Service) -> None:
    client: MongoClient[dict[str, Any]]
    with MongoClient(service.admin_url) as client:
        client.admin.command({"replSetStepDown": 2, "force": True})
        direct, found = (
            service.observe(),
            service.observe(service.url.replace("directConnection=true", "replicaSet=secantus")),
        )
        wait_until(lambda: client.admin.command("hello")["isWritablePrimary"])
    assert (direct.state, found.state) == ("has no primary", "has no primary")
    assert "no primary" in str(direct.problem)
    assert "no primary" in str(found.problem)


def test_a_mongodb_server_that_closes_and_is_full_has_no_connection_left() -> None:
    facts = DatabaseFacts(
        kind="mongodb", where="It", state="does not answer", seconds=0, problem=f"It {CLOSED}"
    )
    nothing = Unknown(why="nobody asked")
    for current, state in ((100, "has no connection left"), (99, "does not answer")):
        view = observing_mongodb._View(Connections(current=current, limit=100), nothing)
        found = observing_mongodb._combine(facts, "books", view)
        assert found.state == state
        assert ("maxIncomingConnections" in str(found.problem)) == (current == 100)


# --- Locks ---


def test_a_lock_on_a_table_shows_as_a_read_that_waits_and_names_who_holds_it(postgresql: Service) -> None:
    with psycopg.connect(postgresql.url, application_name="migration") as holder:
        holder.execute("LOCK TABLE shelves IN ACCESS EXCLUSIVE MODE")
        facts = postgresql.observe()
        pid = holder.info.backend_pid
    assert facts.state == "answers"
    assert isinstance(facts.sessions, Sessions)
    (waiting,) = facts.sessions.blocked
    assert "shelves" in waiting.waits_for
    assert [one.identity for one in waiting.by] == [f"session {pid}"]
    assert "migration" in waiting.by[0].who
    # The administrator saw it wait for a moment only, and it waited in vain.
    assert waiting.lasts
    assert f"session {pid}" in {one.identity for one in facts.sessions.idle_in_transaction}


def test_a_lock_is_noticed_without_the_administrator_too(postgresql: Service) -> None:
    with psycopg.connect(postgresql.url) as holder:
        holder.execute("LOCK TABLE books IN ACCESS EXCLUSIVE MODE")
        facts = postgresql.observe(admin_url=elsewhere(postgresql.admin_url, 1))
    assert isinstance(facts.sessions, Sessions)
    assert "books" in facts.sessions.blocked[0].waits_for
    assert facts.sessions.blocked[0].lasts


def test_an_observation_leaves_no_setting_behind_in_a_session_that_a_pooler_hands_on(
    postgresql: Service,
) -> None:
    with psycopg.connect(postgresql.url) as connection:
        with limited(connection, Limits(1.0, 0.8, 5.0, of_transaction=True)):
            assert connection.execute("SHOW statement_timeout").fetchone() == ("1s",)
        connection.commit()
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
