"""rotate-sendgrid-key: one key with the old scopes is left at SendGrid, whatever happens on the way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State
from python_http_client.exceptions import HTTPError  # type: ignore[import-untyped]
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]

from deployments.sandbox.stack import Sandbox
from flows.rotate_sendgrid_key import rotate_sendgrid_key
from tasks.backup_pause import holding_off_backups
from tests.runbooks.conftest import Children, Ledgers, artifacts_of, completed, failed
from tests.runbooks.rotation_walking import Rotated, make_rotated

VARIABLE = "SENDGRID_API_KEY"
SCOPES = ["mail.send", "stats.read"]
KEYS = "/v3/api_keys"


class Account:
    """What SendGrid has, seen with the operator's key."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._at = f"{sandbox.endpoints.vendors}/sendgrid"
        self.manager = self.open(sandbox.vault.read("sendgrid-manager-key"))

    def open(self, key: str) -> Any:
        return SendGridAPIClient(key, host=self._at).client

    def names(self) -> dict[str, str]:
        return {one["api_key_id"]: one["name"] for one in self.manager.api_keys.get().to_dict["result"]}

    def make(self, name: str = "ledger") -> str:
        made = self.manager.api_keys.post(request_body={"name": name, "scopes": SCOPES})
        return str(made.to_dict["api_key"])

    def works(self, key: str) -> bool:
        try:
            return {*SCOPES} <= {*self.open(key).scopes.get().to_dict["scopes"]}
        except HTTPError as error:
            if error.status_code == 401:
                return False
            raise


@pytest.fixture(scope="module")
def operated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rotated]:
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("sendgrid"), environment)
        yield make_rotated(maker, sandbox, SENDGRID_API_KEY="SG.first.key")
        maker.remove()


@pytest.fixture(scope="module")
def aged(sandbox: Sandbox) -> Iterator[tuple[str, float]]:
    """A key that was made before the first of these tests, and when."""
    account = Account(sandbox)
    key = account.make("aged")
    yield key, time.monotonic()
    account.manager.api_keys._(key.split(".")[1]).delete()


@pytest.fixture
def account(sandbox: Sandbox) -> Iterator[Account]:
    found = Account(sandbox)
    before = found.names()
    yield found
    sandbox.vendors.conduct("sendgrid", faults=[], propagation_seconds=0)
    for identity in found.names().keys() - before.keys():
        found.manager.api_keys._(identity).delete()


@pytest.fixture
def rotated(aged: tuple[str, float], operated: Rotated, sandbox: Sandbox, account: Account) -> Rotated:
    operated.set_variables(SENDGRID_API_KEY=account.make())
    for left in operated.folder.glob("*") if operated.folder.exists() else ():
        left.unlink()
    allow(operated, sandbox)
    return operated


def allow(rotated: Rotated, sandbox: Sandbox, **terms: Any) -> None:
    rotated.ledger.settings["credentials"] = {
        "sendgrid_key": {
            "manager_key": f"file:{sandbox.vault.path('sendgrid-manager-key')}",
            "sender": "app@example.com",
            "url": f"{sandbox.endpoints.vendors}/sendgrid",
            **terms,
        }
    }
    rotated.ledger.change()


def rotate(rotated: Rotated, **parameters: Any) -> State[Any]:
    return cast("State[Any]", rotate_sendgrid_key(rotated.ledger.name, **parameters, return_state=True))


def is_one_left(rotated: Rotated, account: Account, old: str) -> bool:
    """Is the key of the env file the only one of the ledger's, and the old one refused?"""
    now = rotated.variables[VARIABLE]
    names = [name for name in account.names().values() if name.startswith("ledger")]
    return len(names) == 1 and account.works(now) and (now == old or not account.works(old))


def test_the_new_key_has_the_old_scopes_and_the_old_one_is_refused(
    rotated: Rotated, account: Account, sandbox: Sandbox
) -> None:
    old, mails = rotated.variables[VARIABLE], len(sandbox.vendors.read_kept("sendgrid"))
    sandbox.vendors.conduct("sendgrid", propagation_seconds=0.5)
    state = rotate(rotated)
    new = rotated.variables[VARIABLE]
    assert completed(state).endswith("SendGrid refuses the old key (401).")
    assert new != old
    assert is_one_left(rotated, account, old)
    assert account.names()[new.split(".")[1]].startswith("ledger rotated 20")
    # The probe's mail was checked and went nowhere.
    assert len(sandbox.vendors.read_kept("sendgrid")) == mails
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "retired"]
    shown = "".join(artifacts_of(state).values())
    assert "Make a SendGrid key with the scopes of the present one" in shown
    assert not any(secret in shown for secret in (old, new, old.split(".")[2], new.split(".")[2]))


def test_both_keys_work_until_the_grace_is_over(rotated: Rotated, account: Account, sandbox: Sandbox) -> None:
    allow(rotated, sandbox, grace="PT1H")
    old = rotated.variables[VARIABLE]
    assert "Start rotate-sendgrid-key again" in completed(rotate(rotated))
    assert account.works(old)
    assert account.works(rotated.variables[VARIABLE])
    rotated.end_grace("sendgrid-key")
    completed(rotate(rotated))
    assert is_one_left(rotated, account, old)
    assert rotated.is_settled()


