"""PM2's list: its daemon's answer is its command's, and the command is asked where the daemon cannot be."""

import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import pytest

from deployments.sandbox.stack import Sandbox
from tasks.errors import UnreachableError
from tasks.pm2_listing import list_entries
from tasks.records.application import Application
from tasks.records.service import ServiceProfile

# What differs from one look to the next.
MOMENTARY = {"monit", "axm_monitor"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of PM2's that belongs to the test."""
    monkeypatch.setenv("PM2_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def answering(home: Path) -> Iterator[Callable[[bytes | None], None]]:
    """Put something where PM2's daemon listens that answers so, or never."""
    listener = socket(AF_UNIX)

    def answer(said: bytes | None) -> None:
        listener.bind(str(home / "rpc.sock"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said or b"")

        if said is not None:
            threading.Thread(target=serve, daemon=True).start()

    yield answer
    listener.close()


def framed(content: bytes) -> bytes:
    return b"\x12" + len(content).to_bytes(4, "big") + content + b"\0\0\0\3s:0"


def application(profile: ServiceProfile, **changes: Any) -> Application:
    return profile.application.model_copy(update=changes)


def write_command(folder: Path, listed: list[dict[str, Any]]) -> Path:
    """Make a ``pm2`` that says what it lists."""
    program = folder / "pm2"
    program.write_text(f"#!/bin/sh\ntouch {folder}/called\necho {shlex.quote(json.dumps(listed))}\n")
    program.chmod(0o700)
    return program


def steady(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what differs from one look to the next."""
    return [
        {
            name: value if name != "pm2_env" else {k: v for k, v in value.items() if k not in MOMENTARY}
            for name, value in entry.items()
            if name not in MOMENTARY
        }
        for entry in entries
    ]


def test_the_daemon_says_of_an_application_what_the_command_says_and_no_command_is_run(
    sandbox: Sandbox, propertypulse: ServiceProfile, tmp_path: Path
) -> None:
    name = propertypulse.application.process_name
    asked = subprocess.run([sandbox.pm2.program, "jlist"], capture_output=True, check=True)
    said = [entry for entry in json.loads(asked.stdout) if entry["name"] == name]
    program = write_command(tmp_path, [])
    entries = list_entries(application(propertypulse, process_manager_program=program), 4)
    assert len(entries) == 2
    assert steady(entries) == steady(said)
    assert not (tmp_path / "called").exists()


def test_a_command_with_a_home_of_its_own_is_asked_itself(
    sandbox: Sandbox, invoice: ServiceProfile, home: Path
) -> None:
    (entry,) = list_entries(application(invoice), 30)
    assert entry["pid"] in {process.pid for process in sandbox.pm2.processes("invoice-backend")}
    assert list(home.iterdir()) == [], "no daemon was started for the look"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x12\0\0\0\x09j:{",
        framed(b"s:no"),
        framed(b"j:nonsense"),
        framed(b"j:[]"),
        framed(b'j:{"error": "method does not exist"}'),
        framed(b'j:{"args": []}'),
        framed(b'j:{"args": [7]}'),
        framed(b'j:{"args": [["x"]]}'),
        framed(b'j:{"args": [[{"name": "another"}]]}'),
    ],
)
def test_what_answers_otherwise_than_a_daemon_that_knows_it_leaves_it_to_the_command(
    said: bytes, sandbox: Sandbox, invoice: ServiceProfile, home: Path, answering: Callable[[bytes], None]
) -> None:
    del sandbox
    answering(said)
    told = {"name": "invoice-backend", "pm_id": 3}
    program = write_command(home, [{"name": "another"}, told])
    assert list_entries(application(invoice, process_manager_program=program), 30) == [told]


def test_a_home_whose_name_is_too_long_for_a_socket_leaves_it_to_the_command(
    invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM2_HOME", str(tmp_path / ("long" * 40)))
    told = {"name": "invoice-backend"}
    program = write_command(tmp_path, [told])
    assert list_entries(application(invoice, process_manager_program=program), 30) == [told]


def test_a_daemon_that_is_silent_is_said_to_be(
    invoice: ServiceProfile, home: Path, answering: Callable[[bytes | None], None]
) -> None:
    answering(None)
    program = write_command(home, [])
    with pytest.raises(UnreachableError, match=r"PM2's daemon did not finish within 0\.2 s: see PM2's own"):
        list_entries(application(invoice, process_manager_program=program), 0.2)
    assert not (home / "called").exists()
