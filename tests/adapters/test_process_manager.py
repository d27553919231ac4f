"""Stopping and starting, on the sandbox's real PM2 and applications, and on a double of systemctl."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from deployments.sandbox import systemctl
from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.stack import Sandbox
from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError
from tasks.http_probe import await_health, probe_login
from tasks.process_manager import (
    manager_of,
    observe_application,
    reload_application,
    start_application,
    stop_application,
)
from tasks.records.service import ServiceProfile

Pm2 = Callable[..., str]
# A child that outlives its parent and takes no signal but the last.
STUBBORN = """
const { spawn } = require('child_process');
const child = spawn('/bin/sh', ['-c', "trap '' INT TERM HUP; while :; do sleep 1; done"],
  { detached: true, stdio: 'ignore' });
require('fs').writeFileSync(process.argv[2], String(child.pid));
setInterval(() => {}, 1000);
"""
# Ready after a while, crashed soon after that, whoever wants it to stop meanwhile.
RETURNS = """
process.on('SIGINT', () => {});
setTimeout(() => process.send('ready'), 700);
setTimeout(() => process.exit(3), 1000);
"""


def changed(profile: ServiceProfile, **application: Any) -> ServiceProfile:
    return profile.model_copy(update={"application": profile.application.model_copy(update=application)})


def wait_until(what: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Tell whether the process ended; where init reaps nobody, its entry stays."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def pm2(endpoints: Endpoints) -> Pm2:
    def run(*words: str) -> str:
        command = [str(endpoints.pm2), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    return run


@pytest.fixture
def own_app(pm2: Pm2, invoice: ServiceProfile, tmp_path: Path) -> Iterator[Callable[..., ServiceProfile]]:
    """A maker of applications of the test's own, under the sandbox's PM2."""
    made: list[str] = []

    def make(name: str, source: str, **options: int) -> ServiceProfile:
        script = tmp_path / "app.js"
        script.write_text(source)
        described = {"name": name, "script": str(script), "args": [str(tmp_path / "child")], **options}
        (tmp_path / "own.config.json").write_text(json.dumps({"apps": [described]}))
        pm2("start", str(tmp_path / "own.config.json"))
        made.append(name)
        return changed(invoice, process_name=name)

    yield make
    for name in made:
        pm2("delete", name)


@pytest.fixture(params=["invoice", "propertypulse"])
def service(request: pytest.FixtureRequest) -> Iterator[ServiceProfile]:
    profile: ServiceProfile = request.getfixturevalue(request.param)
    yield profile
    start_application.fn(profile)
    await_health.fn(profile)


def pids_of(sandbox: Sandbox, profile: ServiceProfile) -> list[int]:
    listed: list[dict[str, Any]] = json.loads(sandbox.pm2.run("jlist"))
    return [entry["pid"] for entry in listed if entry["name"] == profile.application.process_name]


def test_a_stopped_application_is_gone_until_it_is_started_and_then_its_users_log_in(
    sandbox: Sandbox, service: ServiceProfile
) -> None:
    before = pids_of(sandbox, service)
    stop_application.fn(service)
    assert before
    assert all(is_gone(pid) for pid in before)
    assert observe_application.fn(service).running is False
    stop_application.fn(service)

    start_application.fn(service)
    await_health.fn(service)
    assert probe_login.fn(service) is None
    assert observe_application.fn(service).running is True
    running = pids_of(sandbox, service)
    assert len(running) == len(before)
    start_application.fn(service)
    assert pids_of(sandbox, service) == running, "an application that runs is left alone"


def test_only_the_instance_of_a_cluster_that_does_not_run_is_started(
    sandbox: Sandbox, propertypulse: ServiceProfile, pm2: Pm2
) -> None:
    listed = json.loads(pm2("jlist"))
    name = propertypulse.application.process_name
    first, second = (entry for entry in listed if entry["name"] == name)
    pm2("stop", str(first["pm_id"]))
    half = observe_application.fn(propertypulse)
    assert half.running is False
    assert half.detail == f"PM2 says of {name}: 1 online, 1 stopped"
    start_application.fn(propertypulse)
    assert observe_application.fn(propertypulse).detail.endswith(": 2 online")
    assert second["pid"] in pids_of(sandbox, propertypulse)


def test_a_killed_application_can_be_stopped_and_stays_stopped(
    sandbox: Sandbox, service: ServiceProfile
) -> None:
    for pid in pids_of(sandbox, service):
        psutil.Process(pid).kill()
    stop_application.fn(service)
    assert set(pids_of(sandbox, service)) == {0}
    assert observe_application.fn(service).detail.endswith("stopped")


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        # However slow the machine: no run is long enough, and the second crash is one too many.
        ({"min_uptime": 600_000, "max_restarts": 1}, "errored"),
        ({"restart_delay": 600_000}, "waiting restart"),
    ],
)
def test_an_application_that_crashes_is_seen_started_again_and_stopped(
    own_app: Callable[..., ServiceProfile], options: dict[str, int], seen: str
) -> None:
    profile = own_app("crashes", "process.exit(3);", **options)
    wait_until(lambda: observe_application.fn(profile).detail == f"PM2 says of crashes: 1 {seen}")
    assert observe_application.fn(profile).running is False
    start_application.fn(profile)
    stop_application.fn(profile)
    assert observe_application.fn(profile).detail == "PM2 says of crashes: 1 stopped"


def test_what_pm2_was_starting_when_it_was_stopped_does_not_come_back_after_its_delay(
    own_app: Callable[..., ServiceProfile],
) -> None:
    """PM2 7 calls it online when it is ready, though it was told to stop it, and puts off a restart then."""
    profile = own_app("returns", RETURNS, wait_ready=True, restart_delay=2500, kill_timeout=5000)
    wait_until(lambda: observe_application.fn(profile).detail == "PM2 says of returns: 1 launching")
    stop_application.fn(profile)
    time.sleep(3)
    assert observe_application.fn(profile).detail == "PM2 says of returns: 1 stopped"


def test_a_child_that_outlives_the_stop_is_killed(
    own_app: Callable[..., ServiceProfile], tmp_path: Path
) -> None:
    profile = own_app("stubborn", STUBBORN)
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    child = int((tmp_path / "child").read_text())
    assert not is_gone(child)
    stop_application.fn(profile)
    assert is_gone(child)


def test_where_no_pm2_runs_none_is_started_among_the_workers_processes(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(()))
    monkeypatch.setenv("PM2_HOME", str(tmp_path))
    for act in (observe_application, stop_application, start_application, reload_application):
        with pytest.raises(UnreachableError, match="invoice: No PM2 runs on this host: start it"):
            act.fn(invoice)


def test_a_name_that_means_more_to_pm2_stops_nothing(sandbox: Sandbox, invoice: ServiceProfile) -> None:
    running = pids_of(sandbox, invoice)
    for name in ("all", "/invoice/", "0", "nobody"):
        with pytest.raises(ConfigurationError, match=f"invoice: PM2 does not know {name}: start it once"):
            stop_application.fn(changed(invoice, process_name=name))
    assert pids_of(sandbox, invoice) == running


@pytest.mark.parametrize("act", [observe_application, stop_application, start_application])
def test_a_process_manager_that_is_not_there_is_named(
    act: Any, invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = changed(invoice, process_manager_program=tmp_path / "pm2")
    with pytest.raises(ConfigurationError, match=f"{tmp_path / 'pm2'} is no program: install PM2"):
        act.fn(absent)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"pm2 is not on the worker's PATH: install PM2 .*program\."):
        act.fn(changed(invoice, process_manager_program=None))
    with pytest.raises(ConfigurationError, match="systemctl is not on the worker's PATH"):
        act.fn(changed(invoice, process_manager_program=None, process_manager="systemd"))
    with pytest.raises(ConfigurationError, match="sc is not on the worker's PATH"):
        act.fn(changed(invoice, process_manager_program=None, process_manager="windows"))


def test_a_pm2_that_answers_nonsense_is_an_error_without_what_it_said(
    invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM2_HOME", str(tmp_path))
    program = tmp_path / "pm2"
    program.write_text("""#!/bin/sh\necho '[{"name": "invoice-backend", "secret": "hunter2"}]'\n""")
    program.chmod(0o700)
    with pytest.raises(UnreachableError) as raised:
        observe_application.fn(changed(invoice, process_manager_program=program))
    assert str(raised.value) == ("invoice: pm2 jlist gave no list: see PM2's own log, pm2.log in its home.")


