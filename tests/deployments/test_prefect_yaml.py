"""prefect.yaml is what runs at night, and Prefect ignores what it does not know: every word is checked."""

import re
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL

from deployments.applied import read_applied, take_fingerprints
from deployments.dead_runs import MANAGED
from deployments.deploy import PROJECT, deploy
from tasks.profiles import list_services, read_profile
from tasks.records.service import ServiceProfile
from tests.thoroughness import WHOLE

SERVICES = PROJECT / "deployments" / "services"
DOCUMENT: dict[str, Any] = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = DOCUMENT["deployments"]
# What a profile names of them, the runbook rotates.
ROTATED = {
    "rotate-jwt-secret": ("jwt_secret",),
    "rotate-database-password": ("database_password",),
    "rotate-s3-credentials": ("s3",),
    "rotate-stripe-keys": ("stripe_key", "stripe_webhook_secret"),
    "rotate-sendgrid-key": ("sendgrid_key",),
}
EACH = pytest.mark.parametrize(
    "entry",
    DEPLOYMENTS,
    ids=[f"{entry['entrypoint'].rpartition('.')[2]}/{entry['name']}" for entry in DEPLOYMENTS],
)


def load_flow(entry: dict[str, Any]) -> Flow[..., Any]:
    return load_flow_from_entrypoint(entry["entrypoint"])


def test_the_file_has_only_keys_that_prefect_reads() -> None:
    known = {"name", "prefect-version", "build", "push", "pull", "definitions", "deployments"}
    assert set(DOCUMENT) == known


@EACH
def test_a_deployment_has_only_keys_that_prefect_reads(entry: dict[str, Any]) -> None:
    assert set(entry) <= set(DeploymentConfig.model_fields)
    assert set(entry["work_pool"]) == {"name", "work_queue_name", "job_variables"}
    for schedule in entry.get("schedules", []):
        assert set(schedule) <= {"slug", "cron", "timezone", "parameters"}, "active would undo a pause"


@EACH
def test_a_deployment_leads_to_a_flow_by_its_module(entry: dict[str, Any]) -> None:
    assert ":" not in entry["entrypoint"], "a path entrypoint would put flows/ before the libraries"
    assert isinstance(load_flow(entry), Flow)


@EACH
def test_a_deployments_parameters_are_those_of_its_flow(entry: dict[str, Any]) -> None:
    flow = load_flow(entry)
    assert set(flow.parameters.required) <= set(entry["parameters"])
    flow.validate_parameters(entry["parameters"])


@EACH
def test_a_parameter_is_explained_in_the_form(entry: dict[str, Any]) -> None:
    for name, schema in load_flow(entry).parameters.properties.items():
        assert schema.get("description"), f"{name} has no line under Args"


@EACH
def test_a_flows_docstring_is_the_runbook(entry: dict[str, Any]) -> None:
    for heading in ("Trigger:", "Preconditions:", "Steps:", "Rollback:"):
        assert heading in (load_flow(entry).description or "")


@EACH
def test_a_schedule_is_in_the_services_own_time(entry: dict[str, Any]) -> None:
    profile = read_profile(SERVICES / f"{entry['parameters']['service']}.yaml")
    for schedule in entry.get("schedules", []):
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert ZoneInfo(schedule["timezone"]) == profile.zone
        assert schedule["slug"], "without a slug nobody can tell which schedule was paused"
        if schedule["slug"] == "nightly":
            assert schedule["cron"] == profile.backup.schedule


@EACH
def test_a_deployment_can_be_told_from_what_people_made_by_hand(entry: dict[str, Any]) -> None:
    assert MANAGED in entry["tags"]
    assert entry["parameters"]["service"] in entry["tags"]
    assert entry["description"].endswith(".")


def test_every_service_has_every_runbook_once_and_on_its_own_hosts_queue() -> None:
    found = sorted(
        (
            load_flow(entry).name,
            entry["name"],
            entry["parameters"]["service"],
            entry["work_pool"]["work_queue_name"],
        )
        for entry in DEPLOYMENTS
    )
    runbooks = (
        "acknowledge",
        "audit-log-cleanup",
        "auth-triage",
        "check-audit-trail",
        "check-backups",
        "collect-metrics",
        "control-service",
        "corruption-recovery",
        "credential-report",
        "database-report",
        "disable-user",
        "emergency-backup",
        "ensure-indexes",
        "escalate",
        "failed-logins",
        "health-check",
        "install-service-unit",
        "last-night",
        "list-admins",
        "log-report",
        "nightly-backup",
        "optimize-indexes",
        "outage-triage",
        "profile-queries",
        "profiler-guard",
        "reset-connections",
        "restart-service",
        "restore-application",
        "restore-archive",
        "restore-database",
        "restore-drill",
        "rotate-database-password",
        "rotate-jwt-secret",
        "rotate-s3-credentials",
        "rotate-sendgrid-key",
        "rotate-stripe-keys",
        "sample-index-use",
        "security-incident",
        "startup-check",
    )
    profiles = [read_profile(SERVICES / f"{name}.yaml") for name in list_services(SERVICES)]
    assert found == [
        (runbook, profile.name, profile.name, profile.name)
        for runbook in runbooks
        for profile in profiles
        if has_what_it_rotates(profile, runbook)
    ]


