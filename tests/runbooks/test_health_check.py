"""The health check as an operator meets it: a table, the triage's own words, and what it remembers."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect.client.schemas.objects import State

from flows.health_check import health_check
from tasks.environment_file import read_variables
from tasks.known_good import recall_healthy, remember_healthy
from tasks.log_masking import collect_secrets
from tasks.profiles import SERVICES_VARIABLE, read_profile
from tasks.records.service import ServiceProfile
from tests.runbooks.conftest import artifacts_of, completed, failed

pytestmark = pytest.mark.usefixtures("prefect_server")
Copy = Callable[..., ServiceProfile]


def check(service: str, **parameters: Any) -> State[Any]:
    return cast("State[Any]", health_check(service, **parameters, return_state=True))


def page(state: State[Any]) -> str:
    (shown,) = artifacts_of(state).values()
    return shown.replace("\\", "")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A maker of profiles like one of the sandbox's, with changes; the host's memory is the test's own."""

    def make(profile: ServiceProfile, **application: Any) -> ServiceProfile:
        settings = profile.model_dump(mode="json", exclude_unset=True)
        settings["application"] |= application
        settings["state_directory"] = str(tmp_path / "state")
        # Two cores that build and test have no time for anybody.
        settings["outage"] = {"slow_after": "PT4S"}
        (tmp_path / f"{profile.name}.yaml").write_text(yaml.safe_dump(settings))
        monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
        return read_profile(tmp_path / f"{profile.name}.yaml")

    return make


@pytest.mark.parametrize("service", ["invoice", "propertypulse"])
def test_a_healthy_service_is_a_table_and_is_remembered(
    service: str, copy: Copy, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    profile = copy(request.getfixturevalue(service))
    began = datetime.now(UTC)

    state = check(service)

    assert completed(state).startswith(f"{service} is healthy: it answered in ")
    shown = page(state)
    assert "| WRONG |" not in shown
    for line in ("health", "database", "disks", "certificate", "logins and tokens", "public address"):
        assert re.search(rf"^\| ok \| {line} \|", shown, re.MULTILINE), line
    secrets = collect_secrets(read_variables(profile))
    assert secrets
    assert not [secret for secret in secrets if secret in shown + caplog.text]
    known = recall_healthy(profile)
    assert known is not None
    assert known.at - began < timedelta(minutes=1)


def test_a_service_that_is_down_fails_in_the_triages_words_and_is_not_remembered(
    invoice: ServiceProfile, copy: Copy
) -> None:
    profile = copy(invoice, health_url="http://127.0.0.1:9/health")
    message = failed(state := check("invoice"))
    assert message.startswith("invoice is down")
    assert "| WRONG | health | Asked at http://127.0.0.1:9/health: nobody listens there" in page(state)
    assert recall_healthy(profile) is None


def test_a_secret_that_was_changed_on_purpose_is_told_until_somebody_says_so(
    invoice: ServiceProfile, copy: Copy
) -> None:
    # The application's own folder stays as it is: only what is remembered of it is of another secret.
    profile = copy(invoice)
    remember_healthy.fn(profile, datetime.now(UTC))
    known = recall_healthy(profile)
    assert known is not None
    spoilt = known.model_copy(update={"variables": known.variables | {"JWT_SECRET": "0" * 64}})
    (profile.state_directory / "invoice" / "known-good.json").write_text(spoilt.model_dump_json())

    assert "JWT_SECRET changed" in failed(check("invoice"))
    completed(check("invoice", accept_changes=True))


def test_an_unknown_service_is_refused(copy: Copy, invoice: ServiceProfile) -> None:
    copy(invoice)
    assert "known services: invoice" in failed(check("invoise"))
