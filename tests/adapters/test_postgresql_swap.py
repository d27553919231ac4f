"""The restored database takes the real one's place, or gives it back: whatever is killed, and when."""

import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from deployments.sandbox.endpoints import Endpoints
from tasks import postgresql_swap
from tasks.errors import RefusedError
from tasks.journal import Journal
from tasks.postgresql_swap import swap_back, swap_in
from tasks.records.service import ServiceProfile


class Killed(BaseException):
    """What a kill looks like from within: nothing of ours catches it."""


@dataclass(frozen=True)
class Place:
    """Three names on a real server, and the journal of whoever moves databases between them."""

    admin: str
    reference: str
    folder: Path
    real: str
    beside: str
    aside: str

    def make(self, name: str, word: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with self.enter(name) as connection:
            connection.execute("CREATE TABLE word (is_ text)")
            connection.execute("INSERT INTO word VALUES (%s)", (word,))

    def drop(self, name: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(query.format(sql.Identifier(name)))

    def enter(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.admin, dbname=name)

    def lets_in(self) -> bool:
        """Do both that change names take connections?"""
        with psycopg.connect(self.admin) as connection:
            query = "SELECT bool_and(datallowconn) FROM pg_database WHERE datname = ANY(%s)"
            return bool((connection.execute(query, ([self.real, self.beside],)).fetchone() or (False,))[0])

    def words(self) -> dict[str, str]:
        """What a new session finds in each of the three databases that exist."""
        with psycopg.connect(self.admin) as connection:
            query = "SELECT datname FROM pg_database WHERE datname = ANY(%s)"
            names = connection.execute(query, ([self.real, self.beside, self.aside],)).fetchall()
        found = {}
        for (name,) in names:
            with self.enter(name) as connection:
                found[name] = str((connection.execute("SELECT is_ FROM word").fetchone() or ("",))[0])
        return found

    def journal(self) -> Journal:
        """Read the journal anew, as the next run does."""
        return Journal(self.folder, "restore-database")

    def swap_in(self) -> None:
        swap_in.fn(self.reference, self.real, self.beside, self.aside, self.journal())

    def swap_back(self) -> None:
        swap_back.fn(self.reference, self.real, self.beside, self.aside, self.journal())

    def steps(self) -> list[str]:
        return [entry.step for entry in self.journal().entries]


@pytest.fixture
def place(endpoints: Endpoints, propertypulse: ServiceProfile, tmp_path: Path) -> Iterator[Place]:
    """The old database in the real one's place, the new one beside it."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    made = Place(
        endpoints.postgresql_admin_url,
        propertypulse.database.admin_url,
        tmp_path,
        f'{name} "real"',
        f"{name}_beside",
        f"{name}_aside",
    )
    made.make(made.real, "old")
    made.make(made.beside, "new")
    yield made
    for left in (made.real, made.beside, made.aside):
        made.drop(left)


def test_the_new_database_takes_the_place_and_the_old_one_is_set_aside(place: Place) -> None:
    place.swap_in()
    assert place.words() == {place.real: "new", place.aside: "old"}
    assert place.steps() == ["setting-aside", "moved-in"]


def test_going_back_leaves_exactly_what_there_was(place: Place) -> None:
    place.swap_in()
    place.swap_back()
    assert place.words() == {place.real: "old", place.beside: "new"}
    assert place.steps()[2:] == ["moving-out", "put-back"]


def test_both_ways_may_be_gone_twice(place: Place) -> None:
    place.swap_in()
    place.swap_in()
    assert place.words() == {place.real: "new", place.aside: "old"}
    place.swap_back()
    place.swap_back()
    assert place.words() == {place.real: "old", place.beside: "new"}
    place.swap_in()
    assert place.words() == {place.real: "new", place.aside: "old"}


def test_going_back_before_anything_was_begun_changes_nothing(place: Place) -> None:
    place.swap_back()
    assert place.words() == {place.real: "old", place.beside: "new"}


def test_a_database_that_was_dropped_is_replaced_and_missing_again_after_going_back(place: Place) -> None:
    place.drop(place.real)
    place.swap_in()
    assert place.words() == {place.real: "new"}
    place.swap_back()
    assert place.words() == {place.beside: "new"}


def test_clients_that_did_not_leave_are_shown_out(place: Place) -> None:
    with place.enter(place.real) as old, place.enter(place.beside) as new:
        old.execute("INSERT INTO word VALUES ('of a transaction that never ends')")
        new.execute("SELECT 1")
        place.swap_in()
        for client in (old, new):
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")
    assert place.words() == {place.real: "new", place.aside: "old"}


def test_clients_that_come_back_at_once_are_not_let_in_while_names_change(place: Place) -> None:
    over = threading.Event()

    def insist() -> None:
        while not over.is_set():
            with suppress(psycopg.OperationalError), place.enter(place.real) as connection:
                connection.execute("SELECT is_ FROM word")

    clients = [threading.Thread(target=insist) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            place.swap_in()
            place.swap_back()
    finally:
        over.set()
        for client in clients:
            client.join()
    assert place.words() == {place.real: "old", place.beside: "new"}


def test_a_session_that_does_not_go_away_changes_nothing_and_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_swap, "_ATTEMPTS", 1)
    with place.enter(place.real) as stuck:
        os.kill(stuck.info.backend_pid, signal.SIGSTOP)
        try:
            with pytest.raises(RefusedError, match="do not go away: see pg_stat_activity"):
                place.swap_in()
        finally:
            os.kill(stuck.info.backend_pid, signal.SIGCONT)
        stuck.close()
    place.swap_back()
    assert place.words() == {place.real: "old", place.beside: "new"}


def test_nothing_is_moved_when_the_restored_database_is_missing(place: Place) -> None:
    place.drop(place.beside)
    with pytest.raises(RefusedError, match="restore it again"):
        place.swap_in()
    assert place.words() == {place.real: "old"}


def test_a_database_that_somebody_set_aside_before_is_not_run_over(place: Place) -> None:
    place.make(place.aside, "older")
    with pytest.raises(RefusedError, match=f"database {place.aside} already"):
        place.swap_in()
    assert place.words() == {place.real: "old", place.beside: "new", place.aside: "older"}


def test_the_restored_database_stays_where_the_old_one_is_gone(place: Place) -> None:
    place.swap_in()
    place.drop(place.aside)
    with pytest.raises(RefusedError, match="is not there any more"):
        place.swap_back()
    assert place.words() == {place.real: "new"}


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the n-th statement from now on be the last; return the statements that came through."""
    execute = psycopg.Connection.execute
    done: list[str] = []

    def counted(connection: psycopg.Connection, query: Any, *arguments: Any, **options: Any) -> Any:
        if len(done) == number:
            raise Killed
        done.append(query.as_string(connection) if isinstance(query, sql.Composed) else query)
        return execute(connection, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    return done


STATEMENTS = range(9)


@pytest.mark.parametrize("number", STATEMENTS)
@pytest.mark.parametrize("direction", ["in", "back"])
def test_killed_before_any_statement_it_can_be_finished_or_undone(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, direction: str
) -> None:
    if direction == "back":
        place.swap_in()
    with monkeypatch.context() as patched:
        done = kill_at(patched, number)
        try:
            place.swap_in() if direction == "in" else place.swap_back()
        except Killed:
            assert len(done) == number
        else:
            # All statements came through: the range walks past the end.
            assert number == max(STATEMENTS)
    if number % 2:
        place.swap_back()
        assert place.words() == {place.real: "old", place.beside: "new"}
    place.swap_in()
    assert place.words() == {place.real: "new", place.aside: "old"}
    place.swap_back()
    assert place.words() == {place.real: "old", place.beside: "new"}


def test_killed_by_the_system_in_the_middle_it_can_be_finished(place: Place) -> None:
    """The child is held up by a session that does not leave, so the kill meets it with the doors closed."""
    with place.enter(place.real) as stuck:
        os.kill(stuck.info.backend_pid, signal.SIGSTOP)
        child = multiprocessing.get_context("fork").Process(target=place.swap_in)
        try:
            child.start()
            while place.lets_in():
                assert child.is_alive()
            child.kill()
            child.join()
        finally:
            os.kill(stuck.info.backend_pid, signal.SIGCONT)
        stuck.close()
    assert child.exitcode == -signal.SIGKILL
    assert place.steps() == ["setting-aside"]
    place.swap_in()
    assert place.words() == {place.real: "new", place.aside: "old"}
