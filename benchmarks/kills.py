"""Kill the parts of the engine with SIGKILL, each alone and all at once, and see that nothing is lost.

    python -m benchmarks.kills [--scenes flow,worker,server,receiver,all]

A sandbox of its own, with everything that is deployed, and the watch twice a minute as its timer starts it.
In each scene a run is at work and an alert is posted; then the part is killed, and started again as systemd
would. What is asked for: the run ends, as Crashed only if its own process was killed; every alert that was
taken has a run of its own, which ends; people are told; nothing goes on for ever. It takes 15 minutes.
"""

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console

from benchmarks.backup import Figure, tabulate
from benchmarks.outage import deployed_sandbox, start
from deployments.alerts.trial import make_alert
from deployments.deploy import deploy
from deployments.sandbox.stack import Sandbox

_SERVICE: Final = "invoice"
_LONG: Final = "profile-queries"
_WATCH_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 420
_DEAD_WITHIN_SECONDS: Final = 120
_OUTAGE_SECONDS: Final = 100
_RESTART_SECONDS: Final = 5
# The first heartbeat has come by then.
_HEARD_OF_SECONDS: Final = 10


@dataclass(frozen=True)
class Scene:
    """What is killed, how the run at work may end, and for how long the part is away."""

    kill: Callable[["Stage", FlowRun], None]
    ends: frozenset[str]
    minutes: float
    away_seconds: float
    people_are_told: bool


class Stage:
    """The engine under test, the alerts that were posted, and what people were sent."""

    def __init__(self, sandbox: Sandbox, client: SyncPrefectClient) -> None:
        self.sandbox, self.client = sandbox, client
        self.posted: list[str] = []

    def count_told(self) -> int:
        return sum(len(self.sandbox.vendors.read_kept(name)) for name in ("pager", "sendgrid"))

    def post_alert(self) -> None:
        """Post until the receiver takes it, as senders do."""
        name = uuid.uuid4().hex
        labels = {"alertname": "receiver-test", "service": _SERVICE}
        body = make_alert(name, datetime.now(UTC), labels, "firing", "A part of the engine dies")
        token = self.sandbox.vault.read("alertmanager-token")
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}

        def take() -> bool:
            try:
                url = f"{self.sandbox.receiver.url}/alertmanager"
                return httpx.post(url, content=body, headers=headers, timeout=10).is_success
            except httpx.HTTPError:
                return False

        await_it(take, "the receiver")
        self.posted.append(name)

    def list_alert_runs(self) -> list[str]:
        """Return the run of each alert that has one; as many as alerts, and all different."""
        path = self.sandbox.receiver.configuration.parent / "state" / "alerts.sqlite"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT run_id FROM alerts WHERE state = 'started'").fetchall()
        return [run_id for (run_id,) in rows if run_id]

    def read(self, run_id: uuid.UUID) -> FlowRun | None:
        """Return a run, or None while the server is away."""
        try:
            return self.client.read_flow_run(run_id)
        except httpx.HTTPError:
            return None

    def is_terminal(self, run_id: uuid.UUID) -> bool:
        found = self.read(run_id)
        return found is not None and found.state is not None and found.state.is_final()

    def find_processes(self, run: FlowRun) -> list[psutil.Process]:
        return [
            process
            for process in self.sandbox.supervisor.marked()
            if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
        ]


def kill_flow(stage: Stage, run: FlowRun) -> None:
    for process in stage.find_processes(run):
        process.kill()


def kill_worker(stage: Stage, _run: FlowRun) -> None:
    """Kill the worker's own process; the flow that it started lives on."""
    process = stage.sandbox.supervisor.process(stage.sandbox.prefect_worker.name)
    if process is not None:
        os.kill(process.pid, signal.SIGKILL)


def kill_server(stage: Stage, _run: FlowRun) -> None:
    stage.sandbox.prefect_server.kill()


def kill_receiver(stage: Stage, _run: FlowRun) -> None:
    stage.sandbox.receiver.kill()


def kill_all(stage: Stage, run: FlowRun) -> None:
    sandbox = stage.sandbox
    for part in (sandbox.prefect_worker, sandbox.prefect_server, sandbox.receiver):
        part.kill()
    kill_flow(stage, run)


_DIES: Final = frozenset({"CRASHED"})
_LIVES: Final = frozenset({"COMPLETED"})
_SCENES: Final = {
    "flow": Scene(kill_flow, _DIES, 3, 0, people_are_told=True),
    # What writes a line of log once nobody reads it any more is ended by Prefect.
    "worker": Scene(kill_worker, _DIES | _LIVES, 3, _OUTAGE_SECONDS, people_are_told=True),
    "server": Scene(kill_server, _LIVES, 3, _OUTAGE_SECONDS, people_are_told=True),
    "receiver": Scene(kill_receiver, _LIVES, 0.2, _RESTART_SECONDS, people_are_told=False),
    "all": Scene(kill_all, _DIES, 3, _RESTART_SECONDS, people_are_told=True),
}


