"""Let Prefect start what is left of a rotation when it is due: no run waits for days."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from tasks.errors import NotFoundError, RunbookError
from tasks.prefect_server import asking_prefect
from tasks.records.rotation import PARAMETERS, RUNBOOKS, OpenRotation
from tasks.records.service import ServiceProfile
from tasks.run_context import Run


@task(cache_policy=NO_CACHE, persist_result=False)
def schedule_rest(profile: ServiceProfile, run: Run, rotation: OpenRotation) -> str:
    """Given a rotation in grace, let its next stage be started when it is due; return that as a sentence.

    It raises nothing: the rotation is in force, and the credential report shows one that nobody finishes.
    """
    runbook, which = RUNBOOKS[rotation.credential], PARAMETERS.get(rotation.credential, {})
    moment = f"{rotation.due.astimezone(profile.zone):%Y-%m-%d %H:%M %Z}"
    by_hand = f"Start {runbook} again after {moment}: it then goes on to {rotation.stages[0].name}."
    if not run.deployed:
        return by_hand
    try:
        _start_at(profile, runbook, which, rotation)
    except RunbookError as error:
        return f"{by_hand} It could not be scheduled: {error}"
    return f"At {moment} it goes on by itself, to {rotation.stages[0].name}."


def _start_at(profile: ServiceProfile, runbook: str, which: dict[str, str], rotation: OpenRotation) -> None:
    name = f"{runbook}/{profile.name}"
    # By then it may be over, and nobody asked for another one.
    parameters: dict[str, Any] = {"service": profile.name, **which, "finish": rotation.rotation}
    with asking_prefect() as client:
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:
            raise NotFoundError(f"The Prefect server has no deployment {name}: run make deploy.") from None
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters=parameters,
            state=Scheduled(scheduled_time=rotation.due),
            idempotency_key=f"{rotation.rotation}:{rotation.stages[0].name}:{rotation.due.isoformat()}",
        )
