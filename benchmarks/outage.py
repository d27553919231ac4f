"""Measure the triage of an outage: beside its slowest observation, beside a stock deployment, and to the end.

    python -m benchmarks.outage [--rounds 5] [--faults process-stopped,hanging,...]

A sandbox of the benchmark's own, with Prefect's server and one worker. A round makes a run of a stock
deployment, an empty flow as ``prefect deploy`` leaves it, waits for its end, and then a run of outage-triage,
on the same worker. What is compared is the time from the run's creation, to the empty flow's end and to the
report. Then the faults that may be remedied at once: each is broken by real means, and the service is asked
from outside until it is healthy again.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console

from benchmarks.backup import Figure, compare, end_in_order, tabulate
from deployments.deploy import deploy
from deployments.sandbox.engine import WORK_POOL
from deployments.sandbox.faults import break_fault
from deployments.sandbox.mending import mend
from deployments.sandbox.ports import Ports
from deployments.sandbox.profiles import write_profiles
from deployments.sandbox.stack import Sandbox
from tasks.profiles import read_profile

_FAULTS: Final = {
    "process-stopped": "invoice",
    "hanging": "invoice",
    "port-left-behind": "invoice",
    "connection-limit": "propertypulse",
    "database-locked": "propertypulse",
}
_SILENT: Final = "database-unreachable"
_EMPTY: Final = "from prefect import flow\n\n\n@flow\ndef empty():\n    pass\n"
_POLL_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 180


@dataclass(frozen=True)
class Triaged:
    """One run of outage-triage: seconds from its creation and its start to the report; its slowest part's."""

    created_to_report: float
    start_to_report: float
    slowest: float