def main() -> None:
    """Play the scenes one after the other, and print what came about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default=",".join(_SCENES), help="which, by name")
    scenes = parser.parse_args().scenes.split(",")
    console = Console(highlight=False)
    figures: list[Figure] = []
    with deployed_sandbox() as sandbox:
        environment = sandbox.client_environment()
        server = {
            PREFECT_API_URL: environment["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
        }
        with temporary_settings(server), get_client(sync_client=True) as client:
            deploy(client)
            stage = Stage(sandbox, client)
            with watching(sandbox):
                for name in scenes:
                    figures += play(console, stage, name, _SCENES[name])
                figures += conclude(stage)
    console.print(tabulate("Kills, measured", figures))


@contextmanager
def watching(sandbox: Sandbox) -> Generator[None]:
    """Let the watch look as its timer lets it while the block runs."""
    environment = {**os.environ, **sandbox.worker_environment(), **sandbox.client_environment()}
    over = threading.Event()

    def look() -> None:
        while not over.wait(_WATCH_SECONDS):
            command = [sys.executable, "-m", "deployments.watch", "engine"]
            subprocess.run(command, env=environment, capture_output=True, check=False)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def play(console: Console, stage: Stage, name: str, scene: Scene) -> list[Figure]:
    """Kill, start again, and return how long it took until the run was terminal and people were told."""
    run = start(stage.client, f"{_LONG}/{_SERVICE}", minutes=scene.minutes)
    await_it(lambda: is_at_work(stage, run), "the run's begin")
    told = stage.count_told()
    stage.post_alert()
    scene.kill(stage, run)
    killed = time.monotonic()
    time.sleep(scene.away_seconds)
    sandbox = stage.sandbox
    for part in (sandbox.prefect_server, sandbox.prefect_worker, sandbox.receiver):
        part.start()
    stage.post_alert()
    await_it(lambda: stage.is_terminal(run.id), f"the end of {name}'s run")
    ended_after = time.monotonic() - killed
    ended = stage.client.read_flow_run(run.id)
    said = f"{ended.state_name}: {(ended.state.message if ended.state else '') or ''}"
    console.print(f"{name}: {said} after {ended_after:.0f} s", soft_wrap=True)
    if ended.state_type is None or ended.state_type.value not in scene.ends:
        raise SystemExit(f"{name}: the run should have ended {' or '.join(sorted(scene.ends))}.")
    limit = _DEAD_WITHIN_SECONDS if scene.ends == _DIES else _PATIENCE_SECONDS
    figures = [Figure(f"{name} killed: to the run's end, seconds", ended_after, limit, said)]
    if scene.people_are_told:
        await_it(lambda: stage.count_told() > told, f"people who are told of {name}")
        told_after = time.monotonic() - killed
        more = f"{stage.count_told() - told} messages"
        console.print(f"{name}: {more} within {told_after:.0f} s")
        figures.append(Figure(f"{name} killed: people told within, seconds", told_after, 240, more))
    # What comes next is to be told anew, and not joined to this.
    await_it(lambda: acknowledge(stage), "the acknowledgement")
    return figures


def is_at_work(stage: Stage, run: FlowRun) -> bool:
    found = stage.client.read_flow_run(run.id)
    if found.state_name != "Running" or found.start_time is None or not stage.find_processes(run):
        return False
    return (datetime.now(UTC) - found.start_time).total_seconds() > _HEARD_OF_SECONDS


def acknowledge(stage: Stage) -> bool:
    run = start(stage.client, f"acknowledge/{_SERVICE}", who="the benchmark")
    await_it(lambda: stage.is_terminal(run.id), "the run that acknowledges")
    return True


def conclude(stage: Stage) -> list[Figure]:
    """Return what is left over of all scenes: nothing, if all is well."""
    posted = len(stage.posted)
    await_it(lambda: len(stage.list_alert_runs()) == posted, "a run for each alert")
    runs = stage.list_alert_runs()
    await_it(lambda: all(stage.is_terminal(uuid.UUID(run)) for run in runs), "the ends of the alerts' runs")
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}})

    def is_quiet() -> bool:
        return not stage.client.read_flow_runs(flow_run_filter=wanted)

    await_it(is_quiet, "the end of every run")
    detail = f"{posted} alerts, {len(set(runs))} runs for them, all ended"
    return [Figure("alerts without a run of their own", posted - len(set(runs)), 0, detail)]


def await_it(what: Callable[[], bool], called: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"Nothing came of {called} within {_PATIENCE_SECONDS} s.")
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
