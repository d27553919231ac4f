"""list-admins, disable-user and failed-logins on both systems: what they say is so, and proven."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psycopg
import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.objects import State
from pymongo import MongoClient
from pymongo.collection import Collection

from deployments.sandbox.applications import _stored_form
from deployments.sandbox.stack import Sandbox
from flows.disable_user import disable_user
from flows.failed_logins import failed_logins
from flows.list_admins import list_admins
from tasks.audit_reading import read_audit
from tasks.journal import list_open_journals
from tasks.profiles import SERVICES_VARIABLE, read_profile
from tasks.records.accounts import AttemptExtract
from tasks.records.personal_data import mask_email
from tasks.records.service import ServiceProfile
from tests.runbooks.conftest import Children, Ledger, artifacts_of, completed, failed, wait_until

EMAIL, PASSWORD = "eve@example.net", "a password that she knows"


class Operated:
    """One of the sandbox's services with a state folder of the test's own, and a user of it."""

    def __init__(self, name: str, sandbox: Sandbox, folder: Path) -> None:
        self.name, self.services, self._sandbox = name, folder / "services", sandbox
        self.services.mkdir()
        (folder / "repository").mkdir()
        self.settings = yaml.safe_load((sandbox.state / "services" / f"{name}.yaml").read_text())
        self.settings["state_directory"] = str(folder / "state")
        self.settings["backup"]["destination"] = {"url": (folder / "repository").as_uri()}
        self.change()

    def change(self, **sections: Any) -> None:
        for name, section in sections.items():
            self.settings[name] = {**self.settings.get(name, {}), **section}
        (self.services / f"{self.name}.yaml").write_text(yaml.safe_dump(self.settings))

    @property
    def profile(self) -> ServiceProfile:
        return read_profile(self.services / f"{self.name}.yaml")

    @property
    def log(self) -> Path:
        return self.profile.application.directory / "logs" / "combined.log"

    def run(self, runbook: Flow[..., State[Any]], **parameters: Any) -> State[Any]:
        return runbook(self.name, **parameters, return_state=True)

    def log_in(self, email: str = EMAIL, password: str = PASSWORD, address: str = "203.0.113.9") -> int:
        login = self.profile.application.login
        assert login is not None
        forwarded = {"x-forwarded-for": address}
        body = {"email": email, "password": password}
        return httpx.post(login.url, json=body, headers=forwarded, timeout=10).status_code

    def count_refused(self, address: str) -> int:
        """Return how many refused logins from an address are in the audit log: nobody waits for an entry."""
        now = datetime.now(UTC)
        found = read_audit.fn(self.profile, ["LOGIN_FAILED"], now - timedelta(hours=1), now)
        assert isinstance(found, AttemptExtract)
        return sum(one.address == address for one in found.attempts)

    def write(
        self, *, active: bool | None = None, role: str = "", everybody_else: bool | None = None
    ) -> None:
        """Make or change the user, or let all other administrators in or not."""
        if self.name == "invoice":
            self._write_document(active, role, everybody_else)
        else:
            self._write_row(active, role, everybody_else)

    def _write_document(self, active: bool | None, role: str, everybody_else: bool | None) -> None:
        client: MongoClient[dict[str, Any]]
        with MongoClient(self._sandbox.endpoints.mongodb_admin_url) as client:
            users: Collection[dict[str, Any]] = client["invoice"]["users"]
            if everybody_else is not None:
                others = {"role": "admin", "email": {"$nin": [EMAIL, "probe@example.com"]}}
                users.update_many(others, {"$set": {"isActive": everybody_else}})
            elif active is None:
                users.delete_many({"email": EMAIL})
            else:
                values = {"isActive": active, "role": role, "passwordHash": _stored_form(PASSWORD)}
                users.update_one({"email": EMAIL}, {"$set": values}, upsert=True)

    def _write_row(self, active: bool | None, role: str, everybody_else: bool | None) -> None:
        with psycopg.connect(self._sandbox.endpoints.postgresql_url, autocommit=True) as connection:
            if everybody_else is not None:
                connection.execute(
                    "UPDATE users SET is_active = %s WHERE role = 'ADMIN' AND email <> ALL (%s)",
                    [everybody_else, [EMAIL, "probe@example.com"]],
                )
            elif active is None:
                connection.execute("DELETE FROM users WHERE email = %s", [EMAIL])
            else:
                rank = "ADMIN" if role == "admin" else "TENANT"
                connection.execute(
                    "INSERT INTO users (email, password_hash, role, is_active) VALUES (%s, %s, %s, %s) "
                    "ON CONFLICT (email) DO UPDATE SET role = excluded.role, is_active = excluded.is_active",
                    [EMAIL, _stored_form(PASSWORD), rank, active],
                )


@pytest.fixture(params=["invoice", "propertypulse"])
def operated(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    prefect_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Operated]:
    service = Operated(request.param, sandbox, tmp_path)
    monkeypatch.setenv(SERVICES_VARIABLE, str(service.services))
    service.write(active=True, role="employee")
    yield service
    service.write()
    service.write(everybody_else=True)


# --- disable-user ---


def test_a_disabled_user_cannot_log_in_and_an_enabled_one_can(operated: Operated) -> None:
    assert operated.log_in() == 200
    state = operated.run(disable_user, user=EMAIL)
    assert completed(state) == (
        f"{operated.name}: {EMAIL} is disabled; read back by the application's own connection, and the "
        "probe user logs in."
    )
    assert operated.log_in() == 401
    shown = artifacts_of(state)
    assert "rotate-jwt-secret" in shown[f"disable-user-plan-{operated.name}"]
    assert "changing the account" in shown[f"disable-user-done-{operated.name}"]
    assert "nothing to do" in completed(operated.run(disable_user, user=EMAIL))
    assert "is enabled" in completed(operated.run(disable_user, user=EMAIL, enable=True))
    assert operated.log_in() == 200
    assert list_open_journals(operated.profile) == ()


def test_a_dry_run_changes_nothing(operated: Operated) -> None:
    completed(operated.run(disable_user, user=EMAIL, dry_run=True))
    assert operated.log_in() == 200


def test_the_last_administrator_stays_and_the_one_before_goes(operated: Operated) -> None:
    operated.write(active=True, role="admin")
    operated.write(everybody_else=False)
    said = failed(operated.run(disable_user, user=EMAIL))
    assert "last active administrator" in said
    assert "Make another user one first" in said
    assert operated.log_in() == 200
    operated.write(everybody_else=True)
    completed(operated.run(disable_user, user=EMAIL))
    assert operated.log_in() == 401


def test_a_killed_run_is_finished_by_the_next(operated: Operated, children: Children) -> None:
    child = children.start(
        cast("Ledger", SimpleNamespace(services=operated.services, name=operated.name)),
        "disable_user",
        parameters={"service": operated.name, "user": EMAIL},
        kill_after_step="changing the account",
    )
    assert child.wait() is None
    assert operated.log_in() == 200, "it was killed before the act"
    assert list_open_journals(operated.profile) == ("disable-user",)
    said = completed(operated.run(disable_user, user=EMAIL))
    assert "nothing to do" in said, "what was begun is finished first"
    assert operated.log_in() == 401
    assert list_open_journals(operated.profile) == ()


# --- list-admins ---


def test_a_new_administrator_is_seen_by_the_next_look(operated: Operated) -> None:
    first = completed(operated.run(list_admins))
    assert "no earlier look" in first
    operated.write(active=True, role="admin")
    state = operated.run(list_admins)
    assert "1 new" in completed(state)
    page = artifacts_of(state)[f"list-admins-admins-{operated.name}"]
    assert f"{EMAIL.replace('_', '')} is an active administrator now" in page
    assert "the same as before" in completed(operated.run(list_admins))
    operated.write(everybody_else=False)
    operated.write(active=False, role="admin")
    assert "Nobody can administer" in failed(operated.run(list_admins))


# --- failed-logins ---


def test_guessed_passwords_raise_one_alarm_and_name_the_address_and_no_user(operated: Operated) -> None:
    operated.change(users={"alarm": {"of_one_user": 3, "from_one_address": 3, "in_all": 1000}})
    quiet = operated.run(failed_logins, hours=1)
    for _ in range(3):
        assert operated.log_in(password="guessed", address="203.0.113.77") == 401
    wait_until(lambda: operated.count_refused("203.0.113.77") == 3)
    state = operated.run(failed_logins, hours=1)
    said = failed(state)
    assert "from 203.0.113.77" in said
    assert f"of the user {mask_email(EMAIL)}" in said
    assert EMAIL not in said
    assert "Nobody was told: this run was started at a shell." in said
    page = artifacts_of(state)[f"failed-logins-attempts-{operated.name}"]
    assert "data:image/svg+xml" in page
    assert EMAIL.partition("@")[0] not in page
    assert "reported before" in completed(operated.run(failed_logins, hours=1))
    assert quiet.message != state.message


def test_where_neither_log_can_be_read_it_is_said(operated: Operated) -> None:
    operated.change(
        users={"audit": {**operated.settings.get("users", {}).get("audit", {}), "source": "nowhere"}},
        application={"log_files": ["logs/none.log"], "process_manager": "systemd"},
    )
    said = failed(operated.run(failed_logins))
    assert "nothing could be read" in said
    assert "correct users.audit.source" in said
