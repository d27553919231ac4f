"""The automations as a Prefect server keeps them: made, made again, disabled by people, left behind."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID, uuid4

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState, DoNothing, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.server.events.schemas.automations import EventTrigger as ServerTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from deployments.automations import apply_automations, list_automations
from deployments.dead_runs import MANAGED, SILENT, list_for_all_runs
from tasks.approval import LATE_TAG

SERVICE = "bakery"
FOR_ALL_RUNS = {
    "Runs of which nothing is heard": ("RUNNING", SILENT),
    "Runs that died without a word": ("CRASHED", None),
    "Runs that do not get going": ("CRASHED", None),
    "Runs that are never done with being cancelled": ("CANCELLED", None),
    "Late runs that nobody answered": ("CANCELLED", "Skipped"),
}
FOR_THE_SERVICE = [
    f"{SERVICE}: a run died",
    f"{SERVICE}: a scheduled run did not start",
    f"{SERVICE}: a scheduled run failed",
]


@flow(name="escalate")
def call_people(service: str, reason: str) -> None:
    """Stand for the runbook of this name."""


@flow(name="bake")
def bake(service: str) -> None:
    """Be scheduled every night."""


@flow(name="look")
def look(service: str) -> None:
    """Be scheduled every minute."""


def deploy(client: SyncPrefectClient, made: Flow[..., None], cron: str | None) -> UUID:
    schedules = [DeploymentScheduleCreate(schedule=CronSchedule(cron=cron))] if cron else None
    return client.create_deployment(
        client.create_flow(made), SERVICE, tags=[MANAGED], schedules=schedules, paused=True
    )


class Server:
    """A Prefect server with three deployments of a service."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        deployed: list[tuple[Flow[..., None], str | None]] = [
            (call_people, None),
            (bake, "0 2 * * *"),
            (look, "* * * * *"),
        ]
        self.ids = {made.name: deploy(client, made, cron) for made, cron in deployed}

    @property
    def deployments(self) -> list[DeploymentResponse]:
        return [self.client.read_deployment(deployment_id) for deployment_id in self.ids.values()]

    @property
    def flows(self) -> dict[UUID, str]:
        return {found.flow_id: self.client.read_flow(found.flow_id).name for found in self.deployments}

    def apply(self) -> list[str]:
        return apply_automations(self.client, self.flows, self.deployments)

    @property
    def automations(self) -> dict[str, Automation]:
        return {found.name: found for found in self.client.read_automations(limit=200)}

    def remove(self) -> None:
        for automation in self.automations.values():
            self.client.delete_automation(automation.id)
        for deployment_id in self.ids.values():
            self.client.delete_deployment(deployment_id)


@pytest.fixture
def server(prefect_server: None) -> Iterator[Server]:
    with get_client(sync_client=True) as client:
        for left in client.read_automations(limit=200):
            client.delete_automation(left.id)
        made = Server(client)
        yield made
        made.remove()


def test_applying_again_changes_nothing_and_says_nothing(server: Server) -> None:
    assert server.apply() == []
    first = server.automations
    assert sorted(first) == sorted([*FOR_ALL_RUNS, *FOR_THE_SERVICE])
    assert server.apply() == []
    assert server.automations == first, "an automation that is written anew forgets what it was waiting for"


def test_what_people_disabled_stays_disabled_even_when_it_changes(server: Server) -> None:
    server.apply()
    name = FOR_THE_SERVICE[0]
    paused = server.automations[name]
    server.client.pause_automation(paused.id)
    assert server.apply() == [f"The automation '{name}' stays disabled."]

    old = paused.model_dump(exclude={"owner_resource"}) | {"description": "old", "enabled": False}
    server.client.update_automation(paused.id, AutomationCore.model_validate(old))
    assert server.automations[name].description == "old"
    assert server.apply() == [f"The automation '{name}' stays disabled."]
    assert server.automations[name].description != "old"
    assert not server.automations[name].enabled
    assert all(found.enabled for found in server.automations.values() if found.name != name)


