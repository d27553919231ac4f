"""install-service-unit on a double of systemd that runs real processes: it serves, or all is as it was."""

import getpass
import json
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any, cast

import psutil
import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox import systemctl, unit_journal
from deployments.sandbox.stack import Sandbox
from flows.install_service_unit import install_service_unit
from tasks.journal import list_open_journals
from tests.adapters.test_process_manager import is_gone
from tests.runbooks.conftest import Children, Ledger, Ledgers, artifacts_of, completed, failed
from tests.runbooks.walking import events, is_healthy

SECRET = "hunter2-and-more"
OLD = f"[Service]\nEnvironment=API_KEY={SECRET}\nExecStart=/bin/sleep 600\n"
SERVER = """
require('http').createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ status: 'OK' }));
}).listen(PORT, '127.0.0.1', () => console.log('Server running on port PORT'));
"""


@dataclass
class Host:
    """A service under the double, and where that keeps its units."""

    ledger: Ledger
    units: Path

    @property
    def file(self) -> Path:
        return self.units / "system" / "books.service"

    def unit(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.units / "books.json").read_text())
        return found

    def pid(self) -> int | None:
        return self.unit().get("pid")

    def systemctl(self, *words: str) -> None:
        assert os.spawnl(os.P_WAIT, str(self.units / "systemctl"), "systemctl", *words) == 0

    def had(self, text: str) -> None:
        """Let an older unit be installed and run."""
        self.file.write_text(text)
        self.systemctl("daemon-reload")
        self.systemctl("start", "books")


