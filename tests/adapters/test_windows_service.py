"""An application that is a Windows service, on a double of sc with its documented outputs and codes."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.sandbox import windows_services
from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError, UnreachableError
from tasks.host_program import Finished
from tasks.process_log import mark_process_log, read_process_log
from tasks.process_manager import (
    observe_application,
    reload_application,
    restart_application,
    start_application,
    stop_application,
)
from tasks.process_manager_windows import _error_of, _state_of
from tasks.profiles import read_profile
from tasks.records.process import ProcessInstance
from tasks.records.service import ServiceProfile

NAME = "PropertyPulseAPI"
PROFILE = Path(__file__).parents[2] / "deployments" / "services" / "propertypulse.yaml"
Services = Callable[..., ServiceProfile]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """A maker of services behind a double of sc that the profile names."""
    program = tmp_path / "sc"
    words = shlex.join([sys.executable, str(windows_services.__file__), str(tmp_path)])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o700)
    example = read_profile(PROFILE)
    named = {"process_manager": "windows", "process_name": NAME, "process_manager_program": program}

    def make(**about: Any) -> ServiceProfile:
        about = {"command": ["sleep", "600"], "pending": 0, **about}
        (tmp_path / f"{NAME}.json").write_text(json.dumps(about))
        application = example.application.model_copy(update={**named, "directory": tmp_path})
        return example.model_copy(update={"application": application, "state_directory": tmp_path / "state"})

    yield make
    for file in tmp_path.glob("*.json"):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(json.loads(file.read_text()).get("pid") or 2**30).kill()


def host_pid(folder: Path) -> int:
    """Return the number that the service's process has on its host, which is the tests' own here."""
    pid: int = json.loads((folder / f"{NAME}.json").read_text())["pid"]
    return pid


def instance_of(profile: ServiceProfile) -> ProcessInstance:
    (instance,) = observe_application.fn(profile).instances
    return instance


def test_a_service_is_observed_started_restarted_and_stopped(services: Services, tmp_path: Path) -> None:
    profile = services()
    before = observe_application.fn(profile)
    assert (before.stopped, before.detail) == (True, f"Windows says of {NAME}: STOPPED")
    assert instance_of(profile).state == "stopped"

    start_application.fn(profile)
    start_application.fn(profile)
    first = host_pid(tmp_path)
    assert instance_of(profile).state == "online"
    assert observe_application.fn(profile).running

    reload_application.fn(profile)
    restart_application.fn(profile)
    assert host_pid(tmp_path) != first
    assert not psutil.pid_exists(first) or psutil.Process(first).status() == psutil.STATUS_ZOMBIE

    stop_application.fn(profile)
    stop_application.fn(profile)
    assert observe_application.fn(profile).stopped


def test_a_process_of_the_workers_host_with_the_services_number_is_neither_told_of_nor_ended(
    services: Services, tmp_path: Path
) -> None:
    profile = services()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        program = tmp_path / "sc"
        program.write_text(
            "#!/bin/sh\n"
            f'[ "$1" = stop ] && touch {tmp_path}/stopped\n'
            f"[ -e {tmp_path}/stopped ] && echo ' STATE : 1  STOPPED' && exit\n"
            f"printf ' STATE : 4  RUNNING\\n PID   : {stranger.pid}\\n'\n"
        )
        try:
            assert instance_of(profile) == ProcessInstance(name=NAME, state="online")
            stop_application.fn(profile)
            assert observe_application.fn(profile).stopped
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_what_is_starting_or_stopping_is_waited_for(services: Services) -> None:
    profile = services(pending=0.5)
    start_application.fn(profile)
    assert observe_application.fn(profile).running
    stop_application.fn(profile)
    assert observe_application.fn(profile).stopped


def test_one_that_is_starting_for_too_long_is_an_error(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.process_manager_windows._PENDING_SECONDS", 0.2)
    profile = services(pending=600)
    with pytest.raises(UnreachableError, match=f"{NAME} is START_PENDING and not RUNNING: see the event log"):
        start_application.fn(profile)
    assert instance_of(profile).state == "starting"


def test_one_that_ends_while_it_starts_is_an_error_and_observed_as_one(services: Services) -> None:
    profile = services(fails=True)
    with pytest.raises(UnreachableError, match=f"{NAME} is STOPPED and not RUNNING"):
        start_application.fn(profile)
    found = observe_application.fn(profile)
    assert found.detail == f"Windows says of {NAME}: STOPPED, exit code 1067"
    assert (found.instances[0].state, found.instances[0].exit_code) == ("errored", 1067)


@pytest.mark.parametrize(
    ("about", "act", "error", "said"),
    [
        ({"denied": True}, start_application, AccessDeniedError, "may not start"),
        ({"denied": True}, stop_application, AccessDeniedError, "may not stop"),
        ({"disabled": True}, start_application, ConfigurationError, "is disabled: enable it with sc config"),
        (
            {"silent": True},
            start_application,
            UnreachableError,
            r"did not respond to sc start in time \(1053",
        ),
    ],
)
def test_each_documented_refusal_is_an_error_that_says_what_to_do(
    services: Services, about: dict[str, Any], act: Any, error: type[RunbookError], said: str
) -> None:
    with pytest.raises(error, match=said):
        act.fn(services(**about))


@pytest.mark.parametrize(
    "act", [observe_application, start_application, stop_application, reload_application]
)
def test_a_service_that_does_not_exist_is_named(services: Services, act: Any, tmp_path: Path) -> None:
    profile = services()
    (tmp_path / f"{NAME}.json").unlink()
    with pytest.raises(ConfigurationError, match=f"Windows has no service {NAME}: correct application.proc"):
        act.fn(profile)


def test_an_unknown_code_is_said_as_it_is(services: Services, tmp_path: Path) -> None:
    profile = services()
    program = tmp_path / "sc"
    program.write_text("#!/bin/sh\necho '[SC] StartService FEHLER 1068:'\nexit 44\n")
    with pytest.raises(UnreachableError, match=r"failed with 1068: net helpmsg 1068 says what that is\."):
        observe_application.fn(profile)


def test_a_windows_in_another_language_is_understood() -> None:
    french = "\n        ÉTAT               : 4  RUNNING \n        PID                : 12\n"
    assert _state_of(Finished(0, french)) == "RUNNING"
    assert _error_of(Finished(36, "[SC] EnumQueryServicesStatus:OpenService ÉCHEC 1060 :\n")) == 1060
    assert _error_of(Finished(1060, "words without a number")) == 1060


def test_what_a_service_says_is_read_from_its_own_log_files(services: Services, tmp_path: Path) -> None:
    profile = services()
    (tmp_path / "app.log").write_text("one\ntwo\nthree\n")
    application = profile.application.model_copy(update={"log_files": (Path("app.log"),)})
    profile = profile.model_copy(update={"application": application})
    assert read_process_log.fn(profile, 2) == ("two", "three")
    mark = mark_process_log.fn(profile)
    with (tmp_path / "app.log").open("a") as file:
        file.write("four\n")
    assert read_process_log.fn(profile, 2, mark) == ("four",)
