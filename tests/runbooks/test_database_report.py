"""The database's report as an operator meets it: figures, growth, and what is not known."""

import json
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from prefect.client.schemas.objects import State
from psycopg import sql

from flows.database_report import database_report
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed


def report(ledger: Ledger) -> State[Any]:
    return cast("State[Any]", database_report(ledger.name, return_state=True))


def page(state: State[Any]) -> str:
    (shown,) = artifacts_of(state).values()
    return shown.replace("\\", "")


def figures(ledger: Ledger) -> Path:
    return Path(ledger.settings["state_directory"]) / ledger.name / "history" / "database.jsonl"


def let_days_pass(ledger: Ledger, days: int = 1) -> None:
    """Date what was measured so far so many days back."""
    lines = [json.loads(line) for line in figures(ledger).read_text().splitlines()]
    for line in lines:
        line["at"] = (datetime.fromisoformat(line["at"]) - timedelta(days=days)).isoformat()
    figures(ledger).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_second_report_tells_what_grew_and_draws_it(ledger: Ledger) -> None:
    first = report(ledger)
    assert completed(first).startswith("ledger: what could be observed is well, ")
    assert "Measured for the first time" in page(first)
    assert "data:image" not in page(first)

    let_days_pass(ledger)
    ledger.database.empty()
    ledger.database.grow(400, 1000)
    second = report(ledger)

    completed(second)
    assert set(artifacts_of(second)) == {"database-report-figures-ledger"}
    shown = page(second)
    assert re.search(r"in all: [+-][0-9.]+ [kM]?B since yesterday\.", shown)
    assert "![Size of the database](data:image/svg+xml;base64," in shown
    assert "![Size of entries](data:image/svg+xml;base64," in shown
    # What was not there yesterday has gained nothing that anybody could tell.
    (grown,) = [line for line in shown.splitlines() if line.startswith("| grown |")]
    assert grown.endswith("|  |  |  |")
    if ledger.kind == "mongodb":
        # PostgreSQL estimates, and only now and then.
        assert re.search(r"\| accounts \| .* \| 0 \| -[0-9.]+ kB, -150 entries \|  \|  \|", shown)
    assert len(figures(ledger).read_text().splitlines()) == 2


def test_a_disk_that_fills_up_within_days_fails_the_report_with_what_to_do(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    completed(report(ledger))
    now = json.loads(figures(ledger).read_text())
    with psycopg.connect(ledger.database.url) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    per_day = shutil.disk_usage(folder).free / 5
    lines = []
    for day in range(12, 0, -1):
        at = datetime.fromisoformat(now["at"]) - timedelta(days=day)
        lines.append(
            {
                "at": at.isoformat(),
                "values": {"disk_used_bytes": now["values"]["disk_used_bytes"] - day * per_day},
            }
        )
    figures(ledger).write_text("".join(json.dumps(line) + "\n" for line in lines))

    message = failed(report(ledger))

    assert message.startswith("ledger: disk full: full about 20")
    assert "a day: see below what grows, let audit-log-cleanup take more of it" in message


def test_what_may_not_be_seen_is_told_and_not_called_well(ledgers: Ledgers, tmp_path: Path) -> None:
    ledger = ledgers.make("postgresql")
    role = f"narrow_{ledger.database.name}"
    secret = tmp_path / "narrow-url"
    secret.touch(mode=0o600)
    address = ledger.database.url.partition("@")[2]
    secret.write_text(f"postgresql://{role}:narrow@{address}")
    with psycopg.connect(ledger.database.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'narrow'").format(sql.Identifier(role)))
        try:
            ledger.change(database={"admin_url": f"file:{secret}"})
            state = report(ledger)
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    message = completed(state)
    assert "the database is well" not in message
    assert "not known: disk space, disk full, blocked sessions, idle in transaction" in message
    assert "| not known | replication lag | PostgreSQL does not show this user what others do: give" in page(
        state
    )


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_is_away_fails_the_report(ledger: Ledger, tmp_path: Path) -> None:
    secret = tmp_path / "nowhere"
    secret.touch(mode=0o600)
    scheme = ledger.database.url.partition(":")[0]
    secret.write_text(f"{scheme}://somebody:secret-word@127.0.0.1:9/books")
    ledger.change(database={"admin_url": f"file:{secret}"})
    message = failed(report(ledger))
    assert "does not answer" in message
    assert "secret-word" not in message


def test_an_unknown_service_is_refused(ledgers: Ledgers) -> None:
    ledgers.make("postgresql")
    assert "known services: ledger" in failed(
        cast("State[Any]", database_report("legder", return_state=True))
    )
