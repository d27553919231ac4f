"""A rotation beside all else: users are served, another rotation waits, and so does one during a backup."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from deployments.sandbox.stack import Sandbox
from tasks.fingerprints import prove_fingerprints
from tasks.login_probing import attempt_login
from tasks.profiles import SERVICES_VARIABLE
from tasks.records.service import ServiceProfile
from tests.runbooks.conftest import Children, Ledger, Ledgers, wait_until
from tests.runbooks.rotation_walking import make_rotated


@pytest.fixture
def operated(
    propertypulse: ServiceProfile, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledger]:
    """PropertyPulse of the sandbox, a cluster of two, as what a child is started on; its env file returns."""
    services = sandbox.state / "services"
    monkeypatch.setenv(SERVICES_VARIABLE, str(services))
    whole = propertypulse.env_path.read_text()
    yield cast("Ledger", SimpleNamespace(services=services, name="propertypulse", profile=propertypulse))
    propertypulse.env_path.write_text(
        whole.replace(_line(whole, "DATABASE_URL"), _line(propertypulse.env_path.read_text(), "DATABASE_URL"))
    )
    sandbox.pm2.run("reload", propertypulse.application.process_name)


def _line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name}="))


@contextmanager
def requesting(profile: ServiceProfile, token: str) -> Iterator[Counter[str]]:
    """Ask all the while, as a user who logged in before does, and count what was answered."""
    url, seen, ended = str(profile.credentials.jwt_secret.protected_url), Counter[str](), threading.Event()  # type: ignore[union-attr]

    def ask() -> None:
        while not ended.is_set():
            try:
                answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
                seen[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                seen[type(error).__name__] += 1
            ended.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        ended.set()
        asking.join()


def test_two_rotations_at_once_wait_for_each_other_and_no_request_of_a_user_fails(
    operated: Ledger, children: Children
) -> None:
    profile = operated.profile
    assert profile.application.login is not None
    token = attempt_login(profile.application.login, 5).token
    assert token is not None
    with requesting(profile, token) as seen:
        first = children.start(operated, "rotate_jwt_secret")
        second = children.start(operated, "rotate_database_password")
        ends = [first.wait(240), second.wait(240)]
    for end in ends:
        assert end is not None
        assert end["type"] == "COMPLETED", end["message"]
    assert "is held by" in "".join(end["log"] for end in ends if end)
    assert set(seen) == {"200"}, seen
    assert seen["200"] > 50
    assert prove_fingerprints(profile, ["JWT_SECRET", "DATABASE_URL"]) is not None


def test_a_rotation_during_a_backup_waits_until_that_has_ended(
    ledgers: Ledgers, sandbox: Sandbox, children: Children
) -> None:
    rotated = make_rotated(ledgers, sandbox, JWT_SECRET="s" * 64)
    rotated.ledger.settings["credentials"] = {"jwt_secret": {}}
    rotated.ledger.change()
    backup = children.start(rotated.ledger, "nightly_backup", pause_before=3)
    wait_until(lambda: backup.is_paused)
    rotation = children.start(rotated.ledger, "rotate_jwt_secret")
    plan = rotated.folder / "jwt-secret.pending"
    rotation.process.join(6)
    assert rotation.process.exitcode is None
    assert not Path(plan).exists()
    assert rotated.variables["JWT_SECRET"] == "s" * 64
    backup.go_on()
    ends: list[Any] = [backup.wait(120), rotation.wait(120)]
    assert [end["type"] for end in ends] == ["COMPLETED", "COMPLETED"]
    assert "backup" in ends[1]["log"]
    assert rotated.variables["JWT_SECRET"] != "s" * 64