def test_what_is_no_longer_wanted_is_deleted_and_what_others_made_stays(server: Server) -> None:
    for name, tags in (("bakery: sold", [MANAGED]), ("by hand", [])):
        server.client.create_automation(
            AutomationCore(name=name, tags=tags, trigger=EventTrigger(expect={"x.y"}), actions=[DoNothing()])
        )
    assert server.apply() == ["The automation 'bakery: sold' is no longer wanted: deleted."]
    assert sorted(server.automations) == sorted([*FOR_ALL_RUNS, *FOR_THE_SERVICE, "by hand"])


def test_an_escalation_that_dies_calls_no_escalation(server: Server) -> None:
    server.apply()
    trigger = server.automations[f"{SERVICE}: a run died"].trigger
    assert isinstance(trigger, EventTrigger)
    watched = trigger.model_dump()["match_related"]["prefect.resource.id"]
    assert watched == sorted(f"prefect.deployment.{server.ids[name]}" for name in ("bake", "look"))


def test_only_what_is_scheduled_for_an_hour_calls_people_when_it_is_late(server: Server) -> None:
    for automation in list_automations(server.flows, server.deployments):
        if "scheduled" in automation.name:
            related = automation.trigger.model_dump()["match_related"]
            assert related["prefect.resource.id"] == [f"prefect.deployment.{server.ids['bake']}"]


def test_runs_are_ended_and_people_are_called_by_their_own_services_ladder(server: Server) -> None:
    for automation in list_automations(server.flows, server.deployments):
        (action,) = automation.actions
        if automation.name in FOR_ALL_RUNS:
            assert isinstance(action, ChangeFlowRunState)
            assert (action.state.value, action.name) == FOR_ALL_RUNS[automation.name]
        else:
            assert isinstance(action, RunDeployment)
            assert action.deployment_id == server.ids["escalate"]
            assert action.parameters is not None
            assert action.parameters["service"] == SERVICE


def test_a_run_that_waits_for_a_person_is_not_taken_for_dead(server: Server) -> None:
    for automation in list_automations(server.flows, server.deployments):
        trigger = automation.trigger
        assert isinstance(trigger, EventTrigger)
        if automation.name in FOR_ALL_RUNS and trigger.posture is Posture.Proactive:
            assert {"prefect.flow-run.Suspended", "prefect.flow-run.Paused"} <= trigger.expect
            assert "prefect.flow-run.AwaitingConcurrencySlot" in trigger.expect


def test_a_run_is_dead_only_when_the_server_missed_it_twice_and_lived_meanwhile() -> None:
    """After an outage the server misses all heartbeats at once: what it then doubts has time for another."""
    doubted, ended = (automation.trigger for automation in islice(list_for_all_runs(), 2))
    assert isinstance(doubted, EventTrigger)
    assert isinstance(ended, EventTrigger)
    assert ended.after == {f"prefect.flow-run.{SILENT}"}
    assert "prefect.flow-run.heartbeat" in ended.expect
    assert min(doubted.within, ended.within) > timedelta(seconds=30) + timedelta(seconds=10)
    assert doubted.within + ended.within < timedelta(seconds=120) - timedelta(seconds=20)


def test_only_a_late_run_that_nobody_answered_is_skipped_and_no_other_failed_one() -> None:
    (automation,) = (found for found in list_for_all_runs() if found.name == "Late runs that nobody answered")
    trigger = ServerTrigger.model_validate(automation.trigger.model_dump())

    def covers(message: str, *tags: str) -> bool:
        return trigger.covers(
            ReceivedEvent.model_validate(
                {
                    "id": uuid4(),
                    "occurred": datetime.now(UTC),
                    "event": "prefect.flow-run.Failed",
                    "resource": {
                        "prefect.resource.id": f"prefect.flow-run.{uuid4()}",
                        "prefect.state-message": message,
                    },
                    "related": [
                        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
                        for tag in tags
                    ],
                }
            )
        )

    unanswered = "The flow was paused and never resumed."
    assert covers(unanswered, "managed", LATE_TAG)
    assert not covers(unanswered, "managed")
    assert not covers("invoice: no space left.", "managed", LATE_TAG)
