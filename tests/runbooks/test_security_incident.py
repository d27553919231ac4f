"""security-incident: every door shut once, whoever kills or fails on the way; a document that says it all."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
import jwt
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from python_http_client.exceptions import HTTPError  # type: ignore[import-untyped]
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]

from deployments.sandbox.stack import Sandbox
from flows.security_incident import security_incident
from tests.runbooks.conftest import Children, Ledgers, PostgresqlDatabase, artifacts_of, completed, failed
from tests.runbooks.rotation_walking import Rotated, make_rotated

OLD = "s" * 64
JWT, KEY = "JWT_SECRET", "SENDGRID_API_KEY"
EVE = "eve.l@example.net"
USERS = f"""
CREATE TABLE users (email text, role text, "isActive" boolean, created timestamptz);
INSERT INTO users VALUES ('ann@example.net', 'admin', true, now() - interval '90 days'),
    ('{EVE}', 'admin', true, now());
CREATE TABLE "auditLogs" ("timestamp" timestamptz, action text, "userEmail" text, "ipAddress" text);
INSERT INTO "auditLogs" SELECT now() - n * interval '1 minute',
    CASE WHEN n % 2 = 0 THEN 'LOGIN_FAILED' ELSE 'UNAUTHORIZED_ACCESS' END, 'ann@example.net', '203.0.113.66'
    FROM generate_series(1, 6) n;
