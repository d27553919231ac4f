"""The triage of an outage as an operator meets it: one page, at once, whatever hangs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_UNIX, create_server, socket
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from flows.decisions.diagnosis import diagnose
from flows.decisions.evidence_assembly import assemble
from flows.outage_triage import outage_triage
from tasks.observing import PARTS, observe_part
from tasks.process_manager import stop_application
from tasks.records.diagnosis import Diagnosis
from tasks.records.service import ServiceProfile
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed

TRIAGES = 100
AT_ONCE = 4


def triage(service: str, **parameters: Any) -> State[Any]:
    return cast("State[Any]", outage_triage(service, **parameters, return_state=True))


def page(state: State[Any], service: str = "ledger") -> str:
    return artifacts_of(state)[f"outage-triage-diagnosis-{service}"].replace("\\", "")


@pytest.fixture
def operated(ledgers: Ledgers, sandbox: Any) -> Ledger:
    """A small service whose application the sandbox's PM2 runs."""
    ledger = ledgers.make("postgresql")
    ledger.operate(sandbox)
    return ledger


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which every connection is taken, and nothing is ever answered."""
    with create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def observe_and_diagnose(profile: ServiceProfile) -> Diagnosis:
    """What the flow does before it shows the page, without the flow."""
    now = datetime.now(UTC)
    with ThreadPoolExecutor(len(PARTS)) as pool:
        seen = dict(
            zip(PARTS, pool.map(lambda part: observe_part.fn(part, profile, now), PARTS), strict=True)
        )
    return diagnose(assemble(profile, now, seen, 6), profile)


@pytest.mark.timeout(600)
def test_a_hundred_triages_of_healthy_services_under_load_raise_no_cause(
    invoice: ServiceProfile, propertypulse: ServiceProfile
) -> None:
    profiles = (invoice, propertypulse) * (TRIAGES // 2)
    with ThreadPoolExecutor(AT_ONCE) as load:
        found = list(load.map(observe_and_diagnose, profiles))
    assert len(found) == TRIAGES
    wrong = {cause.title for diagnosis in found for cause in (*diagnosis.causes, *diagnosis.consequences)}
    assert wrong == set()
    assert {diagnosis.verdict for diagnosis in found} == {"healthy"}


def test_a_healthy_service_is_a_false_alarm(invoice: ServiceProfile, prefect_server: None) -> None:
    state = triage("invoice")
    assert completed(state).startswith("invoice is healthy: it answered in ")
    shown = page(state, "invoice")
    assert shown.startswith("# invoice: healthy\n\n**invoice is healthy")
    assert "- **What you must do:** Nothing." in shown


def test_a_stopped_application_is_told_in_five_lines(operated: Ledger) -> None:
    stop_application.fn(operated.profile)
    state = triage("ledger", dry_run=True)
    name = operated.profile.application.process_name
    assert failed(state).startswith(
        f"ledger is down. {name} is stopped, as a person or a maintenance leaves it."
    )
    first, headline, *rows = [line for line in page(state).splitlines() if line][:7]
    assert first == "# ledger: DOWN"
    assert headline.startswith(f"**ledger is down. {name} is stopped")
    assert [row.partition(":")[0] for row in rows] == [
        "- **What is broken",
        "- **Since when",
        "- **Why we think so",
        "- **What we did",
        "- **What you must do",
    ]
    assert "PM2 says: " in rows[2]
    assert "start it" in rows[4]


def test_a_silent_database_does_not_hide_a_full_disk(operated: Ledger, silent_port: int) -> None:
    operated.write_env(f"postgresql://somebody:secret-word@127.0.0.1:{silent_port}/books")
    operated.change(outage={"least_free_disk": 0.99999})
    stop_application.fn(operated.profile)
    state = triage("ledger", dry_run=True)
    shown = page(state)
    assert "`disk full`" in shown
    assert f"PostgreSQL database books at 127.0.0.1:{silent_port} does not answer." in shown
    assert "`database unreachable`: likely" in shown
    assert "secret-word" not in shown + failed(state)


def test_when_nothing_comes_in_time_the_page_comes_all_the_same_and_says_so(
    operated: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_application.fn(operated.profile)
    monkeypatch.setattr("flows.triaging.LIMIT_SECONDS", 0.0)
    with socket(AF_UNIX) as silent:
        silent.bind(str(tmp_path / "rpc.sock"))
        silent.listen()
        monkeypatch.setenv("PM2_HOME", str(tmp_path))
        state = triage("ledger", dry_run=True)
    assert "nobody can say why yet" in failed(state)
    shown = page(state)
    assert shown.startswith("# ledger: DOWN, cause unknown")
    # Both wait for a PM2 that is silent.
    assert "What the process manager says: there was no answer within 0 s." in shown
    assert "The logs: there was no answer within 0 s." in shown


def test_an_unknown_service_is_refused(ledgers: Ledgers, prefect_server: None) -> None:
    ledgers.make("postgresql")
    assert "known services: ledger" in failed(triage("legder"))
