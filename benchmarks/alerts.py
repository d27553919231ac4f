"""Measure the alert receiver: posts kept a second on one core, and how soon an alert is a run.

    python -m benchmarks.alerts [--posts 5000] [--rounds 10] [--intake-only]

For the intake, the receiver has one core and the senders another; each post is an alert of its own, kept on
the disk and synced before its answer, and no Prefect server is there. The reference is what an event costs
Prefect's own server, which answers before it keeps it. For the runs, a sandbox of the benchmark's own with
Prefect's server and one worker: an alert is posted, and what is compared is the time until its run is created
and until the triage begins, with the same through Prefect's event and an automation, in turns.
"""

import argparse
import base64
import contextlib
import http
import os
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console

from benchmarks.alert_intake import Intake, Target, event, make_event, measure, receiver, wait_until
from benchmarks.backup import Figure, tabulate
from benchmarks.outage import deployed_sandbox
from deployments.deploy import deploy
from deployments.sandbox.stack import Sandbox

_RUNBOOK: Final = "outage-triage"
_SERVICE: Final = "invoice"
_ROUTE: Final = {"service": _SERVICE, "runbook": _RUNBOOK, "parameters": {"dry_run": True}}
_EVENT: Final = "bench.alert"
_NOWHERE: Final = "http://127.0.0.1:9/api"
_SENDERS: Final = 2 * (os.cpu_count() or 1)
_CROWD: Final = 8 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class Started:
    """Seconds from the alert to its run's creation, and to the run's beginning."""

    to_created: float
    to_begun: float


def main() -> None:
    """Measure the intake, then the way to a run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--intake-only", action="store_true", help="without a sandbox")
    options = parser.parse_args()
    console = Console(highlight=False)
    with receiver({"PREFECT_API_URL": _NOWHERE}, _ROUTE) as target:
        calm = measure(target, options.posts, _SENDERS)
        crowded = measure(target, options.posts, _CROWD)
    figures = judge_intake(calm, crowded)
    if not options.intake_only:
        with deployed_sandbox() as sandbox:
            environment = sandbox.client_environment()
            server = {
                PREFECT_API_URL: environment["PREFECT_API_URL"],
                PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
            }
            with temporary_settings(server), get_client(sync_client=True) as client:
                events = measure(take_events(sandbox), options.posts // 5, _SENDERS)
                figures.append(judge_against_events(calm, events))
                deploy(client)
                figures += measure_runs(console, client, environment, options.rounds)
    console.print(tabulate("The alert receiver, measured", figures))


def judge_intake(calm: Intake, crowded: Intake) -> list[Figure]:
    """Return what a post costs one core, and the slowest hundredth of the answers."""
    each = f"{1000 / calm.processor:.0f} posts kept a second by one core"
    return [
        Figure("a post kept, milliseconds of one core", calm.processor, 5, each),
        *(
            Figure(
                f"a post's answer, 99th percentile, ms, {senders} senders",
                intake.worst,
                100,
                f"{intake.per_second:.0f} answers a second; a bare sync of the disk: {intake.disk:.0f} ms",
            )
            for senders, intake in ((_SENDERS, calm), (_CROWD, crowded))
        ),
    ]


def take_events(sandbox: Sandbox) -> Target:
    """Return Prefect's server as one that takes events."""
    environment = sandbox.client_environment()
    process = sandbox.supervisor.process(sandbox.prefect_server.name)
    if process is None:
        raise SystemExit("The Prefect server does not run.")
    login = base64.b64encode(environment["PREFECT_API_AUTH_STRING"].encode()).decode()
    return Target(
        port=urlsplit(environment["PREFECT_API_URL"]).port or 80,
        process=process.pid,
        path="/api/events",
        headers={"Content-Type": "application/json", "Authorization": f"Basic {login}"},
        status=http.HTTPStatus.NO_CONTENT,
        make_body=make_event,
    )


def judge_against_events(ours: Intake, events: Intake) -> Figure:
    """Compare a post that is kept with an event that Prefect's server takes."""
    return Figure(
        "a post kept, to an event taken by Prefect's server: processor, ratio",
        ours.processor / events.processor,
        1,
        f"event: {events.processor:.2f} ms, {events.per_second:.0f} a second, "
        f"99th percentile {events.worst:.0f} ms",
    )


def measure_runs(
    console: Console, client: SyncPrefectClient, environment: Mapping[str, str], rounds: int
) -> list[Figure]:
    """Compare the way of an alert through the receiver with that of an event through an automation."""
    deployment = client.read_deployment_by_name(f"{_RUNBOOK}/{_SERVICE}").id
    by_alert, by_event = [], []
    with receiver(environment, _ROUTE) as target, automation(client, deployment):
        for number in range(1, rounds + 1):
            by_alert.append(time_run(client, deployment, lambda: post_alert(target)))
            by_event.append(
                time_run(client, deployment, lambda: _exchange(client, "POST", "/events", [event(_EVENT)]))
            )
            console.print(f"round {number}: alert {_say(by_alert[-1])}; event {_say(by_event[-1])}")
    return [
        *_beside(
            "alert to run created",
            [run.to_created for run in by_alert],
            [run.to_created for run in by_event],
            1,
        ),
        *_beside(
            "alert to triage begun",
            [run.to_begun for run in by_alert],
            [run.to_begun for run in by_event],
            10,
        ),
    ]


def _say(started: Started) -> str:
    return f"{started.to_created:.2f} s, begun {started.to_begun:.2f} s"


def _beside(name: str, alerts: Sequence[float], events: Sequence[float], limit: float) -> list[Figure]:
    ours, reference = statistics.median(alerts), statistics.median(events)
    return [
        Figure(f"{name}, seconds", ours, limit, f"slowest {max(alerts):.2f} s of {len(alerts)}"),
        Figure(
            f"{name}, to the same through an event and an automation, ratio",
            ours / reference,
            1.1,
            f"{reference:.2f} s; slowest {max(events):.2f} s",
        ),
    ]


def post_alert(target: Target) -> None:
    """Post a new alert."""
    url = f"http://127.0.0.1:{target.port}{target.path}"
    httpx.post(url, content=target.make_body(), headers=dict(target.headers), timeout=30).raise_for_status()


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


def time_run(client: SyncPrefectClient, deployment: UUID, send_it: Callable[[], object]) -> Started:
    """Send an alert, wait until its run has ended, and return what came when."""
    before = {run.id for run in _newest(client, deployment)}
    sent = datetime.now(UTC)
    send_it()
    found: list[FlowRun] = []

    def is_there() -> bool:
        found[:] = [run for run in _newest(client, deployment) if run.id not in before]
        return bool(found and found[0].end_time)

    wait_until(is_there, "the run")
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


if __name__ == "__main__":
    main()
