"""The check of the audit trail as an operator meets it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect import flow
from prefect.client.schemas.objects import State

from flows.check_audit_trail import check_audit_trail
from tasks.profiles import SERVICES_VARIABLE, read_profile
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.trail import record_event
from tests.runbooks.conftest import artifacts_of, completed, failed

PROFILE = Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml"
RUN = Run(
    name="clever-otter",
    due=None,
    started=datetime(2026, 11, 21, tzinfo=UTC),
    started_by="ada | at the shell",
    deployed=False,
)


@pytest.fixture
def service(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceProfile:
    """A service of which nothing but its folder on the host and a store is there."""
    document = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    document["state_directory"] = str(tmp_path / "state")
    (tmp_path / "store").mkdir()
    document["backup"]["destination"] = {"url": (tmp_path / "store").as_uri()}
    (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    return read_profile(tmp_path / "invoice.yaml")


@flow
def record(profile: ServiceProfile, times: int) -> None:
    for number in range(times):
        record_event(profile, RUN, "restore-database", "began", plan=f"{number:064x}", outcome="set 7")


def check() -> State[Any]:
    return cast("State[Any]", check_audit_trail("invoice", return_state=True))


def path_of(service: ServiceProfile) -> Path:
    return service.state_directory / service.name / "trail.jsonl"


def test_a_sound_trail_is_told_in_a_sentence_and_shown(service: ServiceProfile) -> None:
    record(service, 2)
    state = check()
    said = completed(state)
    assert said.startswith("invoice: the audit trail is as it was written: 2 lines, the newest of 20")
    shown = artifacts_of(state)["check-audit-trail-trail-invoice"]
    assert "Every line is as it was written." in shown
    first, second = shown.splitlines()[-2:]
    assert first.startswith("| 2 | ")
    assert r"clever-otter, ada \| at the shell | restore-database | began | 000000000000 | set 7 |" in second


def test_a_service_that_no_runbook_has_changed_has_an_empty_trail(service: ServiceProfile) -> None:
    assert completed(check()) == "invoice: the audit trail is as it was written: 0 lines."


def test_a_trail_that_was_altered_fails_the_run_with_what_was_found(service: ServiceProfile) -> None:
    record(service, 9)
    altered = path_of(service).read_text().replace('"outcome":"set 7"', '"outcome":"set 8"')
    path_of(service).write_text(altered)
    state = check()
    said = failed(state)
    assert "the audit trail is not as it was written. Line 1 (20" in said
    assert "was altered. And 15 more. Keep both copies" in said
    shown = artifacts_of(state)["check-audit-trail-trail-invoice"]
    assert shown.count("differs from its copy in the store") == 9


def test_a_trail_whose_store_is_away_is_not_called_sound(
    service: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(service, 1)
    document = yaml.safe_load((tmp_path / "invoice.yaml").read_text(encoding="utf-8"))
    document["backup"]["destination"] = {"url": (tmp_path / "unmounted" / "disk").as_uri()}
    (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "unmounted" in failed(check())
