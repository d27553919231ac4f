"""Apply prefect.yaml: deploy what is in it, delete what left it, and leave paused what an operator paused.

``prefect deploy`` alone switches every schedule of the file on again and forgets what is no longer in it.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException

PROJECT = Path(__file__).parent.parent
# Marks the deployments that this file may delete again.
MANAGED = "managed"


class DeployError(Exception):
    """The deployments could not be applied; the message says why."""


def main() -> int:
    """Apply the file; an error is one sentence on standard error and exit code 1."""
    try:
        with get_client(sync_client=True) as client:
            for line in deploy(client):
                sys.stdout.write(f"{line}\n")
    except (DeployError, PrefectException, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def deploy(client: SyncPrefectClient) -> list[str]:
    """Apply the file and return a line for everything that is not as the file alone would have it."""
    paused = _find_paused(client)
    _run_prefect_deploy()
    return [*_pause_again(client, paused), *_delete_left(client, _names_in_file())]


def _run_prefect_deploy() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeployError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _find_paused(client: SyncPrefectClient) -> set[tuple[UUID, str]]:
    """Return what an operator switched off: deployment and schedule, by the schedule's slug."""
    return {
        (deployment.id, schedule.slug)
        for deployment in client.read_deployments(limit=200)
        for schedule in deployment.schedules
        if not schedule.active and schedule.slug
    }


def _pause_again(client: SyncPrefectClient, paused: set[tuple[UUID, str]]) -> Iterable[str]:
    for deployment in client.read_deployments(limit=200):
        for schedule in deployment.schedules:
            if schedule.active and (deployment.id, schedule.slug or "") in paused:
                client.update_deployment_schedule(deployment.id, schedule.id, active=False)
                yield f"{deployment.name}: schedule {schedule.slug} stays paused."


def _delete_left(client: SyncPrefectClient, wanted: set[tuple[str, str]]) -> Iterable[str]:
    for deployment in client.read_deployments(limit=200):
        if MANAGED in deployment.tags and _identity(deployment) not in wanted:
            client.delete_deployment(deployment.id)
            yield f"{deployment.name} ({deployment.entrypoint}) is no longer in prefect.yaml: deleted."


def _identity(deployment: DeploymentResponse) -> tuple[str, str]:
    return deployment.name, deployment.entrypoint or ""


def _names_in_file() -> set[tuple[str, str]]:
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    return {(entry["name"], entry["entrypoint"]) for entry in document["deployments"]}


if __name__ == "__main__":
    sys.exit(main())
