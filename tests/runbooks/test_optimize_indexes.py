"""optimize-indexes on real databases: what wastes space is rebuilt, what nobody needs waits for a person."""

import json
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest
from prefect.client.schemas.objects import State

from flows.decisions.index_optimization import OptimizationPlan, plan_optimization
from flows.decisions.index_use import make_sample
from flows.index_optimizing import SIZES, USES
from flows.optimize_indexes import optimize_indexes, sample_index_use
from tasks.credentials import resolve
from tasks.history import Measurement, read_history, record_measurement
from tasks.journal import list_open_journals, open_journal
from tasks.opening_index_care import open_index_care
from tasks.records.index_care import CareAct
from tasks.records.indexes import IndexFacts
from tasks.records.runbook_plan import PlannedAct
from tests.mongodb_relay import NOBODY, add_member_away, relay_to_mongodb
from tests.runbooks.conftest import (
    Children,
    Ledger,
    Ledgers,
    MongodbDatabase,
    artifacts_of,
    completed,
    failed,
    wait_until,
)

# 14 MB of index for 700 rows; vacuum is the test's own business here.
BLOATED = (
    "CREATE TABLE wide (id int, body text) WITH (autovacuum_enabled = false)",
    "CREATE INDEX wide_body ON wide (body)",
    """INSERT INTO wide SELECT n, string_agg(md5(n::text || k), '')
    FROM generate_series(1, 14000) n, generate_series(1, 32) k GROUP BY n""",
    "DELETE FROM wide WHERE id % 20 > 0",
    "SELECT pg_stat_force_next_flush()",
    "VACUUM ANALYZE wide",
)