def test_an_old_key_that_a_person_put_back_is_not_retired_and_an_emergency_ends_both(
    rotated: Rotated, account: Account, sandbox: Sandbox
) -> None:
    allow(rotated, sandbox, grace="PT1H")
    leaked = rotated.variables[VARIABLE]
    completed(rotate(rotated))
    made = rotated.variables[VARIABLE]
    rotated.set_variables(SENDGRID_API_KEY=leaked)
    rotated.end_grace("sendgrid-key")
    assert "is the old one again, so it is not retired" in failed(rotate(rotated))
    assert account.works(leaked)

    completed(rotate(rotated, emergency=True))
    assert rotated.variables[VARIABLE] not in (leaked, made)
    assert not account.works(made)
    assert is_one_left(rotated, account, leaked)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "undone", "rotated", "retired"]


def test_an_emergency_that_waited_while_the_grace_before_it_ended_replaces_the_key(
    rotated: Rotated, account: Account, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(rotated, sandbox, grace="PT1H")
    first = rotated.variables[VARIABLE]
    completed(rotate(rotated))
    leaked = rotated.variables[VARIABLE]
    rotated.end_grace("sendgrid-key")

    @contextmanager
    def wait(*told: Any) -> Iterator[None]:
        monkeypatch.undo()
        completed(rotate(rotated))
        with holding_off_backups(*told):
            yield

    monkeypatch.setattr("flows.rotating.holding_off_backups", wait)
    completed(rotate(rotated, emergency=True))
    now = rotated.variables[VARIABLE]
    assert [account.works(key) for key in (first, leaked, now)] == [False, False, True]
    assert is_one_left(rotated, account, leaked)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "retired", "rotated", "retired"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.sendgrid_asking.SOCKET_SECONDS", 0.3)
    monkeypatch.setattr("tasks.rotator_sendgrid._KNOWN_EVERYWHERE_SECONDS", 0.3)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"method": "POST", "path": KEYS, "status": 500}, "SendGrid answered 500."),
        ({"method": "POST", "path": KEYS, "status": None, "works": True}, "SendGrid did not answer"),
        ({"method": "POST", "path": KEYS, "status": 403}, "SendGrid refuses the key of credentials."),
        ({"method": "POST", "path": "/v3/mail/send", "status": 403}, "refuses a mail with the new key (403)"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_sendgrid_that_fails_leaves_the_old_key_in_force_and_nothing_of_the_new_one(
    rotated: Rotated, account: Account, sandbox: Sandbox, fault: dict[str, Any], said: str
) -> None:
    old = rotated.variables[VARIABLE]
    sandbox.vendors.conduct("sendgrid", faults=[fault])
    message = failed(rotate(rotated))
    sandbox.vendors.conduct("sendgrid", faults=[])
    assert said in message
    assert rotated.variables[VARIABLE] == old
    assert is_one_left(rotated, account, old)
    assert rotated.is_settled()


def test_a_deletion_that_fails_leaves_the_new_key_in_force_and_is_done_later(
    rotated: Rotated, account: Account, sandbox: Sandbox
) -> None:
    old = rotated.variables[VARIABLE]
    sandbox.vendors.conduct("sendgrid", faults=[{"method": "DELETE", "path": KEYS, "status": 500}])
    message = failed(rotate(rotated))
    assert "The new sendgrid-key was put in force and proven. The old one is not retired yet" in message
    new = rotated.variables[VARIABLE]
    assert (new != old, account.works(new), account.works(old)) == (True, True, True)
    rotated.end_grace("sendgrid-key")
    completed(rotate(rotated))
    assert rotated.variables[VARIABLE] == new
    assert is_one_left(rotated, account, old)
    assert rotated.is_settled()


def test_killed_before_a_new_key_is_kept_the_next_run_deletes_the_one_that_nobody_can_use(
    rotated: Rotated, account: Account, children: Children
) -> None:
    old = rotated.variables[VARIABLE]
    kill = {"kill_when_called": "tasks.rotator_sendgrid:Kept"}
    assert children.start(rotated.ledger, "rotate_sendgrid_key", **kill).wait() is None
    completed(rotate(rotated))
    assert rotated.variables[VARIABLE] != old
    assert is_one_left(rotated, account, old)
    assert rotated.is_settled()


@pytest.mark.usefixtures("impatient")
def test_a_new_key_that_does_not_come_to_be_known_is_deleted_again(
    rotated: Rotated, account: Account, sandbox: Sandbox, aged: tuple[str, float]
) -> None:
    old, made_at = aged
    rotated.set_variables(SENDGRID_API_KEY=old)
    # What was made before these tests is known, and nothing that is made now.
    sandbox.vendors.conduct("sendgrid", propagation_seconds=time.monotonic() - made_at)
    message = failed(rotate(rotated))
    sandbox.vendors.conduct("sendgrid", propagation_seconds=0)
    assert "SendGrid refuses the new key" in message
    assert rotated.variables[VARIABLE] == old
    assert account.works(old)
    assert [name for name in account.names().values() if name.startswith("aged")] == ["aged"]
    assert rotated.is_settled()
