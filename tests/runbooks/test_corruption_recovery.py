"""corruption-recovery: damage that is really on the disk, damage that is none, and a set from before it."""

from datetime import timedelta

import httpx
import psycopg
import pytest
from psycopg import sql

from deployments.sandbox.stack import Sandbox
from tasks.journal import list_open_journals
from tests.runbooks.conftest import KINDS, Children, Ledger, Ledgers, artifacts_of, completed, failed

PAGE = 8192


@pytest.fixture(params=KINDS)
def operated(request: pytest.FixtureRequest, ledgers: Ledgers, sandbox: Sandbox) -> Ledger:
    """A small service whose application runs, with one verified set."""
    ledger = ledgers.make(request.param)
    ledger.operate(sandbox)
    ledger.must_back_up()
    return ledger


def is_healthy(ledger: Ledger) -> bool:
    return httpx.get(ledger.profile.application.health_url, timeout=5).is_success


def harm(sandbox: Sandbox, ledger: Ledger, table: str) -> None:
    """Overwrite a page of a table; the server reads it when the files are a database of that name again."""
    healthy = f"{ledger.database.name}_healthy"
    with psycopg.connect(ledger.database.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_relation_filepath(%s::regclass)", [table]).fetchone()
    assert row is not None
    with (sandbox.state / "postgresql" / row[0]).open("r+b") as file:
        file.seek(PAGE + 4000)
        file.write(b"\xde\xad\xbe\xef" * 100)
    old, new = sql.Identifier(ledger.database.name), sql.Identifier(healthy)
    with psycopg.connect(sandbox.endpoints.postgresql_admin_url, dbname="postgres", autocommit=True) as admin:
        forbid = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(forbid.format(old, sql.Literal(False)))
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            [ledger.database.name],
        )
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(old, new))
        admin.execute(sql.SQL("DROP DATABASE {}").format(new))


def test_a_damaged_table_is_named_and_the_set_from_before_it_comes_back(
    ledgers: Ledgers, sandbox: Sandbox
) -> None:
    ledger = ledgers.make("postgresql")
    ledger.database.grow(200, 500)
    ledger.operate(sandbox)
    ledger.must_back_up()
    saved = ledger.database.hash_content()
    harm(sandbox, ledger, "grown")

    # What is damaged cannot be backed up, and is not thrown away unless somebody says so.
    refused = ledger.recover()
    said = failed(refused)
    assert "grown" in artifacts_of(refused)["corruption-recovery-findings-ledger"]
    assert "what is there now cannot be saved" in said
    assert "The data is as it was. The application runs" in said

    said = completed(ledger.recover(nothing_to_save="ledger"))
    assert "Damaged: " in said
    assert "grown" in said
    assert ledger.database.hash_content() == saved
    assert is_healthy(ledger)
    assert list_open_journals(ledger.profile) == ()


def test_where_nothing_is_damaged_nothing_is_restored_and_the_application_runs_again(
    operated: Ledger,
) -> None:
    operated.database.spoil()
    spoilt, listing = operated.database.hash_content(), set(operated.sets())
    said = completed(operated.recover())
    assert "nothing is damaged" in said
    assert "The application runs and is healthy." in said
    assert operated.database.hash_content() == spoilt
    assert set(operated.sets()) == listing
    assert is_healthy(operated)
    assert list_open_journals(operated.profile) == ()


def test_without_a_set_from_before_the_damage_nothing_is_touched(operated: Ledger) -> None:
    before = operated.manifest(operated.sets()[-1]).started_at - timedelta(hours=1)
    assert "has no verified set from before" in failed(operated.recover(damaged_since=before))
    assert is_healthy(operated)


def test_a_dry_run_shows_the_plan_and_stops_nothing(operated: Ledger) -> None:
    state = operated.recover(dry_run=True)
    assert "nothing was done" in completed(state)
    assert "examine every collection or table" in artifacts_of(state)["corruption-recovery-plan-ledger"]
    assert is_healthy(operated)


def test_killed_while_it_examines_the_next_run_starts_the_application_again(
    operated: Ledger, children: Children
) -> None:
    saved = operated.database.hash_content()
    examining = {
        "mongodb": "tasks.mongodb_integrity:examine_collections",
        "postgresql": "tasks.postgresql_integrity:examine_database",
    }
    killed = children.start(operated, "corruption_recovery", kill_when_called=examining[operated.kind])
    assert killed.wait() is None
    with pytest.raises(httpx.ConnectError):
        is_healthy(operated)
    # Another runbook that would change the service refuses until that is put right.
    assert "a corruption-recovery was killed and left something half done" in failed(operated.restore())
    assert "nothing is damaged" in completed(operated.recover())
    assert is_healthy(operated)
    assert operated.database.hash_content() == saved
