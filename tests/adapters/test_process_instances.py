"""What is told of each process of an application, graceful restarts, and what it said since a moment."""

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.sandbox import unit_journal
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.systemctl import PAGE_CACHE_BYTES
from tasks.availability import probing
from tasks.environment_file import read_variables
from tasks.errors import AccessDeniedError
from tasks.http_probe import await_health
from tasks.process_log import await_started_line, mark_process_log, read_process_log
from tasks.process_manager import (
    observe_application,
    reload_application,
    restart_application,
    start_application,
    stop_application,
)
from tasks.records.service import ServiceProfile
from tests.adapters.test_process_manager import (
    Pm2,
    Units,
    changed,
    own_app,
    pids_of,
    pm2,
    units,
    wait_until,
    write_program,
)

__all__ = ["own_app", "pm2", "units"]


# --- PM2 ---


def test_each_process_of_a_cluster_is_told_and_no_secret_of_it(propertypulse: ServiceProfile) -> None:
    status = observe_application.fn(propertypulse)
    assert len(status.instances) == 2
    for instance in status.instances:
        assert (instance.state, instance.kernel_state) == ("online", "running")
        assert instance.pid is not None
        assert instance.since is not None
        started = datetime.fromtimestamp(psutil.Process(instance.pid).create_time(), UTC)
        assert abs(instance.since - started) < timedelta(seconds=10)
        assert instance.memory_bytes
        assert instance.restarts is not None
    told = status.model_dump_json()
    values = (value for value in read_variables(propertypulse).values() if len(value) > 11)
    assert [value for value in values if value in told] == []


def test_a_process_that_was_suspended_is_seen_though_pm2_calls_it_online(invoice: ServiceProfile) -> None:
    (pid,) = (instance.pid for instance in observe_application.fn(invoice).instances)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: observe_application.fn(invoice).instances[0].kernel_state == "suspended")
        assert observe_application.fn(invoice).instances[0].state == "online"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_end_that_comes_seconds_after_a_start_is_told_from_a_restart_by_a_person(
    own_app: Callable[..., ServiceProfile], pm2: Pm2
) -> None:
    """An abort has the exit code 0 under PM2, as a restart by a person has."""
    aborts = own_app("aborts", "setTimeout(() => process.abort(), 1100);")
    wait_until(lambda: observe_application.fn(aborts).instances[0].restarted_alone)
    (looping,) = observe_application.fn(aborts).instances
    assert (looping.unstable_restarts, looping.exit_code) == (0, 0)
    # It takes no signal but the last: its stop lasts as long as PM2 lets it.
    works = own_app(
        "works", "process.on('SIGINT', () => {}); setInterval(() => {}, 1000);", kill_timeout=1500
    )
    for verb in ("restart", "reload", "stop", "restart"):
        pm2(verb, "works")
        assert observe_application.fn(works).instances[0].restarted_alone is False


def test_a_graceful_restart_of_a_cluster_loses_no_request(
    sandbox: Sandbox, propertypulse: ServiceProfile
) -> None:
    before = set(pids_of(sandbox, propertypulse))
    mark = mark_process_log.fn(propertypulse)
    with probing(propertypulse) as prober:
        wait_until(lambda: prober.measure().probes)
        reload_application.fn(propertypulse)
        assert await_started_line.fn(propertypulse, mark, 2) is True
    found = prober.measure()
    assert (found.failed, found.unavailable_seconds) == (0, 0)
    assert found.probes > 3
    assert not before & set(pids_of(sandbox, propertypulse))


def test_what_an_application_said_since_a_mark_is_told_without_its_secrets(invoice: ServiceProfile) -> None:
    assert read_process_log.fn(invoice, 50)
    mark = mark_process_log.fn(invoice)
    assert read_process_log.fn(invoice, 50, mark) == ()
    secret = read_variables(invoice)["JWT_SECRET"]
    (errors,) = (Path(name) for name in mark.ends if "error" in name)
    length = errors.stat().st_size
    try:
        with errors.open("a") as file:
            file.write(f"a line with {secret} in it\n")
        said = read_process_log.fn(invoice, 50, mark)
    finally:
        # Once it is another's no more, nobody could know it for a secret.
        os.truncate(errors, length)
    assert said[-1].startswith("a line with *")
    assert secret not in "\n".join(said)