@pytest.fixture
def host(ledgers: Ledgers, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    ledger = ledgers.make("postgresql")
    units = ledger.folder / "units"
    (units / "system").mkdir(parents=True)
    for name, double in (("systemctl", systemctl), ("journalctl", unit_journal)):
        words = shlex.join([sys.executable, str(double.__file__), str(units)])
        (units / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (units / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{units}:{os.environ['PATH']}")
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (ledger.application / "server.js").write_text(SERVER.replace("PORT", str(port)))
    ledger.change(
        application={
            "process_manager": "systemd",
            "process_manager_program": str(units / "systemctl"),
            "process_name": "books",
            "health_url": f"http://127.0.0.1:{port}/health",
            "start_within": "PT8S",
            "unit": {
                "user": getpass.getuser(),
                "node": str(sandbox.endpoints.node),
                "directory": str(units / "system"),
            },
        }
    )
    made = Host(ledger, units)
    yield made
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        psutil.Process(made.pid() or 2**30).kill()


def install(host: Host, **parameters: Any) -> State[Any]:
    return cast("State[Any]", install_service_unit(host.ledger.name, **parameters, return_state=True))


def test_a_new_unit_is_written_enabled_started_and_proven_and_then_left_alone(host: Host) -> None:
    dry = install(host, dry_run=True)
    assert "nothing was done" in completed(dry)
    assert not host.file.exists()
    assert "+ExecStart=" in artifacts_of(dry)["install-service-unit-plan-ledger"]

    said = completed(install(host))
    assert f"{host.file} is installed and enabled; the application is started, " in said
    assert stat.S_IMODE(host.file.stat().st_mode) == 0o644
    assert host.unit()["enabled"] is True
    assert is_healthy(host.ledger)
    assert events(host.ledger) == ["began", "finished"]
    before = host.pid()
    assert completed(install(host)).endswith(
        "and there is nothing to do. systemd says of books: active (running)."
    )
    assert host.pid() == before


def test_a_unit_of_before_is_replaced_and_kept_and_its_secrets_are_not_shown(host: Host) -> None:
    host.had(OLD)
    state = install(host)
    completed(state)
    assert is_healthy(host.ledger)
    assert host.file.with_name("books.service.before").read_text() == OLD
    shown = artifacts_of(state)["install-service-unit-plan-ledger"]
    assert "-Environment=*** (API_KEY)" in shown
    assert SECRET not in "".join(artifacts_of(state).values())
    journals = (host.ledger.folder / "state").rglob("*.jsonl")
    assert [path for path in journals if SECRET in path.read_text()] == []


def test_one_that_does_not_serve_gives_way_to_the_unit_of_before(host: Host) -> None:
    host.had(OLD)
    host.ledger.change(application={"start_within": "PT2S"})
    (host.ledger.application / "server.js").write_text("console.error('no luck'); process.exit(3);\n")
    said = failed(install(host))
    assert "Its last words: no luck." in said
    assert said.endswith("The unit of before is back, and started.")
    assert host.file.read_text() == OLD
    assert host.pid()
    assert not host.unit().get("enabled")
    assert list_open_journals(host.ledger.profile) == ()
    assert events(host.ledger) == ["began", "failed"]


def test_a_new_one_that_does_not_serve_is_gone_again(host: Host) -> None:
    host.ledger.change(application={"start_within": "PT2S"})
    (host.ledger.application / "server.js").write_text("process.exit(3);\n")
    assert failed(install(host)).endswith("The unit is gone again.")
    assert not host.file.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"process_manager": "pm2"}, "runs under pm2, not under systemd"),
        ({"unit": {"user": "nobody-of-that-name"}}, "This host has no user nobody-of-that-name"),
        ({"entry_file": "gone.js"}, "gone.js is not there: correct application.entry_file"),
        ({"unit": {"node": "/nowhere/node"}}, "/nowhere/node is no program"),
        ({"unit": {"directory": "/nowhere"}}, "/nowhere is no folder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_touched(
    host: Host, change: dict[str, Any], said: str
) -> None:
    host.ledger.change(application=change)
    assert said in failed(install(host))
    assert not host.file.exists()
    assert not (host.ledger.folder / "state" / "ledger" / "trail.jsonl").exists()


def test_a_worker_that_may_not_write_there_is_told_what_right_it_needs(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests' own user may be root, whom no folder keeps out.
    monkeypatch.setattr("tasks.service_unit.os.access", lambda path, _: path != host.file.parent)
    said = failed(install(host))
    assert (
        f"The worker's user {getpass.getuser()} may not write in {host.file.parent}: let it by an ACL" in said
    )
    assert not host.file.exists()


@pytest.mark.timeout(300)
def test_killed_at_any_step_the_next_run_begins_from_what_was_before(host: Host, children: Children) -> None:
    orders = [
        {"kill_after_step": "writing the unit"},
        {"kill_when_called": "flows.unit_installing:restart"},
        {"kill_after_step": "restarting hard"},
        {"kill_when_called": "flows.restarting:await_health"},
    ]
    host.had(OLD)
    for order in orders:
        assert children.start(host.ledger, "install_service_unit", **order).wait() is None, order
        host.ledger.change(application={"entry_file": "gone.js"})
        # A run that does nothing of its own: only what the killed one left is put right.
        assert "gone.js is not there" in failed(install(host))
        assert host.file.read_text() == OLD, order
        assert psutil.pid_exists(host.pid() or 2**30), order
        assert list_open_journals(host.ledger.profile) == (), order
        host.ledger.change(application={"entry_file": "server.js"})
    completed(install(host))
    assert is_healthy(host.ledger)


@pytest.mark.parametrize(
    ("stopped", "told"), [(True, False), (False, True)], ids=["stopped it first", "told systemd only"]
)
def test_a_new_unit_that_a_person_removed_after_a_kill_is_in_nobodys_way(
    host: Host, children: Children, stopped: bool, told: bool
) -> None:
    step = {"kill_when_called": "flows.restarting:await_health"}
    assert children.start(host.ledger, "install_service_unit", **step).wait() is None
    pid = host.pid()
    assert pid is not None
    if stopped:
        host.systemctl("stop", "books")
    host.file.unlink()
    if told:
        host.systemctl("daemon-reload")
    host.ledger.change(application={"entry_file": "gone.js"})
    assert "gone.js is not there" in failed(install(host))
    assert list_open_journals(host.ledger.profile) == ()
    assert is_gone(pid)
    assert not host.file.exists()


def test_an_undo_that_was_killed_after_it_removed_the_new_unit_is_finished(
    host: Host, children: Children
) -> None:
    step = {"kill_after_step": "restarting hard"}
    assert children.start(host.ledger, "install_service_unit", **step).wait() is None
    # The first line that it would write is its last act.
    step = {"kill_when_called": "tasks.journal:append_line"}
    assert children.start(host.ledger, "install_service_unit", **step).wait() is None
    assert not host.file.exists()
    completed(install(host))
    assert is_healthy(host.ledger)
