"""Start runs by Prefect's API, and tell them of their alert's end.

By HTTP and not by Prefect's client: that would take seconds to import, at each start of the receiver.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from deployments.alerts.pending import Pending, Untold
from deployments.prefect_api import PrefectApi
from tasks.errors import RefusedError, UnreachableError

RESOLVED_KEY: Final = "alert-resolved"
_NOT_FOUND: Final = 404
_WORTH_ANOTHER_TRY: Final = {401, 403, 408, 429}
_SERVER_ERROR: Final = 500
_Read = TypeVar("_Read", bound=BaseModel)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Schema(_Answer):
    properties: dict[str, JsonValue] = {}


class _Deployment(_Answer):
    id: UUID
    parameter_openapi_schema: _Schema = _Schema()


class _State(_Answer):
    name: str
    type: str
    message: str | None = None


class _FlowRun(_Answer):
    id: UUID
    name: str
    state: _State


@dataclass(frozen=True)
class Run:
    """A run as Prefect has it."""

    id: str
    name: str
    state: str
    message: str
    is_final: bool


class PrefectRuns(PrefectApi):
    """Prefect's server, as far as the receiver needs it; every request has a time limit."""

    def start(self, pending: Pending) -> Run:
        """Given an alert, return its run: the same one however often this is called.

        Raise ``RefusedError`` if Prefect will never start it, ``UnreachableError`` if it may the next time.
        """
        name = f"{pending.runbook}/{pending.service}"
        deployment = _read(_Deployment, self._exchange("GET", f"/deployments/name/{name}"))
        known = set(deployment.parameter_openapi_schema.properties)
        # Prefect would take them, and the run would crash.
        if unknown := set(pending.parameters) - known:
            raise RefusedError(f"{name} has no parameter '{min(unknown)}'; it has {', '.join(sorted(known))}")
        body: dict[str, JsonValue] = {
            "idempotency_key": pending.key,
            "parameters": dict(pending.parameters),
            "tags": ["alert"],
        }
        return _read_run(self._exchange("POST", f"/deployments/{deployment.id}/create_flow_run", body))

    def tell_resolved(self, untold: Untold) -> None:
        """Give a run its input ``alert-resolved``; one that has it already, or is gone, needs nothing."""
        moment = datetime.fromtimestamp(untold.resolved_at, UTC).isoformat()
        value = json.dumps({"alert": untold.name, "resolved_at": moment})
        try:
            self._exchange("POST", f"/flow_runs/{untold.run_id}/input", {"key": RESOLVED_KEY, "value": value})
        except RefusedError:
            return

    def find(self, key: str) -> Run | None:
        """Given an alert's key, return its run if there is one."""
        found = self._exchange(
            "POST", "/flow_runs/filter", {"flow_runs": {"idempotency_key": {"any_": [key]}}, "limit": 1}
        )
        return _read_run(found[0]) if isinstance(found, list) and found else None

    def _exchange(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> JsonValue:
        try:
            answer = self._client.request(method, path, json=body)
            said: JsonValue = answer.json() if answer.content else None
        except (httpx.HTTPError, ValueError) as error:
            raise UnreachableError(
                f"Prefect's server does not answer ({type(error).__name__}): it is asked again"
            ) from None
        if answer.is_success:
            return said
        detail = str(said.get("detail", "")) if isinstance(said, dict) else ""
        if _is_final(answer.status_code, detail):
            raise RefusedError(f"Prefect says {answer.status_code} to {path}: {detail[:500]}")
        raise UnreachableError(f"Prefect's server says {answer.status_code}: it is asked again")


def _is_final(status: int, detail: str) -> bool:
    """Tell whether the same request would be refused again."""
    if status == _NOT_FOUND:
        # Anything else may stand at an address that is wrong, or come from a proxy.
        return detail.lower().startswith(("deployment", "flow run"))
    return status < _SERVER_ERROR and status not in _WORTH_ANOTHER_TRY


def _read_run(said: JsonValue) -> Run:
    run = _read(_FlowRun, said)
    is_final = run.state.type in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    return Run(str(run.id), run.name, run.state.name, run.state.message or "", is_final)


def _read(model: type[_Read], said: JsonValue) -> _Read:
    try:
        return model.model_validate(said)
    except ValidationError:
        raise UnreachableError(
            "What answers for Prefect's server speaks otherwise: it is asked again"
        ) from None