def optimize(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", optimize_indexes(ledger.name, **parameters, return_state=True))


def sample(ledger: Ledger) -> State[Any]:
    return cast("State[Any]", sample_index_use(ledger.name, return_state=True))


def execute(ledger: Ledger, *statements: str) -> list[Any]:
    """Run each statement in a transaction of its own, and return what the last one answers."""
    found: list[Any] = []
    with psycopg.connect(ledger.database.url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            found = cursor.fetchall() if cursor.description else []
    return found


def indexes(ledger: Ledger) -> dict[str, IndexFacts]:
    return {index.name: index for index in open_index_care(ledger.profile).observe_use().indexes}


def events(ledger: Ledger) -> list[str]:
    lines = (ledger.folder / "state" / ledger.name / "trail.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def page_of(state: State[Any]) -> str:
    return artifacts_of(state)["optimize-indexes-index-care-ledger"]


def watch_for_a_month(ledger: Ledger) -> None:
    """Leave the samples of a month in which nobody used any index."""
    counted = make_sample(tuple(indexes(ledger).values()))
    for days in range(31, 0, -1):
        at = datetime.now(UTC) - timedelta(days=days)
        record_measurement(ledger.profile, USES, Measurement(at=at, values=counted))


@contextmanager
def somebody_types(word: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal at which this is answered."""
    here, there = pty.openpty()
    with os.fdopen(there, encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(here, f"{word}\n".encode())
        yield
    os.close(here)


def test_what_wastes_space_is_rebuilt_and_the_next_run_has_nothing_to_do(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    execute(ledger, *BLOATED)
    before = indexes(ledger)["wide_body"]

    shown = optimize(ledger, dry_run=True)
    assert completed(shown) == "ledger: dry run, the plan is shown and nothing was done."
    assert (
        "REINDEX INDEX CONCURRENTLY wide/wide\\_body" in artifacts_of(shown)["optimize-indexes-plan-ledger"]
    )
    assert indexes(ledger)["wide_body"] == before

    state = optimize(ledger)
    after = indexes(ledger)["wide_body"]
    assert completed(state).startswith("ledger: 1 act of care done, ")
    assert after.bytes < before.bytes / 10
    assert (after.is_valid, after.definition) == (True, before.definition)
    assert "| rebuild | wide/wide\\_body |" in page_of(state)
    assert "Size of all indexes" in page_of(state)
    assert events(ledger) == ["began", "finished"]
    assert list_open_journals(ledger.profile) == ()
    assert completed(optimize(ledger)) == "ledger: nothing needed to be done."
    # Each look is a sample as well: two runs without an act, and one that looked before, again, and after.
    assert len(read_history(ledger.profile, USES)) == len(read_history(ledger.profile, SIZES)) == 5


def test_an_alarm_fails_the_run_that_did_everything_else(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    execute(
        ledger,
        "SELECT setval('accounts_id_seq', 2100000000)",
        "CREATE TABLE busy (id int) WITH (autovacuum_enabled = false)",
        "INSERT INTO busy SELECT generate_series(1, 4000)",
        "DELETE FROM busy WHERE id > 1000",
        "SELECT pg_stat_force_next_flush()",
    )
    state = optimize(ledger)
    said = failed(state)
    assert "1 act of care done" in said
    assert (
        "accounts_id_seq, which feeds accounts.id, has come to 2,100,000,000 of 2,147,483,647 (98%)" in said
    )
    assert execute(ledger, "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'busy'") == [(0,)]
    assert page_of(state).index("alarm: The sequence") < page_of(state).index("minor: ")


def test_an_act_that_finds_no_lock_fails_the_run_and_the_others_are_done(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.postgresql_index_care._WORKING", "-c lock_timeout=300ms")
    ledger = ledgers.make("postgresql")
    for table in ("busy", "idle"):
        execute(
            ledger,
            f"CREATE TABLE {table} (id int) WITH (autovacuum_enabled = false)",
            f"INSERT INTO {table} SELECT generate_series(1, 4000)",
            f"DELETE FROM {table} WHERE id > 1000",
            "SELECT pg_stat_force_next_flush()",
        )
    with psycopg.connect(ledger.database.url) as application:
        application.execute("LOCK TABLE busy IN EXCLUSIVE MODE")
        state = optimize(ledger)
    said = failed(state)
    assert "1 act of care done" in said
    assert "busy could not be taken care of (vacuum): another session's transaction was in the way" in said
    assert "| vacuum and analyze | idle |" in page_of(state)
    assert list_open_journals(ledger.profile) == ()
    assert completed(optimize(ledger)).startswith("ledger: 1 act of care done")


def test_a_useless_index_is_named_and_goes_only_when_a_person_agrees(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(ledger.database, MongodbDatabase):
        ledger.database.database["entries"].create_index("account")
        name, why = "account_1", "account_1_body_-1 begins with the same keys and serves its queries"
    else:
        watch_for_a_month(ledger)
        name, why = "entries_by_account", "nobody used it for 31 days"
    before = indexes(ledger)
    said = completed(optimize(ledger))
    assert f"The index entries/{name}" in said
    assert f"may go: {why}." in said

    with somebody_types(ledger.name, monkeypatch):
        state = optimize(ledger, drop_unused=True)
    assert completed(state).startswith("ledger: 1 act of care done")
    assert before.keys() - indexes(ledger).keys() == {name}
    assert events(ledger) == ["approved", "began", "finished"]
    shown = artifacts_of(state)["optimize-indexes-plan-ledger"]
    assert "To undo: make it again by" in shown
    assert "createIndexes" in shown or "CREATE INDEX entries\\_by\\_account ON public.entries" in shown


def test_an_index_that_is_used_again_while_the_plan_waits_stays(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledgers.make("postgresql")
    watch_for_a_month(ledger)

    def use_and_agree(*_: Any, **__: Any) -> None:
        execute(
            ledger,
            "ANALYZE entries",
            "SET enable_seqscan = off; SELECT count(*) FROM entries WHERE account = 7",
            "SELECT pg_stat_force_next_flush()",
        )

    monkeypatch.setattr("flows.optimize_indexes.approve", use_and_agree)
    said = failed(optimize(ledger, drop_unused=True))
    assert "What the plan rests on has changed since it was shown: entries/entries_by_account was" in said
    assert "entries_by_account" in indexes(ledger)
    assert list_open_journals(ledger.profile) == ()


def test_a_run_killed_within_a_rebuild_is_put_right_by_the_next(ledgers: Ledgers, children: Children) -> None:
    ledger = ledgers.make("postgresql")
    execute(ledger, *BLOATED)
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'runbooks' "
        "AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(ledger.database.url) as application:
        application.execute("INSERT INTO wide VALUES (0, 'open')")
        child = children.start(ledger, "optimize_indexes")
        wait_until(lambda: execute(ledger, waiting), 60)
        child.kill()
        application.rollback()
    assert list_open_journals(ledger.profile) == ("optimize-indexes",)
    assert "was killed and left something half done" in failed(optimize(ledger, dry_run=True))

    assert completed(optimize(ledger)).startswith("ledger: ")
    found = indexes(ledger)
    assert all(index.is_valid for index in found.values())
    assert not [name for name in found if "_cc" in name]
    assert found["wide_body"].bytes < 2_000_000
    assert events(ledger)[:2] == ["began", "settled"]
    assert list_open_journals(ledger.profile) == ()


def test_a_server_that_does_not_count_is_never_believed(ledgers: Ledgers) -> None:
    ledger = ledgers.make("mongodb")
    said = completed(sample(ledger))
    assert said.startswith("ledger: no count of uses is kept: this server does not count uses")
    state = optimize(ledger)
    assert completed(state) == "ledger: nothing needed to be done."
    assert "No index is called unused: this server does not count uses" in page_of(state)
    assert "Nothing is rebuilt: this server offers no compact" in page_of(state)
    assert read_history(ledger.profile, USES) == ()
    assert len(read_history(ledger.profile, SIZES)) == 2


@pytest.fixture
def with_a_member_away(ledgers: Ledgers, quick_retries: None) -> Iterator[Ledger]:
    """A service on a replica set that has a second member, which does not answer, and that can compact."""
    ledger = ledgers.make("mongodb")
    profile = ledger.profile
    with relay_to_mongodb(resolve(profile.database.admin_url), add_member_away) as url:
        name_admin_url(ledger, url)
        yield ledger


def name_admin_url(ledger: Ledger, url: str) -> None:
    reference = ledger.folder / "admin-url"
    reference.write_text(url)
    reference.chmod(0o600)
    ledger.change(database={"admin_url": f"file:{reference}"})


def test_the_other_members_are_looked_at_when_one_is_away(with_a_member_away: Ledger) -> None:
    dry = optimize(with_a_member_away, dry_run=True)
    assert f"The member {NOBODY} does not answer and is left out" in completed(dry)
    shown = artifacts_of(dry)["optimize-indexes-plan-ledger"].replace("\\", "")
    assert f"Left out, for want of an answer: {NOBODY}." in shown
    assert "nothing needed to be done. 1 warning, the first: The member" in completed(
        optimize(with_a_member_away)
    )


def compact_on(member: str, plan: OptimizationPlan) -> OptimizationPlan:
    act = CareAct(kind="compact", source="entries", member=member, bytes=1)
    shown = PlannedAct(what=f"compact entries on {member}", why="It is empty", undo="nothing")
    return plan.model_copy(update={"steps": (act,), "acts": (shown,)})


def test_a_member_that_is_lost_after_the_plan_fails_its_act_and_nothing_is_left_half_done(
    with_a_member_away: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_compact(*of: Any, **options: Any) -> OptimizationPlan:
        return compact_on(NOBODY, plan_optimization(*of, **options))

    with monkeypatch.context() as planning:
        planning.setattr("flows.optimize_indexes.plan_optimization", plan_compact)
        state = optimize(with_a_member_away)
    assert f"But MongoDB at {NOBODY} does not answer" in failed(state)
    assert f"| compact | entries on {NOBODY} |" in page_of(state)
    assert list_open_journals(with_a_member_away.profile) == ()
    assert events(with_a_member_away) == ["began", "failed"]


def test_what_a_run_left_that_lost_its_server_locks_nobody_out_though_that_stays_away(
    with_a_member_away: Ledger,
) -> None:
    ledger = with_a_member_away
    plan = OptimizationPlan(
        runbook="optimize-indexes", service=ledger.name, summary="", acts=(), rests_on={}, steps=()
    )
    journal = open_journal(ledger.profile, "optimize-indexes")
    journal.write("began", run="killed", plan=compact_on(NOBODY, plan).model_dump(mode="json"))
    journal.write("compact", key="entries", member=NOBODY)
    name_admin_url(ledger, f"mongodb://{NOBODY}/admin?directConnection=true")
    assert "does not answer" in failed(optimize(ledger))
    assert list_open_journals(ledger.profile) == ()
    assert events(ledger) == ["settled"]


def test_a_sample_keeps_every_count(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    assert completed(sample(ledger)) == "ledger: the uses of 4 indexes are kept."
    (kept,) = read_history(ledger.profile, USES)
    assert {name for name in kept.values if not name.startswith(("since:", "definition:"))} == {
        f"{index.source}/{name}" for name, index in indexes(ledger).items()
    }
