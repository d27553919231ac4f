"""Who listens on the application's port, among real listeners and under the sandbox's real PM2."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.sandbox import programs
from tasks.observing_port import observe_port, port_of
from tasks.own_processes import find_starters, list_started_by_pm2
from tasks.process_manager import observe_application
from tasks.records.evidence import PortFacts, PortHolder
from tasks.records.service import ServiceProfile

NOBODY = 65534
LISTENER = """
const server = require('http').createServer((request, answer) => answer.end());
server.listen(Number(process.env.LISTEN_ON), '127.0.0.1');
"""
ANY_LISTENER = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept()"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def elsewhere(invoice: ServiceProfile, tmp_path: Path, port: int) -> ServiceProfile:
    """The service, with a directory and a port of the test's own, under the name that PM2 knows."""
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "server.js").write_text(LISTENER)
    (directory / "other.js").write_text(LISTENER)
    (directory / ".env").write_text(f"PORT={port}\nAPI_SECRET=swordfish-swordfish\n")
    application = invoice.application.model_copy(update={"directory": directory})
    return invoice.model_copy(update={"application": application})


@pytest.fixture
def start(port: int) -> Iterator[Start]:
    """A starter of listeners that returns when they listen."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env={**os.environ, "LISTEN_ON": str(port)}, **options)
        started.append(process)
        deadline = time.monotonic() + 20
        while not listens(port):
            assert process.poll() is None, "the listener ended"
            assert time.monotonic() < deadline, "the listener does not listen"
            time.sleep(0.02)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    return any(
        found.laddr and found.laddr.port == port
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    )


def only_holder(facts: PortFacts, port: int) -> PortHolder:
    assert facts.port == port
    (holder,) = facts.holders
    return holder


def test_an_application_that_runs_holds_its_own_port(
    invoice: ServiceProfile, propertypulse: ServiceProfile
) -> None:
    for profile in (invoice, propertypulse):
        facts = observe_port.fn(profile)
        assert f":{facts.port}/" in profile.application.health_url
        assert [(holder.ours, holder.left_behind) for holder in facts.holders] == [(True, False)]


def test_nobody_is_an_answer(elsewhere: ServiceProfile, port: int) -> None:
    assert observe_port.fn(elsewhere) == PortFacts(port=port, holders=())


def test_a_stranger_is_named_with_its_command_in_short(
    elsewhere: ServiceProfile, port: int, start: Start
) -> None:
    process = start(sys.executable, "-c", ANY_LISTENER, str(port), "x" * 200)
    holder = only_holder(observe_port.fn(elsewhere), port)
    assert (holder.pid, holder.ours, holder.left_behind) == (process.pid, False, False)
    assert holder.name.startswith("python")
    assert holder.since is not None
    assert abs(holder.since.timestamp() - time.time()) < 60
    assert len(holder.command) <= 120


def test_no_secret_of_a_command_line_is_told(
    elsewhere: ServiceProfile, port: int, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "l").write_text(ANY_LISTENER)
    words = ["--password", "hidden-one", "--api-key=hidden-two", "swordfish-swordfish"]
    start("python", "l", str(port), *words, executable=sys.executable, cwd=tmp_path)
    command = only_holder(observe_port.fn(elsewhere), port).command
    assert command == f"python l {port} --password *** --api-key=*** ***"


@pytest.mark.parametrize("by", ["name", "path"])
def test_the_applications_own_program_that_its_manager_lost_is_left_behind(
    elsewhere: ServiceProfile, port: int, start: Start, by: str
) -> None:
    directory = elsewhere.application.directory
    entry, folder = ("server.js", directory) if by == "name" else (str(directory / "server.js"), Path("/"))
    process = start(str(programs.node()), entry, cwd=folder)
    holder = only_holder(observe_port.fn(elsewhere), port)
    assert (holder.pid, holder.name, holder.ours, holder.left_behind) == (process.pid, "node", False, True)


@pytest.mark.parametrize(("entry", "folder"), [("other.js", "app"), ("server.js", "copy")])
def test_another_program_of_node_is_a_stranger(  # noqa: PLR0913, PLR0917
    elsewhere: ServiceProfile, port: int, start: Start, tmp_path: Path, entry: str, folder: str
) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "server.js").write_text(LISTENER)
    start(str(programs.node()), entry, cwd=tmp_path / folder)
    holder = only_holder(observe_port.fn(elsewhere), port)
    assert (holder.ours, holder.left_behind) == (False, False)


def test_while_the_manager_cannot_be_asked_the_applications_own_program_is_not_accused(
    elsewhere: ServiceProfile, port: int, start: Start, tmp_path: Path
) -> None:
    absent = {"process_manager": "systemd", "process_manager_program": tmp_path / "systemctl"}
    application = elsewhere.application.model_copy(update=absent)
    profile = elsewhere.model_copy(update={"application": application})
    own = start(str(programs.node()), "server.js", cwd=application.directory)
    holder = only_holder(observe_port.fn(profile), port)
    assert (holder.ours, holder.left_behind) == (True, False)
    own.kill()
    own.wait()
    start(sys.executable, "-c", ANY_LISTENER, str(port))
    assert only_holder(observe_port.fn(profile), port).ours is False


@pytest.mark.parametrize("written", [None, "", "none", "70000", "0", "8080;"])
def test_without_a_port_in_the_env_file_the_health_urls_counts(
    service: ServiceProfile, written: str | None
) -> None:
    variables = {} if written is None else {"PORT": written}
    assert port_of(service, variables) == 8080
    application = service.application.model_copy(update={"health_url": "https://invoice.example.com/health"})
    assert port_of(service.model_copy(update={"application": application}), variables) == 443
    assert port_of(service, {"PORT": "9090"}) == 9090


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_an_ordinary_user_sees_that_somebody_else_listens(
    elsewhere: ServiceProfile, port: int, start: Start, tmp_path: Path
) -> None:
    """As a child of that user: what it cannot see is what the kernel hides."""
    start(sys.executable, "-c", ANY_LISTENER, str(port))
    profile = elsewhere.model_copy(update={"state_directory": tmp_path / "state"})
    code = (
        "import os, sys\n"
        "from tasks.observing_port import observe_port\n"
        "from tasks.records.service import ServiceProfile\n"
        # Read before: what Python loads for it may lie where only root gets.
        "profile = ServiceProfile.model_validate_json(sys.argv[1])\n"
        f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)\n"
        "print(observe_port.fn(profile).model_dump_json())\n"
    )
    command = [sys.executable, "-c", code, profile.model_dump_json()]
    health = f"http://127.0.0.1:{port}/health"
    command[-1] = command[-1].replace(profile.application.health_url, health)
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    holder = only_holder(PortFacts.model_validate_json(finished.stdout), port)
    # It may not ask PM2 either, and so accuses nobody.
    assert (holder.pid, holder.name, holder.ours) == (None, "a process of another user", True)


def test_what_pm2_started_under_the_services_name_is_what_pm2_says(
    invoice: ServiceProfile, propertypulse: ServiceProfile
) -> None:
    for profile in (invoice, propertypulse):
        said = {instance.pid for instance in observe_application.fn(profile).instances}
        found = list_started_by_pm2(profile)
        assert found is not None
        # Other sandboxes of this user have applications of the same name.
        assert said <= found
        stopped = profile.application.model_copy(update={"process_name": "nobody"})
        assert list_started_by_pm2(profile.model_copy(update={"application": stopped})) == frozenset()


def test_a_daemon_that_is_over_when_its_children_are_asked_for_hides_no_others(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment, what a daemon is just starting bears the daemon's name."""
    with subprocess.Popen(["sleep", "600"]) as started:
        over = psutil.Process(started.pid)
        started.kill()
    living = find_starters(invoice)
    said = {instance.pid for instance in observe_application.fn(invoice).instances}
    monkeypatch.setattr("tasks.own_processes.find_starters", lambda _: [over, *living])
    found = list_started_by_pm2(invoice)
    assert found is not None
    assert said <= found
    monkeypatch.setattr("tasks.own_processes.find_starters", lambda _: [over])
    assert list_started_by_pm2(invoice) is None