def test_what_pm2_resurrected_as_stopped_hides_nothing_and_what_it_is_about_to_start_again_is_not_stopped(
    invoice: ServiceProfile, tmp_path: Path
) -> None:
    # As PM2 7 lists it after pm2 save, kill and resurrect: without any "pid".
    rests = {"name": "rests", "pm_id": 0, "pm2_env": {"status": "stopped"}, "monit": {"memory": 0}}
    runs = {"name": "runs", "pm_id": 1, "pid": 12, "pm2_env": {"status": "online"}}
    # As PM2 7 lists one that was killed, until it has started it again.
    returns = {"name": "returns", "pm_id": 2, "pid": 13, "pm2_env": {"status": "stopped"}}
    told_of_no_more = {"name": "another's"}
    program = tmp_path / "pm2"
    listed = json.dumps([rests, told_of_no_more, runs, returns])
    program.write_text(f"#!/bin/sh\necho {shlex.quote(listed)}\n")
    program.chmod(0o700)
    for name, status in (("rests", "stopped"), ("runs", "online"), ("returns", "waiting restart")):
        profile = changed(invoice, process_name=name, process_manager_program=program)
        assert observe_application.fn(profile).detail == f"PM2 says of {name}: 1 {status}"


def test_one_that_pm2_starts_again_while_it_is_stopped_is_stopped_until_it_stays_so(
    invoice: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PM2 7 forgets a stop between the end of a crashed process and the start of the next."""
    monkeypatch.setenv("PM2_HOME", str(tmp_path))
    said = [("online", 0, 3), ("stopped", 0, 4), ("online", 12, 4), ("stopped", 0, 4)]
    for number, (status, pid, restarts) in enumerate(said):
        listed = {"name": "invoice-backend", "pm_id": 7, "pid": pid}
        listed["pm2_env"] = {"status": status, "restart_time": restarts}
        (tmp_path / f"{number}.json").write_text(json.dumps([listed]))
    program = tmp_path / "pm2"
    program.write_text(
        f"""#!/bin/sh
cd {tmp_path}
if [ "$1" = jlist ]; then
    said=$(ls *.json | head -n 1)
    cat "$said"
    rm "$said"
else
    echo "$@" >> orders
fi
"""
    )
    program.chmod(0o700)
    manager_of(changed(invoice, process_manager_program=program)).stop()
    assert (tmp_path / "orders").read_text().splitlines() == ["stop 7", "stop 7", "stop 7"]


def write_program(path: Path, double: ModuleType, folder: Path) -> None:
    """Make a double of a program one that can be found on PATH."""
    words = shlex.join([sys.executable, str(double.__file__), str(folder)])
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o700)


class Units:
    """The units of a double of systemctl that stands first on PATH."""

    def __init__(self, folder: Path, profile: ServiceProfile) -> None:
        self.folder = folder
        self._profile = profile

    def add(self, name: str, source: str = "import time; time.sleep(600)", **more: Any) -> ServiceProfile:
        unit = {"command": [sys.executable, "-c", source], **more}
        (self.folder / f"{name}.json").write_text(json.dumps(unit))
        return self.profile(name)

    def profile(self, name: str) -> ServiceProfile:
        return changed(
            self._profile, process_manager="systemd", process_name=name, process_manager_program=None
        )

    def pid(self, name: str) -> int | None:
        pid: int | None = json.loads((self.folder / f"{name}.json").read_text()).get("pid")
        return pid


@pytest.fixture
def units(tmp_path: Path, invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch) -> Iterator[Units]:
    program = tmp_path / "bin" / "systemctl"
    write_program(program, systemctl, tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:{Path(str(shutil.which('sh'))).parent}")
    made = Units(tmp_path, invoice)
    yield made
    for file in tmp_path.glob("*.json"):
        if pid := made.pid(file.stem):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


def test_a_unit_is_stopped_and_started_as_often_as_one_likes(units: Units) -> None:
    profile = units.add("api")
    start_application.fn(profile)
    start_application.fn(profile)
    assert observe_application.fn(profile).detail == "systemd says of api: active (running)"
    pid = units.pid("api")
    assert pid is not None
    stop_application.fn(profile)
    stop_application.fn(profile)
    assert is_gone(pid)
    stopped = observe_application.fn(profile)
    assert (stopped.running, stopped.detail) == (False, "systemd says of api: inactive (dead)")


def test_a_unit_that_failed_too_often_is_forgiven_before_it_is_started(units: Units) -> None:
    profile = units.add("api", failed=True, result="start-limit-hit", starts=5)
    assert observe_application.fn(profile).detail == (
        "systemd says of api: failed (failed), result start-limit-hit"
    )
    start_application.fn(profile)
    assert observe_application.fn(profile).running is True


@pytest.mark.parametrize(
    ("result", "ended"),
    [
        ("start-limit-hit", "its process manager has given it up"),
        ("exit-code", "it failed and nothing starts it again"),
    ],
)
def test_nobody_waits_for_a_unit_that_nothing_will_start_again(
    result: str, ended: str, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.http_probe._LOOK_SECONDS", 0.1)
    failed = units.add("api", failed=True, result=result, starts=5)
    profile = changed(failed, health_url="http://127.0.0.1:1/", start_within=timedelta(seconds=60))
    with pytest.raises(UnreachableError, match=f"api does not start, {ended}; systemd says of api: failed"):
        await_health.fn(profile)


def test_a_unit_that_cannot_be_started_touched_or_found_is_an_error_that_says_so(units: Units) -> None:
    with pytest.raises(UnreachableError, match=r"systemctl start api failed \(exit code 1\): see journalctl"):
        start_application.fn(units.add("api", "raise SystemExit(1)"))
    with pytest.raises(AccessDeniedError, match="the worker may not stop theirs: allow"):
        stop_application.fn(units.add("theirs", denied=True))
    for act in (observe_application, start_application, stop_application):
        with pytest.raises(ConfigurationError, match=r"systemd cannot load a unit nobody \(not-found\)"):
            act.fn(units.profile("nobody"))


def test_what_a_unit_started_ends_with_it(units: Units, tmp_path: Path) -> None:
    left = tmp_path / "left"
    child = f"import subprocess, time; p = subprocess.Popen(['sleep', '600']); open({str(left)!r}, 'w').write"
    profile = units.add("api", f"{child}(str(p.pid)); time.sleep(600)")
    start_application.fn(profile)
    wait_until(lambda: left.exists() and left.read_text())
    stop_application.fn(profile)
    assert is_gone(int(left.read_text()))
