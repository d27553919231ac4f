"""The check of a start as an operator meets it, on the sandbox's applications."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect.client.schemas.objects import State

from flows.startup_check import startup_check
from tasks.profiles import SERVICES_VARIABLE
from tasks.records.service import ServiceProfile
from tests.runbooks.conftest import artifacts_of, completed, failed

pytestmark = pytest.mark.usefixtures("prefect_server")


def check(service: str) -> State[Any]:
    return cast("State[Any]", startup_check(service, return_state=True))


@pytest.mark.parametrize("service", ["invoice", "propertypulse"])
def test_a_start_that_is_whole_is_seen_step_by_step(service: str, request: pytest.FixtureRequest) -> None:
    profile: ServiceProfile = request.getfixturevalue(service)
    state = check(profile.name)
    steps = 8 if profile.firebase is not None else 7
    assert completed(state) == f"{service} has started: {steps} of 8 steps are seen to be done."
    shown = artifacts_of(state)[f"startup-check-checked-{service}"].replace("\\", "")
    seen = re.findall(r"^\| (?:ok|-) \| ([^|]+) \|", shown, re.MULTILINE)
    first, *_, last = seen
    assert (len(seen), first, last) == (8, "env file", "health")


def test_the_first_missing_step_is_named_and_a_wrong_route_is_no_wrong_password(
    invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = invoice.model_dump(mode="json", exclude_unset=True)
    settings["application"]["login"]["url"] = invoice.application.health_url.replace(
        "health", "no-such-route"
    )
    (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    message = failed(check("invoice"))
    assert message.startswith("invoice's start is not whole: the step 'routes' is missing. ")
    assert "answered 404: the route is not there, or fails." in message


def test_an_unknown_service_is_refused(invoice: ServiceProfile) -> None:
    assert "known services: invoice" in failed(check("invoise"))
