"""What the two miniature applications do for the rotation of their secrets and for the audit trail."""

import hashlib
import hmac
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pymongo import MongoClient

from deployments.sandbox import object_store, programs, uploads
from deployments.sandbox.applications import INVOICE, PROPERTYPULSE, Applications, Backing
from deployments.sandbox.node import PACKAGES
from deployments.sandbox.ports import Ports
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.vault import Vault
from tasks.environment_file import parse
from tests.runbooks.conftest import wait_until

PROGRAMS = {INVOICE: "server.js", PROPERTYPULSE: "src/server.js"}
LOGIN = {INVOICE: "/auth/login", PROPERTYPULSE: "/api/auth/login"}
PROTECTED = {INVOICE: "/audit", PROPERTYPULSE: "/api/payments"}
applications = pytest.mark.parametrize("name", [INVOICE, PROPERTYPULSE])


def address(sandbox: Sandbox, name: str) -> str:
    return f"http://127.0.0.1:{sandbox.ports.invoice if name == INVOICE else sandbox.ports.propertypulse}"


def log_in(sandbox: Sandbox, name: str, at: str) -> str:
    body = {"email": "probe@example.com", "password": sandbox.applications.probe_password(name)}
    return str(httpx.post(at + LOGIN[name], json=body).raise_for_status().json()["token"])


def ask(url: str, token: str) -> int:
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code


