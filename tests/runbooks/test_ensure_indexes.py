"""ensure-indexes on each databases: what is missing is built, what is wrong is named, none goes unasked."""

import json
import os
import pty
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import psycopg
import pytest
from prefect.client.schemas.objects import State

from flows.ensure_indexes import ensure_indexes
from tasks.journal import list_open_journals
from tasks.opening_indexes import open_index_server
from tasks.records.indexes import IndexFacts
from tests.runbooks.conftest import (
    Children,
    Ledger,
    Ledgers,
    MongodbDatabase,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    failed,
    wait_until,
)

WANTED: list[dict[str, Any]] = [
    {"source": "accounts", "key": {"owner": 1}, "unique": True},
    {"source": "entries", "key": {"account": 1}},
    {"source": "entries", "key": {"body": -1}},
    {"source": "accounts", "key": {"note": 1, "owner": -1}},
]
NAMES = {
    "mongodb": {"entries": "body_-1", "accounts": "note_1_owner_-1"},
    "postgresql": {"entries": "entries_body_idx", "accounts": "accounts_note_owner_idx"},
}


def recommend(ledger: Ledger, *more: dict[str, Any], only: bool = False) -> None:
    ledger.change(indexes=[*more] if only else [*WANTED, *more])  # type: ignore[arg-type]


