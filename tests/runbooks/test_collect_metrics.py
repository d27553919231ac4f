"""Metrics as an operator meets them: of a living application, of one that is down, over time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_connection
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox.stack import Sandbox
from flows.collect_metrics import collect_metrics
from tasks import history
from tasks.history import Measurement, read_history, record_measurement
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed

NOW = datetime.now(UTC)
MIB = 2**20


def collect(ledger: Ledger) -> State[Any]:
    return cast("State[Any]", collect_metrics(ledger.name, return_state=True))


def page(state: State[Any]) -> str:
    (shown,) = artifacts_of(state).values()
    return shown.replace("\\", "")


def kept(ledger: Ledger) -> Path:
    return Path(ledger.settings["state_directory"]) / ledger.name / "history" / "metrics.jsonl"


def let_an_earlier_process_have_grown(ledger: Ledger, memory: float) -> None:
    """Put days of steady growth in the place of what was measured."""
    began = (NOW - timedelta(days=3)).timestamp()
    lines = [
        {
            "at": (NOW - hour * timedelta(hours=1)).isoformat(),
            "values": {"memory_bytes": memory - hour * MIB / 2, "started_at": began},
        }
        for hour in range(1, 60)
    ]
    kept(ledger).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_living_application_is_measured_kept_and_drawn(sandbox: Sandbox, ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    ledger.operate(sandbox)
    port = urlsplit(ledger.profile.application.health_url).port
    with ledger.profile.env_path.open("a") as file:
        file.write(f"PORT={port}\n")

    with create_connection(("127.0.0.1", port or 0)):
        first = collect(ledger)

    assert completed(first).startswith("ledger: ")
    assert "pictures begin with the second run" in page(first)
    (line,) = kept(ledger).read_text().splitlines()
    figures = json.loads(line)["values"]
    assert 0 < figures["response_ms"] <= figures["response_worst_ms"]
    assert figures["memory_bytes"] > 10 * MIB
    assert figures["clients"] == figures["client_addresses"] == 1
    assert figures["connections"] >= 1
    assert {"errors_per_hour", "disk_percent", "host_memory_percent", "started_at"} <= set(figures)

    let_an_earlier_process_have_grown(ledger, figures["memory_bytes"])
    second = collect(ledger)

    # It is the present process that counts.
    assert "it may leak" not in completed(second)
    shown = page(second)
    assert "![Memory of the largest process, last day](data:image/svg+xml;base64," in shown
    assert "![Memory of the largest process, last month](data:image/svg+xml;base64," in shown
    assert len(kept(ledger).read_text().splitlines()) == 60


def test_an_application_that_is_down_is_no_reason_to_measure_nothing(ledgers: Ledgers) -> None:
    ledger = ledgers.make("mongodb")
    state = collect(ledger)
    completed(state)
    shown = page(state)
    assert "| Response time of health, median | not known: " in shown
    assert "| The host's CPU | not known" not in shown
    figures = json.loads(kept(ledger).read_text())["values"]
    assert "response_ms" not in figures
    assert "disk_percent" in figures


def test_an_unknown_service_is_refused(ledgers: Ledgers) -> None:
    ledgers.make("postgresql")
    assert "known services: ledger" in failed(
        cast("State[Any]", collect_metrics("legder", return_state=True))
    )


def test_a_history_forgets_its_older_half_before_it_fills_the_disk(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = ledgers.make("postgresql").profile
    monkeypatch.setattr(history, "_MOST_BYTES", 4000)
    for minute in range(200):
        at = NOW + timedelta(minutes=minute)
        record_measurement(profile, "metrics", Measurement(at=at, values={"n": minute}))
    found = [measurement.values["n"] for measurement in read_history(profile, "metrics")]
    assert found == list(range(200 - len(found), 200))
    assert 20 <= len(found) <= 80
    folder = profile.state_directory / profile.name / "history"
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]
    assert (folder / "metrics.jsonl").stat().st_mode & 0o077 == 0