def test_a_log_that_was_emptied_since_the_mark_is_read_from_its_beginning(invoice: ServiceProfile) -> None:
    mark = mark_process_log.fn(invoice)
    longer = mark.model_copy(update={"ends": {name: (end[0], end[1] + 9) for name, end in mark.ends.items()}})
    assert read_process_log.fn(invoice, 50, longer) == read_process_log.fn(invoice, 50)


def test_a_start_that_the_log_does_not_confirm_in_time_is_told_as_one(invoice: ServiceProfile) -> None:
    impatient = changed(invoice, start_within=timedelta(seconds=0))
    assert await_started_line.fn(impatient, mark_process_log.fn(invoice), 1) is False


# --- systemd ---


@pytest.fixture
def journal(units: Units) -> None:
    """A double of journalctl beside that of systemctl."""
    write_program(units.folder / "bin" / "journalctl", unit_journal, units.folder)


def test_the_process_of_a_unit_is_told(units: Units) -> None:
    profile = units.add("api", restarts=3)
    stopped = observe_application.fn(profile).instances[0]
    assert (stopped.state, stopped.pid, stopped.exit_code) == ("stopped", None, None)
    start_application.fn(profile)
    (instance,) = observe_application.fn(profile).instances
    assert (instance.name, instance.state, instance.kernel_state) == ("api", "online", "running")
    assert instance.pid == units.pid("api")
    assert instance.restarts == 3
    assert instance.memory_bytes
    assert instance.memory_bytes < PAGE_CACHE_BYTES, "what its files take is none of its memory"
    assert instance.since is not None
    assert abs(datetime.now(UTC) - instance.since) < timedelta(seconds=60)
    for act in (reload_application, restart_application):
        before = units.pid("api")
        act.fn(profile)
        assert observe_application.fn(profile).running
        assert units.pid("api") != before


@pytest.mark.parametrize(
    ("said", "exit_code", "given_up"),
    [
        ({"status": 3}, 3, False),
        ({"code": 2, "status": 9, "result": "oom-kill"}, 137, False),
        ({"code": 3, "status": 6, "result": "core-dump"}, 134, False),
        ({"status": 3, "result": "start-limit-hit"}, 3, True),
        # The result of its last end stays when systemd had restarted it by itself up to the limit.
        ({"status": 3, "result": "exit-code", "restarts": 5}, 3, True),
    ],
)
def test_a_unit_that_failed_tells_how_it_ended_and_whether_systemd_gave_up(
    units: Units, said: dict[str, Any], exit_code: int, given_up: bool
) -> None:
    profile = units.add("api", failed=True, started="Sun 2026-11-22 07:43:57 UTC", **said)
    (instance,) = observe_application.fn(profile).instances
    assert (instance.state, instance.pid) == ("errored", None)
    assert (instance.exit_code, instance.given_up) == (exit_code, given_up)


def test_a_unit_that_was_stopped_ended_by_the_signal_of_the_stop(units: Units) -> None:
    profile = units.add("api")
    start_application.fn(profile)
    stop_application.fn(profile)
    (instance,) = observe_application.fn(profile).instances
    assert (instance.state, instance.exit_code) == ("stopped", 143)


@pytest.mark.usefixtures("journal")
def test_what_a_unit_said_is_read_from_its_journal(units: Units) -> None:
    talks = "import time; print('Server running on port 1', flush=True); time.sleep(600)"
    profile = units.add("api", talks)
    start_application.fn(profile)
    wait_until(lambda: read_process_log.fn(profile, 5))
    mark = mark_process_log.fn(profile)
    impatient = changed(profile, start_within=timedelta(seconds=0))
    assert await_started_line.fn(impatient, mark, 1) is False
    restart_application.fn(profile)
    assert await_started_line.fn(profile, mark, 1) is True


def test_a_journal_that_may_not_be_read_is_an_error_that_says_what_to_do(units: Units) -> None:
    program = units.folder / "bin" / "journalctl"
    program.write_text(
        "#!/bin/sh\necho 'No journal files were opened due to insufficient permissions.'\nexit 1\n"
    )
    program.chmod(0o700)
    with pytest.raises(AccessDeniedError, match="add the worker's user to the group systemd-journal"):
        read_process_log.fn(units.add("api"), 5)


def test_a_restart_leaves_a_healthy_application(invoice: ServiceProfile) -> None:
    (before,) = observe_application.fn(invoice).instances
    restart_application.fn(invoice)
    await_health.fn(invoice)
    (after,) = observe_application.fn(invoice).instances
    assert after.pid != before.pid