def ensure(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", ensure_indexes(ledger.name, **parameters, return_state=True))


def listing(ledger: Ledger) -> dict[str, IndexFacts]:
    found = open_index_server(ledger.profile).list_indexes()
    return {one.name: one for one in found if one.source in {"accounts", "entries"} and one.name != "_id_"}


def events(ledger: Ledger) -> list[str]:
    trail = ledger.folder / "state" / ledger.name / "trail.jsonl"
    return [json.loads(line)["event"] for line in trail.read_text().splitlines()] if trail.exists() else []


def test_what_is_missing_is_built_and_proven_and_a_second_run_finds_nothing_to_do(ledger: Ledger) -> None:
    recommend(ledger)
    before = listing(ledger)

    dry = ensure(ledger, dry_run=True)

    assert completed(dry) == "ledger: dry run, the plan is shown and nothing was done."
    assert "Build the index" in artifacts_of(dry)["ensure-indexes-plan-ledger"]
    assert listing(ledger).keys() == before.keys()
    assert events(ledger) == []

    state = ensure(ledger)

    said = completed(state)
    assert said.startswith("ledger: 4 of 4 recommended indexes are there, 2 of them built by this run")
    built = listing(ledger).keys() - before.keys()
    assert built == set(NAMES[ledger.kind].values())
    assert listing(ledger)[NAMES[ledger.kind]["accounts"]].key == (("note", "1"), ("owner", "-1"))
    shown = artifacts_of(state)["ensure-indexes-indexes-ledger"]
    assert "a query uses it" in shown
    assert "Served by" in shown
    assert "building" in artifacts_of(state)["ensure-indexes-done-ledger"]
    assert events(ledger) == ["began", "finished"]

    assert "0 of them built by this run" in completed(ensure(ledger))
    assert events(ledger) == ["began", "finished"]
    assert list_open_journals(ledger.profile) == ()


def test_a_typo_and_duplicates_keep_nothing_else_from_being_built_and_the_run_fails(ledger: Ledger) -> None:
    recommend(
        ledger,
        {"source": "Acounts", "key": {"owner": 1}},
        {"source": "entries", "key": {"account": 1}, "unique": True},
    )
    before = listing(ledger)
    state = ensure(ledger)
    said = failed(state)
    assert "4 of 6 recommended indexes are there, 2 of them built by this run" in said
    assert (
        "the index on Acounts (owner): There is no Acounts (there is accounts): correct the profile." in said
    )
    assert "the unique index on entries (account): more than ten values of account more than once: " in said
    assert "Nothing was changed" not in said
    assert listing(ledger).keys() - before.keys() == set(NAMES[ledger.kind].values())
    assert events(ledger) == ["began", "failed"]
    assert list_open_journals(ledger.profile) == ()
    assert "no source" in artifacts_of(state)["ensure-indexes-indexes-ledger"]

    said = failed(ensure(ledger))
    assert said.endswith("Settle which one counts first. Nothing was changed.")


# --- Dropped only when somebody agrees ---


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Let a run ask at a terminal; what is given is typed there."""
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield lambda typed: cast("None", os.write(master, typed))
    os.close(master)


def superfluous(ledger: Ledger) -> str:
    (name,) = {"mongodb": ["account_1_body_-1"], "postgresql": ["entries_by_account"]}[ledger.kind]
    return name


def test_a_superfluous_index_goes_only_when_it_is_asked_for_and_approved(
    ledger: Ledger, terminal: Callable[[bytes], None]
) -> None:
    recommend(ledger, *WANTED[:1], only=True)
    before = listing(ledger)
    assert superfluous(ledger) in artifacts_of(ensure(ledger))["ensure-indexes-indexes-ledger"].replace(
        "\\", ""
    )
    assert listing(ledger).keys() == before.keys()

    terminal(b"no\n")
    assert "the plan was rejected" in failed(ensure(ledger, drop_superfluous=True))
    assert listing(ledger).keys() == before.keys()

    terminal(b"ledger\n")
    state = ensure(ledger, drop_superfluous=True)
    dropped = len(before) - len(listing(ledger))
    assert superfluous(ledger) not in listing(ledger)
    assert f"{dropped} superfluous " in completed(state)
    assert (
        before[superfluous(ledger)].definition.split()[0] in artifacts_of(state)["ensure-indexes-plan-ledger"]
    )
    assert events(ledger) == ["rejected", "approved", "began", "finished"]


@pytest.mark.parametrize("recommended", [WANTED[0], WANTED[2]], ids=["elsewhere", "beside it"])
def test_an_index_that_is_made_anew_while_the_plan_waits_stays_wherever_the_profile_recommends_some(
    ledger: Ledger, recommended: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recommend(ledger, recommended, only=True)
    name = superfluous(ledger)

    def make_anew_and_agree(*_: Any, **__: Any) -> None:
        if isinstance(ledger.database, MongodbDatabase):
            ledger.database.database["entries"].drop_index(name)
            ledger.database.database["entries"].create_index("t", name=name)
        else:
            cast("PostgresqlDatabase", ledger.database).execute(
                f"DROP INDEX {name}; CREATE INDEX {name} ON entries (amount)"
            )

    monkeypatch.setattr("flows.ensure_indexes.approve", make_anew_and_agree)
    before = listing(ledger)
    said = failed(ensure(ledger, drop_superfluous=True))
    assert f"What the plan rests on has changed since it was shown: entries/{name} was" in said
    assert listing(ledger).keys() == before.keys()
    assert listing(ledger)[name].key == ((("t" if ledger.kind == "mongodb" else "amount"), "1"),)
    assert list_open_journals(ledger.profile) == ()


def test_where_nobody_can_be_asked_nothing_is_dropped(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledgers.make("postgresql")
    recommend(ledger, *WANTED[:1], only=True)
    before = listing(ledger)
    with open(os.devnull, encoding="utf-8") as nobody:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", nobody)
        said = failed(ensure(ledger, drop_superfluous=True))
    assert "nobody can be asked here" in said
    assert listing(ledger).keys() == before.keys()


# --- It is killed, or a build fails ---


def test_killed_before_or_after_a_build_a_rerun_ends_with_each_index_once(
    ledger: Ledger, children: Children
) -> None:
    recommend(ledger)
    before = listing(ledger)
    for order in ({"kill_after_step": "building"}, {"kill_when_called": "flows.index_ensuring:prove_index"}):
        assert children.start(ledger, "ensure_indexes", **order).wait() is None
        assert list_open_journals(ledger.profile) == ("ensure-indexes",)
        assert "was killed while the server builds" in failed(ensure(ledger, dry_run=True))
    assert "4 of 4" in completed(ensure(ledger))
    assert listing(ledger).keys() - before.keys() == set(NAMES[ledger.kind].values())
    assert list_open_journals(ledger.profile) == ()
    assert events(ledger) == ["began", "settled", "began", "settled", "began", "finished"]


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.postgresql_indexes._POLL_SECONDS", 0.05)
    monkeypatch.setattr("tasks.index_building._LOOK_EVERY_SECONDS", 0.05)


@pytest.mark.parametrize("server_goes_on", [True, False])
def test_killed_while_the_server_builds_the_next_run_waits_or_clears_up(
    ledgers: Ledgers, children: Children, quick_looks: None, server_goes_on: bool
) -> None:
    ledger = ledgers.make("postgresql")
    recommend(ledger)
    builder = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE%%INDEX CONCURRENTLY%%' AND datname = %s"
    )
    with psycopg.connect(ledger.database.url) as writer, psycopg.connect(ledger.database.url) as watcher:
        watcher.autocommit = True
        writer.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        child = children.start(ledger, "ensure_indexes")
        wait_until(lambda: "entries_body_idx" in listing(ledger), 40)
        child.kill()
        assert watcher.execute(builder, [ledger.database.name]).fetchall(), "the server knows of no kill"
        assert listing(ledger)["entries_body_idx"].is_building
        if not server_goes_on:
            watcher.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE 'CREATE%INDEX "
                "CONCURRENTLY%' AND datname = current_database()"
            )
            assert not listing(ledger)["entries_body_idx"].is_building
            writer.rollback()
        else:
            threading.Timer(1, writer.rollback).start()
        said = completed(ensure(ledger))
    assert f"4 of 4 recommended indexes are there, {1 if server_goes_on else 2} of them built" in said
    assert all(one.is_valid for one in listing(ledger).values())
    assert list_open_journals(ledger.profile) == ()


def test_what_a_failed_build_left_is_built_again_and_the_log_says_how_far(
    ledgers: Ledgers, quick_looks: None, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledgers.make("postgresql")
    recommend(ledger, {"source": "entries", "key": {"body": 1}, "unique": True}, only=True)
    database = cast("PostgresqlDatabase", ledger.database)
    database.execute("UPDATE entries SET body = 'same' WHERE id < 3")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY left_over ON entries (body)")
    assert "1 value of body more than once: id 1, id 2. Settle" in failed(ensure(ledger))
    database.execute("UPDATE entries SET body = id WHERE id < 3")
    said = "left_over on entries: waiting for writers before build"
    with psycopg.connect(ledger.database.url) as writer:

        def end_writer() -> None:
            wait_until(lambda: said in caplog.text, 40)
            writer.rollback()

        writer.execute("UPDATE entries SET amount = 1 WHERE id = 1")
        end = threading.Thread(target=end_writer)
        end.start()
        state = ensure(ledger)
        end.join()
    assert "1 of 1 recommended index is there, 1 of them built" in completed(state)
    assert listing(ledger)["left_over"].is_valid
    assert "built again in its place" in artifacts_of(state)["ensure-indexes-indexes-ledger"]
    assert said in caplog.text


def test_a_value_that_comes_in_twice_after_the_plan_fails_that_index_only(
    ledger: Ledger, children: Children
) -> None:
    recommend(ledger, {"source": "entries", "key": {"body": 1}, "unique": True}, *WANTED[3:], only=True)
    child = children.start(ledger, "ensure_indexes", pause_when_called="flows.ensure_indexes:approve")
    wait_until(lambda: child.is_paused, 40)
    if isinstance(ledger.database, MongodbDatabase):
        ledger.database.database["entries"].insert_many([{"body": "twice"}, {"body": "twice"}])
    else:
        cast("PostgresqlDatabase", ledger.database).execute("UPDATE entries SET body = 'twice' WHERE id < 3")
    child.go_on()
    ended = child.wait()
    assert ended is not None
    assert ended["type"] == "FAILED"
    assert "1 of 2 recommended indexes is there, 1 of them built" in ended["message"]
    assert "a value came in twice since the plan was made" in ended["message"]
    assert "twice'" not in ended["message"]
    assert NAMES[ledger.kind]["accounts"] in listing(ledger)
    assert all(one.is_valid for one in listing(ledger).values())


def test_an_index_that_somebody_else_built_since_the_plan_stops_the_run(
    ledgers: Ledgers, children: Children
) -> None:
    ledger = ledgers.make("postgresql")
    recommend(ledger)
    child = children.start(ledger, "ensure_indexes", pause_when_called="flows.ensure_indexes:approve")
    wait_until(lambda: child.is_paused, 40)
    cast("PostgresqlDatabase", ledger.database).execute("CREATE INDEX by_hand ON entries (body DESC)")
    child.go_on()
    ended = child.wait()
    assert ended is not None
    assert ended["type"] == "FAILED"
    assert "What the plan rests on has changed since it was shown: indexes of entries was" in ended["message"]
    assert "entries_body_idx" not in listing(ledger)
    assert "4 of 4" in completed(ensure(ledger))
