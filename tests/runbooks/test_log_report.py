"""The report of all logs as an operator meets it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from prefect.client.schemas.objects import State

from flows.log_report import log_report
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed


def report(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", log_report(ledger.name, **parameters, return_state=True))


def page(state: State[Any]) -> str:
    (shown,) = artifacts_of(state).values()
    return shown.replace("\\", "")


def with_log(ledgers: Ledgers, *lines: tuple[float, str, str]) -> Ledger:
    ledger = ledgers.make("postgresql")
    ledger.change(application={"log_files": ["app.log"], "process_manager": "windows"})
    with (ledger.application / "app.log").open("w") as file:
        for minutes, level, message in lines:
            at = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
            file.write(json.dumps({"timestamp": at, "level": level, "message": message}) + "\n")
    return ledger


def test_what_it_means_comes_first_then_the_newest_errors_and_no_secret(ledgers: Ledgers) -> None:
    ledger = with_log(
        ledgers,
        (90, "error", "too old"),
        (50, "error", "connect ECONNREFUSED 127.0.0.1:5432"),
        (40, "error", "connect ECONNREFUSED 127.0.0.1:5432"),
        (30, "error", "❌ Internal server error: | boom"),
        (20, "warn", "Slow request: GET /payments took 2000ms"),
        (10, "info", "Payment marked as paid: pi_1"),
    )
    password = ledger.database.url.partition("//")[2].partition("@")[0].partition(":")[2]
    with (ledger.application / "app.log").open("a") as file:
        file.write(
            f"{datetime.now(UTC).isoformat()} Error: cannot use {ledger.database.url} with {password}\n"
        )

    state = report(ledger)

    assert completed(state) == "ledger: 4 error lines of 1 logs, most often: connection refused (2)."
    shown = page(state)
    assert "**4 error lines, 1 warning.**" in shown
    assert "| 2 | connection refused | Nothing listens where the application connects to. |" in shown
    assert shown.index("connection refused") < shown.index("## The newest errors") < shown.index("boom")
    assert "too old" not in shown
    assert "Payment marked" not in shown.partition("## The newest")[2]
    assert password not in shown
    assert "***" in shown

    assert "Payment marked" in page(report(ledger, level="info")).partition("## The newest")[2]
    assert "too old" in page(report(ledger, minutes=120))
    found = report(ledger, containing="PAYMENT", level="warning")
    assert "**0 error lines, 1 warning.**" in page(found)
    assert "Slow request: GET /payments" in page(found)
    assert "ECONNREFUSED" not in page(found)


def test_a_log_that_cannot_be_read_is_named_and_the_others_are_worth_no_less(ledgers: Ledgers) -> None:
    ledger = with_log(ledgers, (5, "error", "boom"))
    ledger.change(
        application={"log_files": ["app.log", "gone.log"], "process_manager": "windows"},
    )
    state = report(ledger)
    assert completed(state) == "ledger: 1 error line of 2 logs; read in part or not at all: gone.log."
    assert "gone.log could not be read" in page(state)
    assert "boom" in page(state)


def test_a_quiet_hour_says_so(ledgers: Ledgers) -> None:
    state = report(with_log(ledgers, (90, "error", "old")))
    assert completed(state) == "ledger: 0 error lines of 1 logs."
    assert "No line has a meaning" in page(state)
    assert "There are none." in page(state)


def test_nothing_to_read_fails(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    ledger.change(application={"process_manager": "windows"})
    assert "The profile names no log" in failed(report(ledger))
    ledger.change(application={"process_manager": "windows", "log_files": ["gone.log"]})
    assert "No log could be read: gone.log could not be read" in failed(report(ledger))