def main() -> None:
    """Start a sandbox with its engine, deploy, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faults", default=",".join(_FAULTS), help="what to break, by name")
    options = parser.parse_args()
    console = Console(highlight=False)
    with deployed_sandbox() as sandbox:
        environment = sandbox.client_environment()
        server = {
            PREFECT_API_URL: environment["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
        }
        with temporary_settings(server), get_client(sync_client=True) as client:
            figures = measure_triage(console, client, sandbox, options.rounds)
            for fault in options.faults.split(","):
                figures.append(measure_recovery(console, client, sandbox, fault))
    console.print(tabulate("The triage of an outage, measured", figures))


@contextlib.contextmanager
def deployed_sandbox() -> Generator[Sandbox]:
    """Start a sandbox with its engine, apply prefect.yaml, and remove all of it afterwards."""
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        sandbox = Sandbox(Path(folder) / "s", Ports.free())
        try:
            sandbox.up()
            write_profiles(sandbox.state, sandbox.endpoints)
            os.environ |= sandbox.client_environment()
            os.environ["RUNBOOK_SERVICES"] = str(sandbox.state / "services")
            yield sandbox
        finally:
            sandbox.down()


def measure_triage(
    console: Console, client: SyncPrefectClient, sandbox: Sandbox, rounds: int
) -> list[Figure]:
    """Compare the triage with its slowest observation, and with an empty flow from a stock deployment."""
    deploy(client)
    stock = deploy_stock(client, sandbox)
    empty, healthy = [], []
    for number in range(1, rounds + 1):
        empty.append(_between(run := run_stock(client, stock), run.created, run.end_time))
        healthy.append(triage(client, "invoice"))
        console.print(
            f"round {number}: empty flow {empty[-1]:.1f} s, report {healthy[-1].created_to_report:.1f} s"
        )
    with broken(sandbox, _SILENT, "propertypulse"):
        silent = triage(client, "propertypulse")
    reference = statistics.median(empty)
    reports = [one.created_to_report for one in healthy]
    return [
        compare("creation to report, to an empty stock flow", reports, reference, 1.5, f"{reference:.1f} s"),
        *(_over_slowest(what, runs) for what, runs in (("healthy", healthy), (_SILENT, [silent]))),
    ]


def _over_slowest(what: str, runs: Sequence[Triaged]) -> Figure:
    took = statistics.median(run.start_to_report for run in runs)
    slowest = statistics.median(run.slowest for run in runs)
    return Figure(
        f"{what}: start to report beyond the slowest observation, seconds",
        took - slowest,
        1,
        f"{took:.2f} s; slowest {slowest:.2f} s, ratio {took / slowest:.2f}",
    )


def measure_recovery(console: Console, client: SyncPrefectClient, sandbox: Sandbox, fault: str) -> Figure:
    """Break, let an alert start the triage, and return how long it took until the service was healthy."""
    service = _FAULTS[fault]
    profile = read_profile(sandbox.state / "services" / f"{service}.yaml")
    (sandbox.state / "runbooks" / service / "remedies.jsonl").unlink(missing_ok=True)
    with broken(sandbox, fault, service):
        began = time.monotonic()
        run = start(client, f"outage-triage/{service}")
        healthy = _await_health(profile.application.health_url) - began
        ended = _await_end(client, run)
    said = ended.state.message if ended.state else ""
    if ended.state_name != "Completed":
        raise SystemExit(f"{fault} was not remedied: {said}")
    console.print(f"{fault}: healthy after {healthy:.1f} s; {said}", soft_wrap=True)
    proof = f"{ended.state_name}, {_between(ended, ended.created, ended.end_time):.1f} s with its proof"
    return Figure(f"{fault}: to healthy again, seconds", healthy, _PATIENCE_SECONDS, proof)


@contextlib.contextmanager
def broken(sandbox: Sandbox, fault: str, service: str) -> Generator[None]:
    """Break a service while the block runs."""
    try:
        break_fault(sandbox, fault, service)
        yield
    finally:
        mend(sandbox)


def deploy_stock(client: SyncPrefectClient, sandbox: Sandbox) -> str:
    """Deploy an empty flow as ``prefect deploy`` does when nothing is said; return its name."""
    folder = sandbox.state / "stock"
    folder.mkdir()
    (folder / "empty.py").write_text(_EMPTY, encoding="utf-8")
    client.create_deployment(
        client.create_flow_from_name("empty"),
        name="stock",
        work_pool_name=WORK_POOL,
        work_queue_name="invoice",
        entrypoint="empty.py:empty",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
    )
    return "empty/stock"


def run_stock(client: SyncPrefectClient, deployment: str) -> FlowRun:
    """Run it and return the ended run."""
    return _await_end(client, start(client, deployment))


def triage(client: SyncPrefectClient, service: str) -> Triaged:
    """Run outage-triage from its deployment, without a remedy, and return how long its report took."""
    run = _await_end(client, start(client, f"outage-triage/{service}", dry_run=True))
    only = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    pages = client.read_artifacts(flow_run_filter=only)
    shown = min(page.created for page in pages if page.created and "diagnosis" in str(page.key))
    return Triaged(
        created_to_report=_between(run, run.created, shown),
        start_to_report=_between(run, run.start_time, shown),
        slowest=_find_slowest(client, only),
    )


def _find_slowest(client: SyncPrefectClient, only: FlowRunFilter) -> float:
    """Return how long the slowest observation took; Prefect records task runs a moment after their end."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = client.read_task_runs(flow_run_filter=only)
        parts = [part for part in found if part.name.startswith("observe-")]
        times = [(part.end_time - part.start_time) for part in parts if part.end_time and part.start_time]
        if times and len(times) == len(parts):
            return max(times).total_seconds()
        time.sleep(_POLL_SECONDS)
    raise SystemExit("Prefect never recorded how long the observations took.")


def start(client: SyncPrefectClient, deployment: str, **parameters: object) -> FlowRun:
    """Make a run, as an alert does."""
    found = client.read_deployment_by_name(deployment)
    return client.create_flow_run_from_deployment(found.id, parameters={**found.parameters, **parameters})


def _await_end(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = client.read_flow_run(run.id)
        if found.state is not None and found.state.is_final() and found.end_time:
            return found
        time.sleep(_POLL_SECONDS)
    raise SystemExit(f"The run {run.name} did not end within {_PATIENCE_SECONDS} s.")


def _await_health(url: str) -> float:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).is_success:
                return time.monotonic()
        time.sleep(_POLL_SECONDS)
    raise SystemExit(f"{url} was not healthy again within {_PATIENCE_SECONDS} s.")


def _between(run: FlowRun, began: datetime | None, ended: datetime | None) -> float:
    if began is None or ended is None:
        raise SystemExit(f"Prefect did not record when {run.name} began or ended.")
    return (ended - began).total_seconds()


if __name__ == "__main__":
    main()
