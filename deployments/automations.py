"""What the Prefect server does by itself: end runs that died without a word, and call people.

:mod:`deployments.dead_runs` has those for all runs; here are those of each service, and how all are applied.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture

from deployments.dead_runs import ENDED, MANAGED, PENDING, WAITING, for_runs, list_for_all_runs, name_events

CALLED: Final = frozenset({"escalate", "acknowledge"})
NOT_STARTED: Final = timedelta(minutes=15)
_PAGE: Final = 100


def apply_automations(
    client: SyncPrefectClient, flows: dict[UUID, str], deployments: Sequence[DeploymentResponse]
) -> list[str]:
    """Make the server's automations what they are here; return a line for each that is not so.

    Args:
        client: the server.
        flows: the name of each flow by its id.
        deployments: all that are managed.
    """
    wanted = {automation.name: automation for automation in list_automations(flows, deployments)}
    found = {automation.name: automation for automation in _read_managed(client)}
    for name, automation in wanted.items():
        if name not in found:
            client.create_automation(automation)
        elif _differs(found[name], automation):
            kept = automation.model_copy(update={"enabled": found[name].enabled})
            client.update_automation(found[name].id, _all_set(kept))
    return [*_delete_left(client, wanted, found), *_name_disabled(wanted, found)]


def list_automations(
    flows: dict[UUID, str], deployments: Sequence[DeploymentResponse]
) -> Iterator[AutomationCore]:
    """Yield every automation: those for all runs, and for each service those that call its people."""
    yield from list_for_all_runs()
    for people in deployments:
        if flows[people.flow_id] == "escalate":
            own = [
                deployment
                for deployment in deployments
                if deployment.name == people.name and flows[deployment.flow_id] not in CALLED
            ]
            yield from _call_people(people, own)


def _call_people(people: DeploymentResponse, own: Sequence[DeploymentResponse]) -> Iterator[AutomationCore]:
    service = people.name
    nightly = [deployment for deployment in own if _has_days(deployment)]
    yield for_runs(
        f"{service}: a run died",
        "Somebody is told of every run that ended as Crashed.",
        EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_of(own),
            expect=name_events({"Crashed"}),
            posture=Posture.Reactive,
        ),
        _escalate(people, "died; see its state and its worker's log"),
    )
    yield for_runs(
        f"{service}: a scheduled run failed",
        "Somebody is told when what runs once a day or less fails.",
        EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_of(nightly),
            expect=name_events({"Failed", "TimedOut"}),
            posture=Posture.Reactive,
        ),
        _escalate(people, "failed; see its state"),
    )
    yield for_runs(
        f"{service}: a scheduled run did not start",
        f"Somebody is told when what runs once a day or less is {NOT_STARTED.seconds // 60} min late.",
        EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_of(nightly),
            for_each={"prefect.resource.id"},
            after=name_events({"Late"}),
            expect=name_events({"Running", *PENDING, *ENDED, *WAITING}),
            posture=Posture.Proactive,
            within=NOT_STARTED,
        ),
        _escalate(people, "did not start in time; see the pool, its queue and the worker"),
    )


def _escalate(people: DeploymentResponse, what: str) -> RunDeployment:
    reason = f"{{{{ flow.name }}}}/{{{{ deployment.name }}}}: run {{{{ flow_run.name }}}} {what}."
    return RunDeployment(
        deployment_id=people.id,
        parameters={
            "service": people.name,
            "reason": {"__prefect_kind": "jinja", "template": reason},
        },
    )


def _has_days(deployment: DeploymentResponse) -> bool:
    """Tell whether it is scheduled for certain hours: what runs more often is watched by its next run."""
    crons = [item.schedule.cron for item in deployment.schedules if isinstance(item.schedule, CronSchedule)]
    return any(all(part.isdigit() for part in cron.split()[:2]) for cron in crons)


def _of(deployments: Sequence[DeploymentResponse]) -> dict[str, Any]:
    ids = sorted(f"prefect.deployment.{deployment.id}" for deployment in deployments)
    return {"prefect.resource.role": "deployment", "prefect.resource.id": ids}


def _read_managed(client: SyncPrefectClient) -> list[Automation]:
    found: list[Automation] = []
    while page := client.read_automations(limit=_PAGE, offset=len(found)):
        found += page
    return [automation for automation in found if MANAGED in automation.tags]


def _differs(found: Automation, wanted: AutomationCore) -> bool:
    fields = {"description", "trigger", "actions"}
    return found.model_dump(include=fields) != wanted.model_dump(include=fields)


def _all_set(automation: AutomationCore) -> AutomationCore:
    """Return it with every field said: Prefect's client sends only those, and the server wants all."""
    return AutomationCore.model_validate(automation.model_dump(exclude={"owner_resource"}))


def _delete_left(
    client: SyncPrefectClient, wanted: dict[str, AutomationCore], found: dict[str, Automation]
) -> Iterator[str]:
    for name in sorted(found.keys() - wanted.keys()):
        client.delete_automation(found[name].id)
        yield f"The automation '{name}' is no longer wanted: deleted."


def _name_disabled(wanted: dict[str, AutomationCore], found: dict[str, Automation]) -> Iterator[str]:
    for name in sorted(found.keys() & wanted.keys()):
        if not found[name].enabled:
            yield f"The automation '{name}' stays disabled."
