"""Apply prefect.yaml and the automations: deploy what is there, delete what left, say what people paused.

``prefect deploy`` alone forgets deployments that are no longer in the file. A schedule that somebody paused
stays paused as long as the file gives it a slug and does not say ``active``; a test holds it to that.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Flow
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from deployments.applied import keep_applied, read_applied, take_fingerprints
from deployments.automations import apply_automations
from deployments.dead_runs import MANAGED
from deployments.prefect_api import UNKNOWN_SERVER

PROJECT = Path(__file__).parent.parent
_PAGE = 100
_REFUSED = {401, 403}


class DeployError(Exception):
    """The deployments could not be applied; the message says why."""


def main() -> int:
    """Apply the file; an error is one sentence on standard error and exit code 1."""
    if not PREFECT_API_URL.value():
        # Prefect would start a server of its own, deploy to that, and end it.
        sys.stderr.write(f"{UNKNOWN_SERVER}\n")
        return 1
    try:
        with get_client(sync_client=True) as client:
            for line in deploy(client):
                sys.stdout.write(f"{line}\n")
    except httpx.HTTPError as error:
        sys.stderr.write(f"{_describe(error)}\n")
        return 1
    except (DeployError, PrefectException, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _describe(error: httpx.HTTPError) -> str:
    if not isinstance(error, httpx.HTTPStatusError):
        return (
            f"The Prefect server does not answer ({type(error).__name__}): start it, or correct "
            "PREFECT_API_URL."
        )
    status = error.response.status_code
    if status in _REFUSED:
        return f"The Prefect server refuses the login ({status}): correct PREFECT_API_AUTH_STRING."
    return f"The Prefect server answered {status} to what was asked of it: see its log."


def deploy(client: SyncPrefectClient) -> list[str]:
    """Apply the file and return a line for everything that is not as the file alone would have it."""
    found = _read_deployments(client)
    if read_applied(client) != take_fingerprints(PROJECT, _managed(found)):
        _run_prefect_deploy()
        found = _read_deployments(client)
    flows = {flow.id: flow.name for flow in _read_flows(client)}
    left = _find_left(found)
    kept = [deployment for deployment in _managed(found) if deployment not in left]
    notes = [
        *_name_paused(flows, found),
        *_delete(client, flows, left),
        *apply_automations(client, flows, kept),
    ]
    keep_applied(client, take_fingerprints(PROJECT, kept))
    return notes


def _run_prefect_deploy() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeployError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _managed(found: Sequence[DeploymentResponse]) -> list[DeploymentResponse]:
    return [deployment for deployment in found if MANAGED in deployment.tags]


def _find_left(found: Sequence[DeploymentResponse]) -> list[DeploymentResponse]:
    """Return what is managed and no longer in the file."""
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    wanted = {(entry["name"], entry["entrypoint"]) for entry in document["deployments"]}
    return [one for one in _managed(found) if (one.name, one.entrypoint) not in wanted]


def _name_paused(flows: Mapping[UUID, str], found: Sequence[DeploymentResponse]) -> Iterator[str]:
    for deployment in found:
        for schedule in deployment.schedules:
            if not schedule.active:
                name = f"{flows[deployment.flow_id]}/{deployment.name}"
                yield f"{name}: schedule {schedule.slug} stays paused."


def _delete(
    client: SyncPrefectClient, flows: Mapping[UUID, str], left: Sequence[DeploymentResponse]
) -> Iterator[str]:
    for deployment in left:
        client.delete_deployment(deployment.id)
        yield f"{flows[deployment.flow_id]}/{deployment.name} is no longer in prefect.yaml: deleted."


def _read_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return all deployments, read page by page, in the order of their names."""
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(limit=_PAGE, offset=len(found)):
        found += page
    return sorted(found, key=lambda deployment: deployment.name)


def _read_flows(client: SyncPrefectClient) -> list[Flow]:
    found: list[Flow] = []
    while page := client.read_flows(limit=_PAGE, offset=len(found)):
        found += page
    return found


if __name__ == "__main__":
    sys.exit(main())
