"""Apply prefect.yaml and the automations: deploy what is there, delete what left, say what people paused.

``prefect deploy`` alone forgets deployments that are no longer in the file. A schedule that somebody paused
stays paused as long as the file gives it a slug and does not say ``active``; a test holds it to that.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException

from deployments.automations import apply_automations
from deployments.dead_runs import MANAGED

PROJECT = Path(__file__).parent.parent
_PAGE = 100


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
    _run_prefect_deploy()
    return [*_name_paused(client), *_delete_left(client), *_apply_automations(client)]


def _run_prefect_deploy() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeployError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _name_paused(client: SyncPrefectClient) -> Iterator[str]:
    for deployment in _read_deployments(client):
        for schedule in deployment.schedules:
            if not schedule.active:
                yield f"{_name(client, deployment)}: schedule {schedule.slug} stays paused."


def _delete_left(client: SyncPrefectClient) -> Iterator[str]:
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    wanted = {(entry["name"], entry["entrypoint"]) for entry in document["deployments"]}
    for deployment in _read_deployments(client):
        if MANAGED in deployment.tags and (deployment.name, deployment.entrypoint) not in wanted:
            name = _name(client, deployment)
            client.delete_deployment(deployment.id)
            yield f"{name} is no longer in prefect.yaml: deleted."


def _apply_automations(client: SyncPrefectClient) -> list[str]:
    managed = [found for found in _read_deployments(client) if MANAGED in found.tags]
    flows = {flow_id: client.read_flow(flow_id).name for flow_id in {found.flow_id for found in managed}}
    return apply_automations(client, flows, managed)


def _read_deployments(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """Yield all deployments, page by page, in the order of their names."""
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(limit=_PAGE, offset=len(found)):
        found += page
    yield from sorted(found, key=lambda deployment: deployment.name)


def _name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    return f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"


if __name__ == "__main__":
    sys.exit(main())
