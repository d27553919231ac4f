"""The remedies of a host and the kill switch: what the guard of every triage is told."""

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.variables import Variable

from tasks.deliberate_stop import read_stop, remember_stop
from tasks.errors import ConfigurationError
from tasks.kill_switch import VARIABLE, read_hold, tell_reason
from tasks.known_good import remember_healthy
from tasks.records.remediation import DeliberateStop, Hold, Outcome, PastRemedy
from tasks.records.service import ServiceProfile
from tasks.remedies import read_remedies, record_remedy
from tasks.run_context import Run

NOW = datetime(2026, 11, 22, 2, 0, 0, 123456, tzinfo=UTC)


def remedy(minutes: int, outcome: Outcome = "begun", **changed: Any) -> PastRemedy:
    facts: dict[str, Any] = {"run": "wise-owl", "remedy": "restart", "fingerprint": "process stopped: "}
    return PastRemedy(at=NOW + timedelta(minutes=minutes), outcome=outcome, **(facts | changed))


def path_of(service: ServiceProfile) -> Path:
    return service.state_directory / service.name / "remedies.jsonl"


# --- the remedies of a host


def test_a_host_without_a_past_has_no_remedies(service: ServiceProfile) -> None:
    assert read_remedies.fn(service) == ()


def test_a_remedy_counts_as_begun_until_its_end_is_written(service: ServiceProfile) -> None:
    first, second = remedy(0), remedy(1, remedy="free-port")
    record_remedy.fn(service, first)
    record_remedy.fn(service, second)
    assert read_remedies.fn(service) == (first, second)

    ended = first.model_copy(update={"outcome": "healthy again"})
    record_remedy.fn(service, ended)
    assert read_remedies.fn(service) == (ended, second)


def test_what_a_killed_run_left_of_a_line_is_no_remedy_and_spoils_no_later_one(
    service: ServiceProfile,
) -> None:
    record_remedy.fn(service, remedy(0))
    whole = path_of(service).read_bytes()
    for end in range(len(whole), len(whole) * 2 - 1, 40):
        path_of(service).write_bytes((whole * 2)[:end])
        assert read_remedies.fn(service) == (remedy(0),)
    record_remedy.fn(service, remedy(1))
    assert read_remedies.fn(service) == (remedy(0), remedy(1))


def test_a_past_that_cannot_be_read_is_an_error_and_no_fresh_budget(service: ServiceProfile) -> None:
    record_remedy.fn(service, remedy(0))
    with path_of(service).open("a") as file:
        file.write('{"at": "yesterday"}\n')
    with pytest.raises(ConfigurationError, match="is no list of remedies of ours"):
        read_remedies.fn(service)


def test_only_its_owner_reads_it(service: ServiceProfile) -> None:
    before = os.umask(0)
    try:
        record_remedy.fn(service, remedy(0))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path_of(service).stat().st_mode) == 0o600


# --- what people stopped


def test_a_stop_counts_until_the_service_was_seen_healthy_after_it(service: ServiceProfile) -> None:
    now = datetime.now(UTC)
    stop = DeliberateStop(at=now - timedelta(minutes=10), by="Ada")
    remember_stop.fn(service, stop)
    remember_healthy.fn(service, now - timedelta(minutes=20))
    assert read_stop.fn(service) == stop
    # Seen before the stop, by a clock that was an hour fast.
    remember_healthy.fn(service, now + timedelta(hours=1))
    assert read_stop.fn(service) == stop
    remember_healthy.fn(service, now - timedelta(minutes=5))
    assert read_stop.fn(service) is None


# --- the kill switch

DEPLOYED = Run(name="wise-owl", due=None, started=NOW, started_by="an alert", deployed=True)
SHELL = DEPLOYED.model_copy(update={"deployed": False})
TurnOn = Callable[[Any], None]


@pytest.fixture
def turn_on(prefect_server: None) -> Iterator[TurnOn]:
    def write(value: Any) -> None:
        Variable.set(VARIABLE, value, overwrite=True)

    yield write
    with get_client(sync_client=True) as client:
        if client.read_variable_by_name(VARIABLE) is not None:
            client.delete_variable_by_name(VARIABLE)


def test_a_server_without_the_variable_holds_nothing_back(turn_on: TurnOn, service: ServiceProfile) -> None:
    assert read_hold.fn(service, DEPLOYED) == Hold()
    assert read_hold.fn(service, SHELL) == Hold()


def test_the_variable_is_asked_anew_each_time(turn_on: TurnOn, service: ServiceProfile) -> None:
    turn_on("Ada migrates the database")
    assert read_hold.fn(service, DEPLOYED) == Hold(reason="Ada migrates the database")
    turn_on({"invoice": "Ada is at work"})
    assert read_hold.fn(service, SHELL) == Hold(reason="Ada is at work")
    turn_on({"propertypulse": "Ada is at work"})
    assert read_hold.fn(service, DEPLOYED) == Hold()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, None),
        ("", None),
        (False, None),
        ([], None),
        ({}, None),
        (["propertypulse"], None),
        ({"invoice": ""}, None),
        ("no", "no"),
        (True, "runbooks_hold is True"),
        (["propertypulse", "invoice"], "invoice stands in runbooks_hold"),
        ({"invoice": True}, "runbooks_hold is True"),
        ({"invoice": "Ada is at work"}, "Ada is at work"),
    ],
)
def test_whatever_is_not_plainly_off_is_on(value: object, reason: str | None) -> None:
    assert tell_reason(value, "invoice") == reason


def test_a_deployed_run_whose_server_does_not_answer_may_do_nothing(service: ServiceProfile) -> None:
    nobody = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nobody):
        for run in (DEPLOYED, SHELL):
            hold = read_hold.fn(service, run)
            assert hold.asked
            assert hold.reason is not None
            assert "did not answer (ConnectError)" in hold.reason


def test_a_run_from_a_shell_without_a_server_says_that_it_could_not_ask(service: ServiceProfile) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert read_hold.fn(service, SHELL) == Hold(asked=False)
