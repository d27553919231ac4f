"""rotate-database-password: whatever happens on the way, one password serves and the application has it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from prefect.client.schemas.objects import State
from pymongo import MongoClient

from deployments.sandbox.stack import Sandbox
from flows.rotate_database_password import rotate_database_password
from tasks.database_login import DatabaseLogin, read_login, replace_login
from tasks.opening_rotators import open_rotator
from tasks.records.rotation import Kept
from tests.runbooks.conftest import (
    KINDS,
    Children,
    Kind,
    Ledgers,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    failed,
)
from tests.runbooks.rotation_walking import Rotated, make_rotated, start_again
from tests.thoroughness import WHOLE

GRANT = """
DO $$ BEGIN CREATE ROLE "USER"; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER ROLE "USER" LOGIN PASSWORD 'LETTER';
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO "USER";
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "USER";
"""


@dataclass
class Database:
    """A small service, and the two users of its database."""

    rotated: Rotated
    kind: Kind

    @property
    def users(self) -> tuple[str, str]:
        name = self.rotated.ledger.database.name
        return f"{name}_a", f"{name}_b"

    @property
    def url(self) -> str:
        return self.rotated.variables["DATABASE_URL"]

    def url_of(self, user: str, password: str) -> str:
        name = self.rotated.ledger.database.name
        at = replace_login(self.rotated.ledger.database.url, DatabaseLogin(user, password))
        return at.replace("authSource=admin", f"authSource={name}") + ("" if "?" in at else "?schema=public")

    def begin(self, sandbox: Sandbox, **terms: Any) -> None:
        """Let the first user be the application's, both with their letter, and nothing be under way."""
        for user in self.users:
            self._put_user(user, user[-1])
        rotated = self.rotated
        rotated.ledger.settings["credentials"] = {"database_password": terms}
        rotated.ledger.change()
        rotated.set_variables(DATABASE_URL=self.url_of(self.users[0], "a"))
        sandbox.pm2.run("restart", rotated.ledger.profile.application.process_name)
        for left in rotated.folder.glob("*") if rotated.folder.exists() else ():
            left.unlink()
        start_again(rotated)

    def _put_user(self, user: str, password: str) -> None:
        database = self.rotated.ledger.database
        if isinstance(database, PostgresqlDatabase):
            database.execute(GRANT.replace("USER", user).replace("LETTER", password))
            return
        with MongoClient[dict[str, Any]](database.url, authSource="admin") as client:
            known = client[database.name].command("usersInfo", user)["users"]
            command = "updateUser" if known else "createUser"
            client[database.name].command(command, user, pwd=password, roles=["readWrite"])

    def remove_users(self) -> None:
        database = self.rotated.ledger.database
        for user in self.users:
            if isinstance(database, PostgresqlDatabase):
                database.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")
            else:
                with MongoClient[dict[str, Any]](database.url, authSource="admin") as client:
                    client[database.name].command("dropUser", user)

    def works(self, url: str) -> bool:
        rotator = open_rotator(self.rotated.ledger.profile, "database-password")
        return rotator.accepts(Kept("x", {"DATABASE_URL": url}))


@contextmanager
def make(kind: Kind, sandbox: Sandbox, maker: Ledgers) -> Iterator[Database]:
    made = Database(make_rotated(maker, sandbox, kind), kind)
    yield made
    made.remove_users()
    maker.remove()


@pytest.fixture(scope="module", params=KINDS)
def operated(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    prefect_server: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Database]:
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp(request.param), environment)
        with make(request.param, sandbox, maker) as made:
            yield made


def begin(operated: Database, sandbox: Sandbox, *, is_single: bool) -> Database:
    terms = {} if is_single else {"alternate": [*operated.users], "grace": "PT1H"}
    operated.begin(sandbox, **terms)
    return operated


@pytest.fixture
def single(operated: Database, sandbox: Sandbox) -> Database:
    return begin(operated, sandbox, is_single=True)


@pytest.fixture
def turns(operated: Database, sandbox: Sandbox) -> Database:
    return begin(operated, sandbox, is_single=False)


def rotate(database: Database, **parameters: Any) -> State[Any]:
    name = database.rotated.ledger.name
    return cast("State[Any]", rotate_database_password(name, **parameters, return_state=True))