@contextmanager
def twin(sandbox: Sandbox, name: str, folder: Path, **changes: str) -> Iterator[str]:
    """Run the application once more, with another port and another `.env`, and yield its address."""
    port = Ports.free().invoice
    shutil.copytree(
        sandbox.applications.folder / name,
        folder / name,
        ignore=shutil.ignore_patterns("logs", "node_modules"),
    )
    (folder / "node_modules").symlink_to(PACKAGES)
    with (folder / name / ".env").open("a", encoding="utf-8") as file:
        file.writelines(f"{key}='{value}'\n" for key, value in {"PORT": str(port), **changes}.items())
    process = subprocess.Popen(
        [programs.node(), folder / name / PROGRAMS[name]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    at = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{at}/health").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(answers)
        yield at
    finally:
        process.kill()
        process.wait()


def fingerprints(at: str, nonce: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{at}/internal/fingerprints", params={"nonce": nonce}, headers=headers)


@applications
def test_each_process_tells_the_fingerprints_of_its_secrets_and_no_secret(
    sandbox: Sandbox, name: str
) -> None:
    nonce = secrets.token_hex(16)
    variables = parse(sandbox.applications.environment_file(name).read_text(encoding="utf-8"))
    answers = [fingerprints(address(sandbox, name), nonce).raise_for_status().json() for _ in range(10)]
    prints = answers[0]["fingerprints"]
    assert len({answer["process"] for answer in answers}) == (1 if name == INVOICE else 2)
    assert "JWT_SECRET" in prints
    assert all(answer["fingerprints"] == prints for answer in answers)
    for variable, fingerprint in prints.items():
        value = variables[variable]
        assert value is not None
        assert fingerprint == hmac.new(value.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        assert value not in json.dumps(answers)


@applications
def test_fingerprints_are_refused_through_a_proxy_and_without_a_nonce(sandbox: Sandbox, name: str) -> None:
    at = address(sandbox, name)
    forwarded = {"X-Forwarded-For": "127.0.0.1"}
    assert fingerprints(at, secrets.token_hex(16), **forwarded).status_code == 403
    assert [fingerprints(at, nonce).status_code for nonce in ("", "x" * 32, "ab")] == [400, 400, 400]


@applications
def test_tokens_of_the_previous_secret_are_accepted_and_new_ones_are_signed_with_the_new(
    sandbox: Sandbox, name: str, tmp_path: Path
) -> None:
    old = log_in(sandbox, name, address(sandbox, name))
    before = sandbox.applications.setting(name, "JWT_SECRET")
    with twin(sandbox, name, tmp_path, JWT_SECRET=secrets.token_hex(32), JWT_SECRET_PREVIOUS=before) as at:
        new = log_in(sandbox, name, at)
        assert (ask(at + PROTECTED[name], old), ask(at + PROTECTED[name], new)) == (200, 200)
        assert ask(at + PROTECTED[name], f"{new}x") == 401
        assert ask(address(sandbox, name) + PROTECTED[name], new) == 401
        told = fingerprints(at, secrets.token_hex(16)).json()["fingerprints"]
    assert {"JWT_SECRET", "JWT_SECRET_PREVIOUS"} <= set(told)


def test_webhooks_signed_with_either_secret_are_accepted(sandbox: Sandbox, tmp_path: Path) -> None:
    before, now = sandbox.applications.setting(PROPERTYPULSE, "STRIPE_WEBHOOK_SECRET"), "whsec_new"
    changes = {"STRIPE_WEBHOOK_SECRET": now, "STRIPE_WEBHOOK_SECRET_PREVIOUS": before}
    with twin(sandbox, PROPERTYPULSE, tmp_path, **changes) as at:
        statuses = [post_event(at, secret) for secret in (before, now, "whsec_other")]
    assert statuses == [200, 200, 400]


def post_event(at: str, secret: str) -> int:
    body = json.dumps({"type": "customer.created", "data": {"object": {"id": "cus_1"}}})
    stamp = int(time.time())
    signature = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={stamp},v1={signature}"}
    return httpx.post(f"{at}/api/webhooks/stripe", content=body, headers=headers).status_code


@applications
def test_failed_logins_and_refused_tokens_are_in_the_audit_log_with_address_and_user(
    sandbox: Sandbox, name: str
) -> None:
    at, stranger = address(sandbox, name), f"{secrets.token_hex(8)}@example.com"
    forwarded = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
    begun = datetime.now(UTC)
    for email in (stranger, "probe@example.com"):
        body = {"email": email, "password": "wrong-and-secret"}
        assert httpx.post(at + LOGIN[name], json=body, headers=forwarded).status_code == 401
    token = log_in(sandbox, name, at) + "x"
    assert ask(at + PROTECTED[name], token) == 401

    wait_until(lambda: len(audited(sandbox, name, begun)) >= 3)
    entries = audited(sandbox, name, begun)
    found = [(entry["action"], entry["email"], entry["ip"], entry["reason"]) for entry in entries]
    assert ("LOGIN_FAILED", stranger, "203.0.113.9", "unknown user") in found
    assert ("LOGIN_FAILED", "probe@example.com", "203.0.113.9", "wrong password") in found
    assert ("UNAUTHORIZED_ACCESS", "probe@example.com", "127.0.0.1", "invalid signature") in found
    assert "wrong-and-secret" not in str(entries)
    assert token[:-1] not in str(entries)


def audited(sandbox: Sandbox, name: str, since: datetime) -> list[dict[str, Any]]:
    if name == PROPERTYPULSE:
        query = """SELECT "Action" AS action, "userId" AS user, details FROM "AuditTrail"
                   WHERE "validUntil" BETWEEN %s AND now()"""
        with psycopg.connect(sandbox.postgresql.owner_url()) as connection:
            rows = connection.execute(query, [since]).fetchall()
        return [{"action": action, "user": user, **details} for action, user, details in rows]
    client: MongoClient[dict[str, Any]]
    with MongoClient(sandbox.mongodb.admin_url) as client:
        moment = since.replace(microsecond=since.microsecond // 1000 * 1000)
        entries: list[dict[str, Any]] = list(
            client["invoice"]["auditLogs"].find({"timestamp": {"$gte": moment}})
        )
    return [
        {"action": entry["action"], "email": entry["userEmail"], "ip": entry["ipAddress"], **entry["details"]}
        for entry in entries
        if "reason" in entry["details"]
    ]


def test_a_refused_token_that_is_no_token_at_all_is_answered_and_audited(sandbox: Sandbox) -> None:
    begun = datetime.now(UTC)
    nonsense = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.bm90IGpzb24.x"  # says that its payload is JSON, and it is not
    )
    for name in (INVOICE, PROPERTYPULSE):
        assert ask(address(sandbox, name) + PROTECTED[name], nonsense) == 401
        wait_until(lambda name=name: audited(sandbox, name, begun))  # type: ignore[misc]


def test_stripe_is_asked_with_the_applications_key_and_its_refusal_shows_no_part_of_it(
    sandbox: Sandbox,
) -> None:
    at = address(sandbox, PROPERTYPULSE)
    headers = {"Authorization": f"Bearer {log_in(sandbox, PROPERTYPULSE, at)}"}
    url = f"{at}/api/payments/intent"
    key = sandbox.applications.setting(PROPERTYPULSE, "STRIPE_SECRET_KEY")
    assert httpx.post(url, json={"amount": -1}, headers=headers).status_code == 400
    assert httpx.post(url, json={"amount": 1200}).status_code == 401
    made = httpx.post(url, json={"amount": 1200}, headers=headers)
    assert made.raise_for_status().json()["id"].startswith("pi_")
    sandbox.vendors.conduct("stripe", revoked=[key])
    try:
        refused = httpx.post(url, json={"amount": 1200}, headers=headers)
    finally:
        sandbox.vendors.conduct("stripe", revoked=[])
    assert refused.status_code == 502
    log = (sandbox.applications.folder / PROPERTYPULSE / "logs" / "combined.log").read_text(encoding="utf-8")
    assert "Stripe refused a payment: HTTP 401" in log
    assert key[-4:] not in refused.text + log


def test_the_env_file_of_an_older_sandbox_gets_what_is_new_and_stays_the_operators(tmp_path: Path) -> None:
    vault, ports = Vault(tmp_path / "secrets"), Ports()
    vault.write(object_store.KEY_ID, "AKIAOPERATOR00000000")
    vault.write(object_store.KEY_SECRET, "operators-secret")
    vault.write(uploads.KEY_ID, "AKIAUPLOADS000000000")
    vault.write(uploads.KEY_SECRET, "uploads-secret")
    applications = Applications(tmp_path, vault, ports)
    backing = Backing("mongodb://u:p@h/d", "postgresql://u:p@h/d", f"http://127.0.0.1:{ports.iam}")
    file = applications.environment_file(PROPERTYPULSE)
    file.parent.mkdir(parents=True)
    file.write_text(
        "# mine\nAWS_ACCESS_KEY_ID=AKIAOPERATOR00000000\nAWS_SECRET_ACCESS_KEY='operators-secret'\n"
        f"AWS_ENDPOINT_URL=http://127.0.0.1:{ports.s3}\n"
    )
    for _ in range(2):
        applications.lay_out(backing)
        assert file.read_text() == (
            "# mine\nAWS_ACCESS_KEY_ID=AKIAUPLOADS000000000\nAWS_SECRET_ACCESS_KEY='uploads-secret'\n"
            f"AWS_ENDPOINT_URL=http://127.0.0.1:{ports.iam}\n"
            f"STRIPE_API_URL=http://127.0.0.1:{ports.vendors}/stripe\n"
        )
    rotated = file.read_text().replace("AKIAUPLOADS000000000", "AKIAROTATED000000000")
    file.write_text(rotated)
    applications.lay_out(backing)
    assert file.read_text() == rotated


def test_an_upload_goes_where_the_signed_url_says_and_nowhere_else(sandbox: Sandbox) -> None:
    at = address(sandbox, PROPERTYPULSE)
    headers = {"Authorization": f"Bearer {log_in(sandbox, PROPERTYPULSE, at)}"}
    url = f"{at}/api/uploads/signed-url"
    assert httpx.post(url, json={"filename": "../x"}, headers=headers).status_code == 400
    signed = httpx.post(url, json={"filename": "lease_1.pdf"}, headers=headers)
    upload = signed.raise_for_status().json()
    assert httpx.put(upload["url"], content=os.urandom(100)).status_code == 200
    assert httpx.put(upload["url"].replace("lease_1", "lease_2"), content=b"x").status_code == 403
    sandbox.object_store.client().delete_object(Bucket="uploads", Key=upload["key"])