def has_what_it_rotates(profile: ServiceProfile, runbook: str) -> bool:
    fields = ROTATED.get(runbook)
    return fields is None or any(getattr(profile.credentials, field) is not None for field in fields)


def test_the_guides_command_makes_every_deployment_of_another_service(tmp_path: Path) -> None:
    guide = (PROJECT / "docs" / "how-to" / "add-a-service.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    entries=(?:.*\n    )+.*>>prefect.yaml$", guide, re.MULTILINE)
    host = "    bakery_host: &bakery_host\n      name: operations\n      work_queue_name: bakery\n  limits:\n"
    text = (PROJECT / "prefect.yaml").read_text(encoding="utf-8").replace("  limits:\n", host)
    (tmp_path / "prefect.yaml").write_text(text, encoding="utf-8")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    made = yaml.safe_load((tmp_path / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert made[: len(DEPLOYMENTS)] == DEPLOYMENTS
    assert [entry["entrypoint"] for entry in made[len(DEPLOYMENTS) :]] == [
        entry["entrypoint"] for entry in DEPLOYMENTS if entry["name"] == "invoice"
    ]
    for entry in made[len(DEPLOYMENTS) :]:
        assert entry["name"] == entry["parameters"]["service"] == entry["tags"][-1] == "bakery"
        assert entry["work_pool"]["work_queue_name"] == "bakery"
        assert "the Bakery" in entry["description"]
        assert {schedule["timezone"] for schedule in entry.get("schedules", [])} <= {"Europe/Berlin"}


@pytest.fixture
def client(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    with get_client(sync_client=True) as connected:
        connected.create_work_pool(WorkPoolCreate(name="operations", type="process"), overwrite=True)
        yield connected
        # Their schedules would keep the server at work to the end.
        for left in connected.read_deployments(limit=200):
            connected.delete_deployment(left.id)


def updates(client: SyncPrefectClient) -> dict[UUID, datetime | None]:
    return {deployment.id: deployment.updated for deployment in client.read_deployments(limit=200)}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout with a few of its deployments: all of them take a minute of two cores."""
    for name in ("flows", "tasks", "uv.lock"):
        (tmp_path / name).symlink_to(PROJECT / name)
    some = [entry for entry in DEPLOYMENTS if entry["entrypoint"].endswith((".nightly_backup", ".escalate"))]
    document = {**DOCUMENT, "deployments": DEPLOYMENTS if WHOLE else some}
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setattr("deployments.deploy.PROJECT", tmp_path)
    return tmp_path


def test_deploying_keeps_what_was_paused_and_deletes_what_left_the_file_and_applies_nothing_twice(
    client: SyncPrefectClient, project: Path
) -> None:
    entrypoint = "flows.nightly_backup.nightly_backup"
    flow = client.create_flow_from_name("nightly-backup")
    # As an earlier version of the file had it; then somebody paused it.
    once = CronSchedule(cron="0 4 * * *", timezone="Australia/Sydney")
    paused = DeploymentScheduleCreate(slug="nightly", schedule=once, active=False)
    client.create_deployment(
        flow_id=flow, name="invoice", tags=[MANAGED], entrypoint=entrypoint, schedules=[paused]
    )
    gone = client.create_deployment(
        flow_id=flow, name="sold-last-year", tags=[MANAGED], entrypoint=entrypoint
    )
    by_hand = client.create_deployment(flow_id=flow, name="by-hand", tags=["mine"])

    said = deploy(client)

    at_two = CronSchedule(cron="0 2 * * *", timezone="Australia/Sydney")
    assert said == [
        "nightly-backup/invoice: schedule nightly stays paused.",
        "nightly-backup/sold-last-year is no longer in prefect.yaml: deleted.",
    ]
    again = client.read_deployment_by_name("nightly-backup/invoice")
    assert [(found.active, found.schedule) for found in again.schedules] == [(False, at_two)]
    other = client.read_deployment_by_name("nightly-backup/propertypulse")
    assert [schedule.active for schedule in other.schedules] == [True]
    remaining = updates(client)
    assert gone not in remaining
    assert by_hand in remaining

    # Nothing changed, so nothing is applied, and what was paused is said again.
    assert deploy(client) == ["nightly-backup/invoice: schedule nightly stays paused."]
    assert updates(client) == remaining

    # Whatever somebody changes on the server is another thing than what was applied.
    applied = read_applied(client)
    client.update_deployment(again.id, DeploymentUpdate(parameters={"service": "propertypulse"}))
    changed = [found for found in client.read_deployments(limit=200) if MANAGED in found.tags]
    assert applied is not None
    assert take_fingerprints(project, changed).files == applied.files
    assert take_fingerprints(project, changed).deployments != applied.deployments


@pytest.mark.parametrize("changed", ["prefect.yaml", "uv.lock", "flows/nightly_backup.py", "tasks/new.py"])
def test_a_file_that_decides_what_a_deployment_is_changes_the_fingerprint(
    tmp_path: Path, changed: str
) -> None:
    for name in ("prefect.yaml", "uv.lock", "flows/nightly_backup.py", "tasks/errors.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("as it was")
    before = take_fingerprints(tmp_path, [])
    assert take_fingerprints(tmp_path, []) == before
    (tmp_path / changed).write_text("otherwise")
    assert take_fingerprints(tmp_path, []).files != before.files