def password_of(url: str) -> str:
    login = read_login(url)
    assert login is not None
    return login.password


@contextmanager
def asked_all_the_while(database: Database) -> Iterator[Counter[int]]:
    """Ask for the health without a pause; count what was answered. A restart's silence is no answer."""
    seen: Counter[int] = Counter()
    ending = threading.Event()

    def ask() -> None:
        while not ending.is_set():
            try:
                seen[httpx.get(f"{database.rotated.at}/health", timeout=10).status_code] += 1
            except httpx.TransportError:
                time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        ending.set()
        asking.join()


def test_one_user_gets_a_new_password_and_no_other_serves(single: Database) -> None:
    before = single.url
    plan = artifacts_of(rotate(single, dry_run=True))["rotate-database-password-plan-ledger"].replace(
        "\\", ""
    )
    assert single.url == before
    assert single.works(before)
    assert f"Give it to {single.users[0]} at the server" in plan
    assert "Until the restart new connections with the old password are refused" in plan

    state = rotate(single)
    said = completed(state)
    assert said.endswith(f"A new connection of {single.users[0]} with the old password is refused.")
    assert single.works(single.url)
    assert not single.works(before)
    assert single.url == before.replace("_a:a@", f"_a:{password_of(single.url)}@")
    assert single.rotated.history() == ["rotated", "retired"]
    assert single.rotated.is_settled()
    told = "".join([said, *artifacts_of(state).values()])
    assert password_of(single.url) not in told


def test_two_users_take_turns_and_who_asks_meanwhile_notices_nothing(turns: Database) -> None:
    first, second = turns.users
    before = turns.url
    with asked_all_the_while(turns) as seen:
        said = completed(rotate(turns))
    assert set(seen) == {200}
    assert f"{second}:" in turns.url
    assert "The new database-password is in force and proven." in said
    assert (turns.works(before), turns.works(turns.url)) == (True, True)
    assert turns.rotated.kept() == {"database-password.previous"}

    assert "so nothing was done" in completed(rotate(turns))
    turns.rotated.end_grace("database-password")
    assert completed(rotate(turns)).endswith(f"A new connection of {first} with the old password is refused.")
    assert (turns.works(before), turns.works(turns.url)) == (False, True)
    assert turns.rotated.is_settled()

    # And back, at once.
    between = turns.url
    completed(rotate(turns, emergency=True))
    assert f"{first}:" in turns.url
    assert (turns.works(between), turns.works(turns.url)) == (False, True)
    assert turns.rotated.is_settled()


def test_a_turn_that_a_person_put_back_is_not_over_and_an_emergency_replaces_it(
    turns: Database, sandbox: Sandbox
) -> None:
    leaked = turns.url
    completed(rotate(turns))
    made = turns.url
    turns.rotated.set_variables(DATABASE_URL=leaked)
    sandbox.pm2.run("restart", turns.rotated.ledger.profile.application.process_name)
    turns.rotated.end_grace("database-password")
    assert "is the old one again, so it is not retired" in failed(rotate(turns))
    assert turns.works(leaked)

    said = completed(rotate(turns, emergency=True))
    assert "What the rotation before had set has ended: the old one was in force again." in said
    assert [turns.works(url) for url in (leaked, made, turns.url)] == [False, False, True]
    assert turns.rotated.history() == ["rotated", "undone", "rotated", "retired"]
    assert turns.rotated.is_settled()


@pytest.mark.parametrize("operated", ["mongodb"], indirect=True)
def test_an_application_that_does_not_come_back_has_the_old_password_again(single: Database) -> None:
    before = single.url
    check = f"if (!require('fs').readFileSync('.env').includes({before!r})) process.exit(3);"
    with single.rotated.beginning_with(check):
        said = failed(rotate(single))
    assert said.endswith("The old database-password is in force, and nothing is left of the new one.")
    assert single.url == before
    assert single.works(before)
    assert single.rotated.is_settled()
    assert single.rotated.history() == ["undone"]


def kill_password(database: Database) -> None:
    """Let somebody have given the user another password, of which the env file knows nothing."""
    database.rotated.set_variables(DATABASE_URL=database.url_of(database.users[0], "of yesterday"))


