"""The runs of `make demo`: deploy, back up, drill, and the table at the end."""

import time
from collections.abc import Sequence
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deployments.deploy import DeployError, deploy
from deployments.sandbox.errors import SandboxError
from tasks.backup_sets import observe_repository
from tasks.errors import RunbookError
from tasks.profiles import load_service
from tasks.records.figures import say_bytes
from tasks.run_context import read_clock

SERVICES = ("invoice", "propertypulse")
_POLL_SECONDS = 0.3
_LONGEST_RUN_SECONDS = 600


def back_up_and_drill(console: Console) -> bool:
    """Deploy, back up and drill every service as the scheduler would; return whether all went well.

    Raises:
        SandboxError: prefect.yaml cannot be applied, a run does not end, or the engine went away.
    """
    try:
        with get_client(sync_client=True) as client:
            _deploy(client, console)
            console.rule("Last night, now: back up both systems")
            backed_up = _run_all(client, console, "nightly-backup")
            console.rule("Would they restore? Into scratch databases, compared with what was saved")
            drilled = _run_all(client, console, "restore-drill")
    except DeployError as error:
        raise SandboxError(str(error)) from error
    except (httpx.HTTPError, PrefectException) as error:
        raise SandboxError(
            f"The Prefect server went away or refuses ({type(error).__name__}):"
            " `make status` says what runs, `make demo` goes on."
        ) from error
    return backed_up and drilled


def show_newest(console: Console) -> None:
    """Show the newest backup of every service.

    Raises:
        SandboxError: a profile is wrong, or the store does not answer.
    """
    try:
        console.print(_tabulate())
    except RunbookError as error:
        raise SandboxError(str(error)) from error


def _deploy(client: SyncPrefectClient, console: Console) -> None:
    console.rule("Deployments")
    with console.status("applying prefect.yaml"):
        notes = deploy(client)
    for note in notes or ["prefect.yaml is applied."]:
        console.print(f"  {note}")


def _run_all(client: SyncPrefectClient, console: Console, runbook: str) -> bool:
    """Run a runbook for every service side by side; say in its own sentence how each ended."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        runs: dict[UUID, tuple[str, TaskID]] = {}
        for service in SERVICES:
            name = f"{runbook}/{service}"
            deployment = client.read_deployment_by_name(name)
            run = client.create_flow_run_from_deployment(deployment.id)
            runs[run.id] = (name, progress.add_task(name, total=None))
        return _watch(client, progress, runs)


def _watch(client: SyncPrefectClient, progress: Progress, runs: dict[UUID, tuple[str, TaskID]]) -> bool:
    passed = True
    deadline = time.monotonic() + _LONGEST_RUN_SECONDS
    while runs:
        for run_id, (name, bar) in list(runs.items()):
            state = client.read_flow_run(run_id).state
            if state is None or not state.is_final():
                progress.update(bar, description=f"{name}: {state.name if state else 'unknown'}")
                continue
            progress.update(bar, description=name, total=1, completed=1)
            mark = "[green]✓[/green]" if state.is_completed() else "[red]✗[/red]"
            progress.console.print(f"  {mark} {state.message}", soft_wrap=True)
            passed = passed and state.is_completed()
            del runs[run_id]
        if time.monotonic() > deadline:
            late = ", ".join(name for name, _ in runs.values())
            raise SandboxError(
                f"{late} did not end within {_LONGEST_RUN_SECONDS} s: see log/prefect-worker.log in the "
                "sandbox's folder."
            )
        time.sleep(_POLL_SECONDS)
    return passed


def _tabulate() -> Table:
    table = Table(
        title="The newest backup of each system",
        caption="parts: collections or tables; entries: documents or rows",
    )
    table.add_column("service")
    for heading in ("parts", "entries", "raw", "stored", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("verified how")
    for service in SERVICES:
        table.add_row(service, *_describe_newest(service))
    return table


def _describe_newest(service: str) -> Sequence[str]:
    state = observe_repository.fn(load_service.fn(service), read_clock.fn())
    if not state.sets:
        return "", "", "", "", "", "there is no backup"
    newest = max(state.sets, key=lambda found: found.created_at)
    return (
        f"{newest.parts:,}",
        f"{newest.entries:,}",
        say_bytes(newest.raw_bytes),
        say_bytes(newest.stored_bytes),
        f"{newest.seconds:.1f}",
        f"re-read {_said(newest.reread_passed)}, restored {_said(newest.drill_passed)}",
    )


def _said(verdict: bool | None) -> str:
    if verdict is None:
        return "not yet"
    return "✓" if verdict else "✗"
