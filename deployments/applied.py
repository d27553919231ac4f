"""What was applied last, so that what has not changed since, here or on the server, is not applied again.

To apply all deployments takes half a minute of two cores. Two fingerprints are kept in a Prefect variable: of
the files that decide what a deployment is, and of the deployments as the server had them then. Whoever
changes either, also in the UI, has all of them applied anew.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.responses import DeploymentResponse

VARIABLE: Final = "applied_deployments"
# A schedule that people paused is theirs, and the rest of a schedule's facts are the server's own.
_SCHEDULE: Final = {"schedules": {"__all__": {"slug", "schedule", "parameters", "max_scheduled_runs"}}}
_FIELDS: Final = {
    "id",
    "name",
    "flow_id",
    "description",
    "tags",
    "entrypoint",
    "path",
    "pull_steps",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "job_variables",
    "work_pool_name",
    "work_queue_name",
    "concurrency_options",
}


class Fingerprints(NamedTuple):
    """What decided what the deployments are, and what they are; SHA-256 in hexadecimal."""

    files: str
    deployments: str


def take_fingerprints(project: Path, deployments: Sequence[DeploymentResponse]) -> Fingerprints:
    """Given the project's folder and what the server has, return both fingerprints.

    A deployment has its parameters from the flow's signature, and its form from those of its types: any
    module may change them, and so may any package.
    """
    files = hashlib.sha256()
    sources = (path for folder in ("flows", "tasks") for path in (project / folder).rglob("*.py"))
    for path in [project / "prefect.yaml", project / "uv.lock", *sorted(sources)]:
        files.update(
            f"{path.relative_to(project)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode()
        )
    return Fingerprints(files.hexdigest(), _fingerprint(deployments))


def read_applied(client: SyncPrefectClient) -> Fingerprints | None:
    """Return the fingerprints of what was applied last, None if they are not known."""
    kept = client.read_variable_by_name(VARIABLE)
    match kept.value if kept is not None else None:
        case {"files": str(files), "deployments": str(deployments)}:
            return Fingerprints(files, deployments)
        case _:
            return None


def keep_applied(client: SyncPrefectClient, applied: Fingerprints) -> None:
    """Keep the fingerprints of what is applied now."""
    value = applied._asdict()
    if client.read_variable_by_name(VARIABLE) is None:
        client.create_variable(VariableCreate(name=VARIABLE, value=value))
    else:
        client.update_variable(VariableUpdate(name=VARIABLE, value=value))


def _fingerprint(deployments: Sequence[DeploymentResponse]) -> str:
    known = []
    for found in deployments:
        facts = found.model_dump(mode="json", include=_FIELDS)
        facts |= found.model_dump(mode="json", include=_SCHEDULE)
        limit = found.global_concurrency_limit
        known.append(facts | {"limit": limit.limit if limit else None})
    ordered = sorted(known, key=lambda facts: str(facts["id"]))
    return hashlib.sha256(json.dumps(ordered, sort_keys=True).encode()).hexdigest()