"""


@pytest.fixture(scope="module")
def operated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rotated]:
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("incident"), environment)
        rotated = make_rotated(maker, sandbox, JWT_SECRET=OLD)
        cast("PostgresqlDatabase", rotated.ledger.database).execute(USERS)
        yield rotated
        maker.remove()


@pytest.fixture
def rotated(operated: Rotated, sandbox: Sandbox) -> Iterator[Rotated]:
    """Begins with old values in the application, a key of its own at SendGrid, and no memory of incidents."""
    account = open_sendgrid(sandbox, sandbox.vault.read("sendgrid-manager-key"))
    before = list_keys(account)
    body = {"name": "ledger", "scopes": ["mail.send"]}
    made = account.api_keys.post(request_body=body).to_dict["api_key"]
    operated.set_variables(JWT_SECRET=OLD, JWT_SECRET_PREVIOUS=None, SENDGRID_API_KEY=made, AUDIT_DEBUG=None)
    sandbox.pm2.run("restart", operated.ledger.profile.application.process_name)
    for folder in (operated.folder, incidents_of(operated)):
        for left in folder.glob("*") if folder.exists() else ():
            left.unlink()
    operated.ledger.settings["credentials"] = {
        "jwt_secret": {"protected_url": f"{operated.at}/me", "previous_variable": "JWT_SECRET_PREVIOUS"},
        "sendgrid_key": {
            "manager_key": f"file:{sandbox.vault.path('sendgrid-manager-key')}",
            "sender": "app@example.com",
            "url": f"{sandbox.endpoints.vendors}/sendgrid",
        },
    }
    operated.ledger.change(
        users={"created_field": "created"},
        incident={"debug_variables": {"AUDIT_DEBUG": "true"}},
        approval={"required_for": ["rotate-jwt-secret", "rotate-sendgrid-key"]},
    )
    yield operated
    sandbox.vendors.conduct("sendgrid", faults=[], propagation_seconds=0)
    for identity in list_keys(account) - before:
        account.api_keys._(identity).delete()


def open_sendgrid(sandbox: Sandbox, key: str) -> Any:
    return SendGridAPIClient(key, host=f"{sandbox.endpoints.vendors}/sendgrid").client


def list_keys(account: Any) -> set[str]:
    return {one["api_key_id"] for one in account.api_keys.get().to_dict["result"]}


def is_accepted(sandbox: Sandbox, key: str) -> bool:
    try:
        open_sendgrid(sandbox, key).scopes.get()
    except HTTPError:
        return False
    return True


def is_let_in(rotated: Rotated, secret: str) -> bool:
    token = jwt.encode({"sub": "x", "exp": datetime.now(UTC) + timedelta(minutes=5)}, secret, "HS256")
    answer = httpx.get(f"{rotated.at}/me", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == httpx.codes.OK


def incidents_of(rotated: Rotated) -> Path:
    return rotated.folder.parent / "incidents"


def respond(rotated: Rotated, **parameters: Any) -> State[Any]:
    return cast("State[Any]", security_incident(rotated.ledger.name, **parameters, return_state=True))


def steps_of(rotated: Rotated) -> list[tuple[str, str]]:
    (record,) = incidents_of(rotated).glob("*.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()[1:]]
    return [(line["step"], line["outcome"]) for line in lines if line["outcome"] != "begun"]


def test_all_is_replaced_without_grace_and_the_document_is_complete(
    rotated: Rotated, sandbox: Sandbox
) -> None:
    old = rotated.variables[KEY]
    assert (is_let_in(rotated, OLD), is_accepted(sandbox, old)) == (True, True)
    state = respond(rotated, suspicion=f"A laptop of {EVE} was stolen.")
    said = completed(state)
    assert said.startswith("ledger: contained. 2 credentials replaced")
    new = rotated.variables
    assert (is_let_in(rotated, OLD), is_accepted(sandbox, old)) == (False, False)
    assert (is_let_in(rotated, new[JWT]), is_accepted(sandbox, new[KEY])) == (True, True)
    assert new["AUDIT_DEBUG"] == "true"
    assert rotated.is_settled()

    (document,) = incidents_of(rotated).glob("*.md")
    assert document.stat().st_mode & 0o777 == 0o600
    text, page = document.read_text(), artifacts_of(state)["security-incident-incident-ledger"]
    for wanted in (
        "replacing sendgrid-key: done",
        "replacing jwt-secret: done",
        "SendGrid refuses the old key",
        "203.0.113.66",
        "LOGIN\\_FAILED: 3, UNAUTHORIZED\\_ACCESS: 3",
        "data:image/svg+xml",
        "at the shell",
        "is an administrator, and was made",
        "Nobody was told: this run was started at a shell.",
        "take AUDIT\\_DEBUG out of",
    ):
        assert wanted in text
        assert wanted in page
    assert EVE in text
    assert "ann@example.net (ADMINISTRATOR)" in text
    assert EVE not in page
    assert "ann@" not in page
    for secret in (OLD, old, new[JWT], new[KEY]):
        assert secret not in text + page + said


def test_a_provider_that_fails_keeps_nothing_else_from_being_shut(rotated: Rotated, sandbox: Sandbox) -> None:
    old = rotated.variables[KEY]
    sandbox.vendors.conduct("sendgrid", faults=[{"method": "POST", "path": "/v3/api_keys", "status": 403}])
    state = respond(rotated, suspicion="A key leaked.")
    said = failed(state)
    assert "NOT contained. What failed: replacing sendgrid-key." in said
    assert not is_let_in(rotated, OLD)
    assert rotated.variables[KEY] == old
    assert is_accepted(sandbox, old)
    page = artifacts_of(state)["security-incident-incident-ledger"]
    assert "Replace sendgrid-key by rotate-sendgrid-key, with emergency." in page
    assert "proving that it serves: done" in page


def test_killed_again_and_again_it_goes_on_and_doubles_nothing(
    rotated: Rotated, sandbox: Sandbox, children: Children
) -> None:
    kills: list[dict[str, Any]] = [
        {"kill_after_step": "testing it"},
        {"kill_after_step": "retiring the old one"},
        {"kill_when_called": "flows.incident_keeping:write_document"},
    ]
    old = rotated.variables[KEY]
    for kill in kills:
        assert children.start(rotated.ledger, "security_incident", **kill).wait() is None
    ended = children.start(rotated.ledger, "security_incident").wait()
    assert ended is not None
    assert ended["type"] == "COMPLETED", ended["message"]
    assert (is_let_in(rotated, OLD), is_accepted(sandbox, old)) == (False, False)
    assert rotated.history() == ["rotated", "retired"] * 2
    assert rotated.is_settled()
    steps = steps_of(rotated)
    assert len(steps) == len(set(steps)), "no step was done twice"
    assert steps[0] == ("telling people", "done")
    assert steps[-1] == ("closed", "done")


def test_a_deployed_run_tells_people_waits_once_for_everything_and_goes_on(rotated: Rotated) -> None:
    rotated.ledger.change(approval={"required_for": ["security-incident", "rotate-jwt-secret"]})
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(security_incident)
        deployment = client.create_deployment(flow_id, name="ledger", enforce_parameter_schema=False)
        run = client.create_flow_run_from_deployment(deployment).id
        go_on(run, rotated)
        assert [step for step, _ in steps_of(rotated)] == ["telling people"]
        assert is_let_in(rotated, OLD)
        client.resume_flow_run(run, run_input={"decision": "approve", "name": "ann"})
    said = completed(go_on(run, rotated))
    assert "NOT" not in said
    assert not is_let_in(rotated, OLD)
    steps = [step for step, _ in steps_of(rotated)]
    assert len(steps) == len(set(steps))
    assert "replacing sendgrid-key" not in steps


def go_on(run: UUID, rotated: Rotated) -> State[Any]:
    """Run it as a worker would, as far as it goes."""
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run)
    parameters = {"service": rotated.ledger.name, "credentials": ["jwt-secret"]}
    try:
        state = run_flow(security_incident, flow_run, parameters, return_type="state")
    except Pause as pause:
        state = pause.state
    return cast("State[Any]", state)


def test_who_has_to_agree_and_cannot_be_asked_closes_it_and_nothing_is_changed(rotated: Rotated) -> None:
    rotated.ledger.change(approval={"required_for": ["security-incident"]})
    assert "needs somebody's approval" in failed(respond(rotated))
    assert is_let_in(rotated, OLD)
    assert steps_of(rotated)[-1] == ("closed", "left out")


def test_a_credential_that_the_profile_does_not_have_is_refused_before_anything(rotated: Rotated) -> None:
    assert "no credentials.s3" in failed(respond(rotated, credentials=["s3"]))
    dry = respond(rotated, credentials=["jwt-secret"], dry_run=True)
    assert "dry run" in completed(dry)
    assert "Replace jwt-secret" in artifacts_of(dry)["security-incident-plan-ledger"]
    assert not list(incidents_of(rotated).glob("*.jsonl"))
