"""Measure the alert receiver: posts kept a second on one core, and how soon an alert is a run.

    python -m benchmarks.alerts [--posts 5000] [--rounds 10] [--intake-only]

For the intake, the receiver has one core and the senders another; each post is an alert of its own, kept on
the disk and synced before its answer, and no Prefect server is there. For the runs, a sandbox of the
benchmark's own with Prefect's server and one worker: an alert is posted, and what is compared is the time
until its run is created and until the triage begins, with the same through Prefect's event and an automation.
"""

import argparse
import contextlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console

from benchmarks.backup import Figure, tabulate
from benchmarks.outage import deployed_sandbox
from deployments.alerts.configuration import CONFIGURATION_VARIABLE
from deployments.alerts.trial import make_alert
from deployments.deploy import deploy
from deployments.sandbox.ports import Ports

_TOKEN: Final = "bench-token"
_RUNBOOK: Final = "outage-triage"
_SERVICE: Final = "invoice"
_EVENT: Final = "bench.alert"
_SENDERS: Final = 16
_NOWHERE: Final = "http://127.0.0.1:9/api"
_PATIENCE_SECONDS: Final = 180
_POLL_SECONDS: Final = 0.05
_MILLISECONDS: Final = 1000


@dataclass(frozen=True)
class Started:
    """Seconds from the alert to its run's creation, and to the run's first line."""

    to_created: float
    to_first_line: float


