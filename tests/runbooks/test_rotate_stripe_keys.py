"""rotate-stripe-keys: the key that a person hands over, and a second endpoint for the signing secret."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import stripe
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow

from deployments.sandbox.stack import Sandbox
from flows.rotate_stripe_keys import rotate_stripe_keys
from tests.runbooks.conftest import Children, Ledgers, artifacts_of, completed, failed, wait_until
from tests.runbooks.rotation_walking import Rotated, make_rotated

KEY, SECRET, BESIDE = "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_PREVIOUS"
ENDPOINTS = "/v1/webhook_endpoints"


class Account:
    """An account of Stripe's of one test's own, with a key and an endpoint that leads to the ledger."""

    def __init__(self, sandbox: Sandbox, url: str, **told: Any) -> None:
        self._sandbox, self.name = sandbox, f"acct_{uuid4().hex}"
        self.key = self.make_key(**told)
        self.url = url
        made = self.endpoints.create({"url": url, "enabled_events": ["payment_intent.succeeded"]})
        self.secret = str(made.secret)

    def make_key(self, **told: Any) -> str:
        made = self._sandbox.vendors.act("stripe", "make_key", **{"account": self.name, **told})
        return str(made["key"])

    def roll(self, key: str, expires_in: float = 0) -> str:
        rolled = self._sandbox.vendors.act("stripe", "roll_key", key=key, expires_in=expires_in)
        return str(rolled["key"])

    def open(self, key: str) -> Any:
        at = f"{self._sandbox.endpoints.vendors}/stripe"
        return stripe.StripeClient(key, base_addresses={"api": at}, max_network_retries=0).v1

    @property
    def endpoints(self) -> Any:
        return self.open(self.key).webhook_endpoints

    def list(self) -> list[tuple[str, str]]:
        """The endpoints that lead to the ledger, newest first: id and status."""
        return [(one.id, one.status) for one in self.endpoints.list().data if one.url == self.url]

    def pay(self) -> None:
        paid = {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
        self.open(self.key).payment_intents.create(paid)

    def wait_for_deliveries(self) -> None:
        events = self.open(self.key).events
        wait_until(lambda: all(not one.pending_webhooks for one in events.list().data))


@pytest.fixture(scope="module")
def operated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rotated]:
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("stripe"), environment)
        yield make_rotated(maker, sandbox, STRIPE_WEBHOOK_SECRET="whsec_0123456789abcdef")
        maker.remove()


@pytest.fixture
def account(operated: Rotated, sandbox: Sandbox) -> Iterator[Account]:
    yield Account(sandbox, f"{operated.at}/webhook")
    sandbox.vendors.conduct("stripe", faults=[])


@pytest.fixture
def rotated(operated: Rotated, sandbox: Sandbox, account: Account) -> Rotated:
    operated.set_variables(
        STRIPE_SECRET_KEY=account.key,
        STRIPE_WEBHOOK_SECRET=account.secret,
        STRIPE_WEBHOOK_SECRET_PREVIOUS=None,
    )
    for left in operated.folder.glob("*") if operated.folder.exists() else ():
        left.unlink()
    handed_over(operated).unlink(missing_ok=True)
    allow(operated, sandbox)
    return operated


def allow(rotated: Rotated, sandbox: Sandbox, **terms: Any) -> None:
    at = f"{sandbox.endpoints.vendors}/stripe"
    webhook = {"grace": "PT0S", "soak": "PT0S", "previous_variable": BESIDE, **terms}
    rotated.ledger.settings["credentials"] = {
        "stripe_key": {"handed_over": f"file:{handed_over(rotated)}", "url": at, "grace": "PT0S"},
        "stripe_webhook_secret": {
            "endpoint_url": f"{rotated.at}/webhook",
            "probe_url": f"{rotated.at}/webhook",
            "url": at,
            **webhook,
        },
    }
    rotated.ledger.change()


def handed_over(rotated: Rotated) -> Path:
    return rotated.ledger.folder / "new-stripe-key"


def hand_over(rotated: Rotated, key: str) -> None:
    handed_over(rotated).touch(mode=0o600)
    handed_over(rotated).write_text(f"{key}\n")


def rotate(rotated: Rotated, which: str = "key", **parameters: Any) -> State[Any]:
    return cast("State[Any]", rotate_stripe_keys(rotated.ledger.name, which, **parameters, return_state=True))


def is_verified(rotated: Rotated, secret: str) -> bool:
    header = stripe.WebhookSignature.generate_signature_header("{}", secret)
    answer = httpx.post(f"{rotated.at}/webhook", content="{}", headers={"Stripe-Signature": header})
    return answer.is_success


# --- The key ---


def test_a_key_that_was_handed_over_is_taken_and_the_old_one_is_looked_at_until_stripe_refuses_it(
    rotated: Rotated, account: Account, sandbox: Sandbox
) -> None:
    old, new = account.key, account.roll(account.key, expires_in=3600)
    hand_over(rotated, new)
    state = rotate(rotated)
    message = failed(state)
    assert "The new stripe-key was put in force and proven." in message
    assert "Stripe still accepts the old key: expire it in the Dashboard" in message
    assert rotated.variables[KEY] == new
    assert not handed_over(rotated).exists()
    assert rotated.kept() == {"stripe-key.previous"}
    shown = "".join(artifacts_of(state).values()) + message
    assert not any(secret in shown for secret in (old, new, old[-4:], new[-4:]))

    hand_over(rotated, account.roll(new, expires_in=3600))
    said = failed(rotate(rotated, emergency=True))
    assert said.startswith(
        "The stripe-key in force is NOT replaced: the one before it has to be retired first: "
    )
    assert "expire it in the Dashboard" in said
    assert rotated.variables[KEY] == new
    handed_over(rotated).unlink()

    sandbox.vendors.act("stripe", "expire_key", key=old)
    rotated.end_grace("stripe-key")
    assert completed(rotate(rotated)).endswith("Stripe refuses the old key (401).")
    assert rotated.is_settled()


def test_nobody_is_told_to_expire_an_old_key_that_a_person_put_back_and_an_emergency_replaces_it(
    rotated: Rotated, account: Account
) -> None:
    old = account.key
    hand_over(rotated, account.roll(old, expires_in=3600))
    failed(rotate(rotated))
    rotated.set_variables(STRIPE_SECRET_KEY=old)
    rotated.end_grace("stripe-key")
    said = failed(rotate(rotated))
    assert "is the old one again, so it is not retired" in said
    assert "expire" not in said

    new = account.roll(old)
    hand_over(rotated, new)
    said = completed(rotate(rotated, emergency=True))
    assert "Expire the key of the rotation before in Stripe's Dashboard, nothing uses it" in said
    assert rotated.variables[KEY] == new
    assert rotated.is_settled()


def test_without_a_key_nobody_is_asked_at_a_shell_and_nothing_is_changed(rotated: Rotated) -> None:
    message = failed(rotate(rotated))
    assert "approval" in message
    dry = rotate(rotated, dry_run=True)
    shown = artifacts_of(dry)["rotate-stripe-keys-plan-ledger"]
    assert f"leave the new one at file:{handed_over(rotated)}" in shown
    assert not rotated.kept()


class Waiting:
    """A run of a deployment that waits for a person, as a worker runs it."""

    def __init__(self, rotated: Rotated) -> None:
        self._parameters = {"service": rotated.ledger.name, "which": "key"}
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow_from_name("rotate-stripe-keys")
            deployment = client.create_deployment(
                flow_id, name=rotated.ledger.name, enforce_parameter_schema=False
            )
            self._run = client.create_flow_run_from_deployment(deployment).id

    def go_on(self) -> State[Any]:
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(self._run)
        try:
            state = run_flow(rotate_stripe_keys, flow_run, self._parameters, return_type="state")
        except Pause as pause:
            # A worker's process ends here.
            state = pause.state
        return cast("State[Any]", state)

    def answer(self, decision: str) -> None:
        with get_client(sync_client=True) as client:
            client.resume_flow_run(self._run, run_input={"decision": decision, "name": "Ada", "comment": ""})


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_deployed_run_waits_until_a_person_has_handed_the_key_over_and_does_as_the_form_says(
    rotated: Rotated, account: Account, decision: str
) -> None:
    waiting = Waiting(rotated)
    assert waiting.go_on().is_paused()
    # The old one is dead from here on, and the new one lies there: the answer counts, not that.
    new = account.roll(account.key)
    hand_over(rotated, new)
    waiting.answer(decision)
    state = waiting.go_on()
    if decision == "approve":
        assert completed(state).endswith("Stripe refuses the old key (401).")
        assert rotated.variables[KEY] == new
        assert not handed_over(rotated).exists()
    else:
        assert "the plan was rejected by Ada. Nothing was changed." in failed(state)
        assert rotated.variables[KEY] == account.key
        assert handed_over(rotated).read_text().strip() == new
    assert rotated.is_settled()


def test_killed_before_the_key_is_wiped_the_next_run_wipes_it(
    rotated: Rotated, account: Account, children: Children
) -> None:
    new = account.roll(account.key)
    hand_over(rotated, new)
    child = children.start(rotated.ledger, "rotate_stripe_keys", kill_after_step="setting it at the provider")
    assert child.wait() is None
    assert completed(rotate(rotated)).endswith("Stripe refuses the old key (401).")
    assert rotated.variables[KEY] == new
    assert not handed_over(rotated).exists()
    assert rotated.is_settled()


# --- The webhook's secret ---


def test_the_second_endpoint_takes_over_by_stages_and_no_event_is_lost(
    rotated: Rotated, account: Account, sandbox: Sandbox
) -> None:
    allow(rotated, sandbox, grace="PT1H", soak="P1D")
    account.pay()
    state = rotate(rotated, "webhook-secret")
    completed(state)
    account.pay()
    new = rotated.variables[SECRET]
    assert [status for _, status in account.list()] == ["enabled", "enabled"]
    assert (is_verified(rotated, new), is_verified(rotated, account.secret)) == (True, True)
    account.wait_for_deliveries()

    rotated.end_grace("stripe-webhook-secret")
    completed(rotate(rotated, "webhook-secret"))
    assert [status for _, status in account.list()] == ["enabled", "disabled"]
    assert BESIDE not in rotated.variables
    assert (is_verified(rotated, new), is_verified(rotated, account.secret)) == (True, False)

    account.pay()
    account.wait_for_deliveries()
    rotated.end_grace("stripe-webhook-secret")
    said = "The old endpoint is deleted, and an event signed with its secret is refused."
    assert completed(rotate(rotated, "webhook-secret")).endswith(said)
    assert [status for _, status in account.list()] == ["enabled"]
    assert not account.open(account.key).events.list({"delivery_success": False}).data
    assert rotated.is_settled()
    assert new not in "".join(artifacts_of(state).values())


@pytest.mark.parametrize("emergency", [False, True])
def test_no_endpoint_is_disabled_whose_secret_a_person_put_back(
    rotated: Rotated, account: Account, sandbox: Sandbox, emergency: bool
) -> None:
    allow(rotated, sandbox, grace="PT1H", soak="PT0S")
    completed(rotate(rotated, "webhook-secret"))
    new = rotated.variables[SECRET]
    rotated.set_variables(STRIPE_WEBHOOK_SECRET=account.secret)
    rotated.end_grace("stripe-webhook-secret")
    said = failed(rotate(rotated, "webhook-secret", emergency=emergency))
    assert "is the old one again, so it is not retired: put the new one there, Stripe's Dashboard" in said
    assert [status for _, status in account.list()] == ["enabled", "enabled"]

    rotated.set_variables(STRIPE_WEBHOOK_SECRET=new)
    completed(rotate(rotated, "webhook-secret", emergency=emergency))
    assert [status for _, status in account.list()] == ["enabled"]
    assert rotated.is_settled()


def test_an_emergency_ends_the_grace_of_an_earlier_rotation(
    rotated: Rotated, account: Account, sandbox: Sandbox
) -> None:
    allow(rotated, sandbox, grace="PT1H", previous_variable=None)
    completed(rotate(rotated, "webhook-secret"))
    first = rotated.variables[SECRET]
    completed(rotate(rotated, "webhook-secret", emergency=True))
    assert len(account.list()) == 1
    assert [is_verified(rotated, one) for one in (account.secret, first, rotated.variables[SECRET])] == [
        False,
        False,
        True,
    ]
    assert rotated.is_settled()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.stripe_asking._SOCKET_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"method": "POST", "status": 500, "times": 2}, "Stripe answered 500."),
        ({"method": "POST", "status": None, "works": True, "times": 2}, "Stripe did not answer"),
        ({"method": "POST", "status": 403}, "Stripe accepts STRIPE_SECRET_KEY, which may not do this (403)."),
    ],
)
def test_a_stripe_that_fails_leaves_the_old_secret_and_one_endpoint(
    rotated: Rotated, account: Account, sandbox: Sandbox, fault: dict[str, Any], said: str
) -> None:
    before = account.list()
    sandbox.vendors.conduct("stripe", faults=[{"path": ENDPOINTS, **fault}])
    message = failed(rotate(rotated, "webhook-secret"))
    assert said in message
    assert account.list() == before
    assert rotated.variables[SECRET] == account.secret
    assert rotated.is_settled()


def kill_webhook_rotation(rotated: Rotated, children: Children, **when: Any) -> None:
    child = children.start(
        rotated.ledger,
        "rotate_stripe_keys",
        parameters={"service": rotated.ledger.name, "which": "webhook-secret"},
        **when,
    )
    assert child.wait() is None


def test_killed_before_a_new_secret_is_kept_the_next_run_deletes_the_endpoint_that_nobody_can_use(
    rotated: Rotated, account: Account, children: Children
) -> None:
    kill_webhook_rotation(rotated, children, kill_when_called="tasks.rotator_stripe_webhook:Kept")
    assert [status for _, status in account.list()] == ["enabled", "enabled"]
    completed(rotate(rotated, "webhook-secret"))
    assert [status for _, status in account.list()] == ["enabled"]
    now = rotated.variables[SECRET]
    assert (is_verified(rotated, now), is_verified(rotated, account.secret)) == (True, False)
    assert rotated.is_settled()


def test_an_emergency_of_the_key_is_not_over_when_it_finished_a_killed_rotation_of_the_webhooks_secret(
    rotated: Rotated, account: Account, children: Children
) -> None:
    kill_webhook_rotation(rotated, children, kill_after_step="testing it")
    hand_over(rotated, account.roll(account.key, expires_in=3600))
    message = failed(rotate(rotated, emergency=True))
    assert "Stripe still accepts the old key" in message
    assert rotated.variables[KEY] != account.key
    assert rotated.variables[SECRET] != account.secret
    assert rotated.history() == ["rotated", "retired", "rotated"]


def test_an_emergency_replaces_what_a_killed_rotation_had_made_before_the_leak_was_known(
    rotated: Rotated, children: Children
) -> None:
    child = children.start(
        rotated.ledger,
        "rotate_stripe_keys",
        parameters={"service": rotated.ledger.name, "which": "webhook-secret"},
        kill_after_step="in force and proven",
    )
    assert child.wait() is None
    made_before = rotated.variables[SECRET]
    completed(rotate(rotated, "webhook-secret", emergency=True))
    assert not is_verified(rotated, made_before)
    assert is_verified(rotated, rotated.variables[SECRET])
    assert rotated.history() == ["rotated", "retired", "rotated", "retired"]
    assert rotated.is_settled()