def test_a_password_that_is_dead_already_is_replaced_and_the_application_serves_again(
    single: Database, sandbox: Sandbox
) -> None:
    kill_password(single)
    dead = single.url
    sandbox.pm2.run("restart", single.rotated.ledger.profile.application.process_name)
    plan = artifacts_of(rotate(single, dry_run=True))["rotate-database-password-plan-ledger"].replace(
        "\\", ""
    )
    assert "refuses the password in DATABASE_URL already: it is never put back." in plan
    assert "put back, and it is restarted" not in plan
    completed(rotate(single))
    assert single.works(single.url)
    assert not single.works(dead)
    assert single.rotated.history() == ["rotated", "retired"]
    assert single.rotated.is_settled()


@pytest.mark.parametrize("operated", ["mongodb"], indirect=True)
def test_a_new_one_that_follows_a_dead_one_stays_whatever_the_application_does_with_it(
    single: Database,
) -> None:
    kill_password(single)
    dead = single.url
    with single.rotated.beginning_with("process.exit(3);"):
        said = failed(rotate(single))
    assert said.endswith(
        "The old database-password was refused already before this run: the new one is in force, and stays."
    )
    assert not single.works(dead)
    assert single.works(single.url)
    assert single.rotated.history() == ["rotated"]
    # Nothing is half done: what the application lacks can be mended now, and nothing has to be rotated again.
    start_again(single.rotated)
    assert single.rotated.is_settled()


@pytest.mark.parametrize("step", ["making the new one", "testing it", "writing it into the env file"])
@pytest.mark.parametrize("operated", ["postgresql"], indirect=True)
def test_killed_while_it_replaces_a_dead_one_the_next_run_ends_with_one_password(
    single: Database, children: Children, step: str
) -> None:
    kill_password(single)
    dead = single.url
    child = children.start(
        single.rotated.ledger,
        "rotate_database_password",
        kill_after_step=step,
        parameters={"service": single.rotated.ledger.name},
    )
    assert child.wait() is None
    completed(rotate(single))
    assert single.works(single.url)
    assert not single.works(dead)
    assert single.rotated.is_settled()


# The walk does that before every task on PostgreSQL, and here after every step on MongoDB.
EVERY = (
    "began",
    "making the new one",
    "setting it at the provider",
    "testing it",
    "writing it into the env file",
    "restarting for it",
    "proving that the application uses it",
    "in force and proven",
    "retiring the old one",
)
SOME = (("mongodb", "single", "testing it"), ("mongodb", "turns", "in force and proven"))
STEPS = tuple(("mongodb", mode, step) for mode in ("single", "turns") for step in EVERY) if WHOLE else SOME


@pytest.mark.parametrize(("operated", "mode", "step"), STEPS, indirect=["operated"])
def test_killed_after_any_step_the_next_run_ends_with_one_password(
    operated: Database, sandbox: Sandbox, children: Children, mode: str, step: str
) -> None:
    database = begin(operated, sandbox, is_single=mode == "single")
    before = database.url
    child = children.start(
        database.rotated.ledger,
        "rotate_database_password",
        kill_after_step=step,
        parameters={"service": database.rotated.ledger.name, "emergency": True},
    )
    assert child.wait() is None
    # Whatever is half done, the application has one that works, or is about to be restarted with one.
    completed(rotate(database, emergency=True))
    assert database.works(database.url)
    assert not database.works(before)
    assert database.rotated.is_settled()


def test_a_second_user_that_may_less_is_refused_before_anything_is_done(
    turns: Database, sandbox: Sandbox
) -> None:
    first, second = turns.users
    database = turns.rotated.ledger.database
    if isinstance(database, PostgresqlDatabase):
        database.execute(f"REVOKE UPDATE ON accounts FROM {second}")
    else:
        with MongoClient[dict[str, Any]](database.url, authSource="admin") as client:
            client[database.name].command("updateUser", second, roles=["read"])
    said = failed(rotate(turns))
    assert f"{second} may less than {first}" in said
    assert said.endswith("Nothing was changed.")
    assert turns.works(turns.url_of(second, "b"))
    assert turns.rotated.is_settled()