def main() -> None:
    """Measure the intake, then the way to a run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--intake-only", action="store_true", help="without a sandbox")
    options = parser.parse_args()
    console = Console(highlight=False)
    figures = measure_intake(options.posts)
    if not options.intake_only:
        with deployed_sandbox() as sandbox:
            environment = sandbox.client_environment()
            server = {
                PREFECT_API_URL: environment["PREFECT_API_URL"],
                PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
            }
            with temporary_settings(server), get_client(sync_client=True) as client:
                deploy(client)
                figures += measure_runs(console, client, environment, options.rounds)
    console.print(tabulate("The alert receiver, measured", figures))


@contextlib.contextmanager
def receiver(environment: Mapping[str, str], core: int | None = None) -> Generator[int]:
    """Run a receiver while the block runs, on one core if wanted; give its port."""
    port = Ports.free().prefect
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        document = {
            "listen": {"port": port},
            "state_directory": str(folder / "state"),
            "limits": {"posts_per_second": 1_000_000, "burst": 1_000_000},
            "sources": [{"name": "bench", "path": "alertmanager", "bearer": "env:BENCH_TOKEN"}],
            "routes": [
                {
                    "match": {"alertname": "bench"},
                    "service": _SERVICE,
                    "runbook": _RUNBOOK,
                    "parameters": {"dry_run": True},
                }
            ],
        }
        path = folder / "alerts.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.alerts", "serve"],
            env={**os.environ, **environment, CONFIGURATION_VARIABLE: str(path), "BENCH_TOKEN": _TOKEN},
            stderr=subprocess.DEVNULL,
        )
        try:
            _await(lambda: _is_healthy(port), "the receiver")
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            yield port
        finally:
            process.terminate()
            process.wait()


def measure_intake(posts: int) -> list[Figure]:
    """Return what one core costs a post, and the slowest hundredth of the answers."""
    cores = sorted(os.sched_getaffinity(0))
    with receiver({"PREFECT_API_URL": _NOWHERE}, cores[0]) as port, ProcessPoolExecutor(1) as other:
        other.submit(send, port, posts // 10, cores[-1]).result()
        began = time.monotonic()
        waits = other.submit(send, port, posts, cores[-1]).result()
        took = time.monotonic() - began
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    commits = re.findall(r"^alert_receiver_commits_total (\d+)", metrics, re.MULTILINE)[0]
    worst = statistics.quantiles(waits, n=100)[98] * _MILLISECONDS
    each = took / posts * _MILLISECONDS
    detail = (
        f"{posts / took:.0f} posts kept a second by one core; {posts * 11 // 10} posts, {commits} commits"
    )
    return [
        Figure("a post, milliseconds of one core", each, 5, detail),
        Figure("a post's answer, 99th percentile, milliseconds", worst, 100, f"{_SENDERS} senders at once"),
    ]


def send(port: int, posts: int, core: int) -> list[float]:
    """Post alerts, each another one, over connections that stay; return how long each answer took."""
    os.sched_setaffinity(0, {core})
    share = posts // _SENDERS
    with ThreadPoolExecutor(_SENDERS) as senders:
        waits = senders.map(lambda _: _send_share(port, share), range(_SENDERS))
        return [wait for of_one in waits for wait in of_one]


def _send_share(port: int, posts: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    waits = []
    for _ in range(posts):
        body = make_alert(uuid.uuid4().hex, datetime.now(UTC), {"alertname": "bench"}, "firing", "x")
        began = time.monotonic()
        connection.request("POST", "/alertmanager", body, _headers())
        answer = connection.getresponse()
        answer.read()
        waits.append(time.monotonic() - began)
        if answer.status != http.HTTPStatus.ACCEPTED:
            raise SystemExit(f"The receiver answered {answer.status}.")
    connection.close()
    return waits


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "Authorization": f"Bearer {_TOKEN}"}


def measure_runs(
    console: Console, client: SyncPrefectClient, environment: Mapping[str, str], rounds: int
) -> list[Figure]:
    """Compare the way of an alert through the receiver with that of an event through an automation."""
    deployment = client.read_deployment_by_name(f"{_RUNBOOK}/{_SERVICE}").id
    by_alert, by_event = [], []
    with receiver(environment) as port, automation(client, deployment):
        for number in range(1, rounds + 1):
            by_alert.append(time_run(client, deployment, lambda: post_alert(port)))
            by_event.append(time_run(client, deployment, lambda: post_event(client)))
            console.print(
                f"round {number}: alert {by_alert[-1].to_created:.2f} s, first line "
                f"{by_alert[-1].to_first_line:.2f} s; event {by_event[-1].to_created:.2f} s, first line "
                f"{by_event[-1].to_first_line:.2f} s"
            )
    return [
        _beside(
            "alert to run created",
            [run.to_created for run in by_alert],
            [run.to_created for run in by_event],
            1,
        ),
        _beside(
            "alert to first line of the triage",
            [run.to_first_line for run in by_alert],
            [run.to_first_line for run in by_event],
            10,
        ),
    ]


def _beside(name: str, ours: Sequence[float], events: Sequence[float], limit: float) -> Figure:
    detail = f"through an event and an automation: {statistics.median(events):.2f} s"
    return Figure(f"{name}, seconds", statistics.median(ours), limit, detail)


def post_alert(port: int) -> None:
    """Post a new alert."""
    body = make_alert(uuid.uuid4().hex, datetime.now(UTC), {"alertname": "bench"}, "firing", "x")
    url = f"http://127.0.0.1:{port}/alertmanager"
    httpx.post(url, content=body, headers=_headers(), timeout=30).raise_for_status()


def post_event(client: SyncPrefectClient) -> None:
    """Send the event that the automation waits for."""
    event = {
        "id": str(uuid.uuid4()),
        "event": _EVENT,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"bench.{uuid.uuid4().hex}"},
    }
    _exchange(client, "POST", "/events", [event])


@contextlib.contextmanager
def automation(client: SyncPrefectClient, deployment: UUID) -> Generator[None]:
    """Have Prefect start the triage for each event while the block runs."""
    made = _exchange(
        client,
        "POST",
        "/automations/",
        {
            "name": "bench",
            "trigger": {"type": "event", "posture": "Reactive", "expect": [_EVENT], "threshold": 1},
            "actions": [
                {
                    "type": "run-deployment",
                    "deployment_id": str(deployment),
                    "parameters": {"service": _SERVICE, "dry_run": True},
                }
            ],
        },
    ).json()
    try:
        yield
    finally:
        _exchange(client, "DELETE", f"/automations/{made['id']}")


def time_run(client: SyncPrefectClient, deployment: UUID, send_it: Callable[[], None]) -> Started:
    """Send an alert, wait until its run has ended, and return what came when."""
    before = {run.id for run in _newest(client, deployment)}
    sent = datetime.now(UTC)
    send_it()
    found: list[FlowRun] = []

    def is_there() -> bool:
        found[:] = [run for run in _newest(client, deployment) if run.id not in before]
        return bool(found and found[0].end_time)

    _await(is_there, "the run")
    (run,) = found
    return Started(_since(sent, run.created), _since(sent, run.start_time))


def _since(sent: datetime, moment: datetime | None) -> float:
    if moment is None:
        raise SystemExit("Prefect did not record when the run began.")
    return (moment - sent).total_seconds()


def _newest(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    only = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    return client.read_flow_runs(flow_run_filter=only, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=200)


def _exchange(client: SyncPrefectClient, method: str, path: str, body: Any = None) -> httpx.Response:
    with httpx.Client(
        base_url=str(client.api_url), auth=tuple(PREFECT_API_AUTH_STRING.value().split(":", 1)), timeout=30
    ) as plain:
        return plain.request(method, path, json=body).raise_for_status()


def _is_healthy(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).is_success
    return False


def _await(what: Callable[[], bool], called: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"Nothing came of {called} within {_PATIENCE_SECONDS} s.")
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
