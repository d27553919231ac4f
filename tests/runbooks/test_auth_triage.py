"""auth-triage as an operator meets it: what is wrong, and no address where others read."""

import logging
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect.client.schemas.objects import State

from flows.auth_triage import auth_triage
from tasks.profiles import SERVICES_VARIABLE
from tasks.records.service import ServiceProfile
from tests.runbooks.conftest import artifacts_of, completed, failed

pytestmark = pytest.mark.usefixtures("prefect_server")
STRANGER = "stranger.h3@example.com"


def triage(service: str, **parameters: Any) -> State[Any]:
    return cast("State[Any]", auth_triage(service, **parameters, return_state=True))


@pytest.mark.parametrize("service", ["invoice", "propertypulse"])
def test_a_user_who_is_known_and_active_leaves_nothing_to_do(
    service: str, request: pytest.FixtureRequest
) -> None:
    profile: ServiceProfile = request.getfixturevalue(service)
    state = triage(profile.name, user="probe@example.com")
    assert completed(state).endswith("The user that was asked about is known and active.")
    shown = artifacts_of(state)[f"auth-triage-checked-{service}"].replace("\\", "")
    assert "| ok | the user | probe@example.com is in users, email and active by its field " in shown
    assert "| ok | logins and tokens | The probe user's login gave a token. |" in shown


def test_a_user_who_is_unknown_is_named_on_the_page_only(
    invoice: ServiceProfile, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        state = triage("invoice", user=f" {STRANGER} ")
    assert failed(state) == "invoice: The user that was asked about cannot log in: see the page."
    (shown,) = artifacts_of(state).values()
    assert f"{STRANGER} is not in users, email." in shown.replace("\\", "")
    assert "What was checked" in caplog.text
    assert STRANGER not in caplog.text


def test_a_wrong_password_of_the_probe_user_fails_without_anybody_asked_about(
    invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("not-the-password")
    settings = invoice.model_dump(mode="json", exclude_unset=True)
    settings["application"]["login"]["password"] = f"file:{secret}"
    (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    state = triage("invoice")
    assert "the probe's user cannot log in" in failed(state)
    (shown,) = artifacts_of(state).values()
    assert "| the user |" not in shown


def test_an_unknown_service_is_refused(invoice: ServiceProfile) -> None:
    assert "known services: invoice" in failed(triage("invoise"))
