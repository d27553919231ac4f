"""Runs of the deployment ``escalate`` through Prefect's API: made for later, and called off."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Scheduled

from tasks.errors import NotFoundError, UnreachableError
from tasks.prefect_server import asking_prefect
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

DEPLOYMENT: Final = "escalate"
_AGAIN: Final = "again:"
_LIVING: Final = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]


def start_escalate(
    service: str,
    parameters: dict[str, Any],
    key: str,
    *,
    tags: tuple[str, ...] = (),
    at: datetime | None = None,
) -> UUID:
    """Given parameters and when, return the run of ``escalate``; the same key means the same run.

    Raise ``UnreachableError`` if the Prefect server does not answer, ``NotFoundError`` if it does not have
    the deployment.
    """
    name = f"{DEPLOYMENT}/{service}"
    with asking_prefect() as client:
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:
            raise NotFoundError(f"The Prefect server has no deployment {name}: run make deploy.") from None
        return client.create_flow_run_from_deployment(
            deployment.id,
            parameters=parameters,
            state=Scheduled(scheduled_time=at) if at is not None else None,
            idempotency_key=key,
            tags=tags,
        ).id


@retried
def schedule_level(profile: ServiceProfile, escalation: str, level: str, at: datetime) -> None:
    """Given the level that is told next and when, make that run now, so that no kill can end the ladder.

    A run that was made before stays the only one. Raise ``UnreachableError`` if the Prefect server does not
    answer, ``NotFoundError`` if it does not have the deployment.
    """
    parameters = {"service": profile.name, "escalation": escalation, "level": level}
    key = f"escalation:{escalation}:{level}"
    start_escalate(profile.name, parameters, key, tags=(_tag(escalation),), at=at)


@retried
def schedule_guard(profile: ServiceProfile, escalation: str, level: str, at: datetime) -> UUID:
    """Given the level that is about to be told and when that is over, return a run that looks then.

    It goes by the record: it gives the turn to the next level only if this one may not have been told. Raise
    ``UnreachableError`` if the Prefect server does not answer, ``NotFoundError`` if it does not have the
    deployment.
    """
    parameters = {"service": profile.name, "escalation": escalation}
    key = f"escalation:{escalation}:{level}:guard"
    return start_escalate(profile.name, parameters, key, tags=(_tag(escalation),), at=at)


@retried
def dismiss_guard(profile: ServiceProfile, guard: UUID) -> None:
    """Given the run that would have looked, cancel it: everybody was told.

    Raise ``UnreachableError`` if the Prefect server does not answer.
    """
    del profile
    with asking_prefect() as client:
        client.set_flow_run_state(guard, Cancelled(message="Everybody of the level was told."))


@retried
def observe_going_on(profile: ServiceProfile) -> frozenset[str]:
    """Given a service, return ``list_going_on``; raise ``UnreachableError`` also if no server is known."""
    if not has_server():
        raise UnreachableError("No Prefect server is known here: set PREFECT_API_URL.")
    return list_going_on(profile.name)


def list_going_on(service: str) -> frozenset[str]:
    """Given a service, return the ids of the escalations that runs work on or wait for.

    An empty one stands for a run that names none: it begins one, or goes on with the one that is open. Raise
    ``UnreachableError`` if the Prefect server does not answer.
    """
    living = FlowRunFilter.model_validate({"state": {"type": {"any_": _LIVING}}})
    with asking_prefect() as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[DEPLOYMENT])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[service])),
            flow_run_filter=living,
        )
    return frozenset(str(flow_run.parameters.get("escalation", "")) for flow_run in found)


def resume_ladder(service: str, escalation: str, key: str) -> None:
    """Given an escalation with which no run goes on, start one; the same key means the same run.

    Raise ``UnreachableError`` if the Prefect server does not answer, ``NotFoundError`` if it does not have
    the deployment.
    """
    parameters = {"service": service, "escalation": escalation}
    start_escalate(service, parameters, key, tags=(_tag(escalation),))


@retried
def call_off_levels(profile: ServiceProfile, escalation: str, why: str) -> int:
    """Given an escalation that has ended, cancel the runs that still wait; return how many.

    Raise ``UnreachableError`` if the Prefect server does not answer: such a run then sees by itself that
    nobody is to be told.
    """
    del profile
    wanted = FlowRunFilter.model_validate(
        {"tags": {"all_": [_tag(escalation)]}, "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}
    )
    with asking_prefect() as client:
        waiting = client.read_flow_runs(flow_run_filter=wanted)
        for flow_run in waiting:
            client.set_flow_run_state(flow_run.id, Cancelled(message=why), force=True)
    return len(waiting)


def start_again(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Start a run of ``escalate`` that died once more: it may have died before it made the next level's.

    The worker calls this. What the run did stands on the host, and is not done again.
    """
    del flow, state
    if not (flow_run.idempotency_key or "").startswith(_AGAIN):
        parameters = flow_run.parameters
        start_escalate(
            str(parameters["service"]), parameters, f"{_AGAIN}{flow_run.id}", tags=tuple(flow_run.tags)
        )


def has_server() -> bool:
    """Tell whether this process knows a Prefect server: a run from a shell need not."""
    return bool(PREFECT_API_URL.value())


def _tag(escalation: str) -> str:
    return f"escalation:{escalation}"
