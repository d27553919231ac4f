"""The doubles of Stripe and SendGrid answer the official libraries as the vendors do, and forget nothing."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe
from python_http_client.client import Client  # type: ignore[import-untyped]
from python_http_client.exceptions import HTTPError  # type: ignore[import-untyped]
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]

from deployments.sandbox.applications import PROPERTYPULSE
from deployments.sandbox.stack import Sandbox
from tests.runbooks.conftest import wait_until

EVENTS = ["payment_intent.succeeded"]
MAIL = {
    "personalizations": [{"to": [{"email": "ada@example.com"}]}],
    "from": {"email": "app@example.com"},
    "subject": "Hello",
    "content": [{"type": "text/plain", "value": "Hello"}],
}
SANDBOXED = MAIL | {"mail_settings": {"sandbox_mode": {"enable": True}}}


# --- Stripe ---


class Listener:
    """An application that takes events, or refuses the first ones."""

    def __init__(self, *, refusals: int = 0) -> None:
        self.came: list[tuple[dict[str, Any], str]] = []
        self.refusals = refusals
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                refused = listener.refusals > 0
                listener.refusals -= refused
                if not refused:
                    listener.came.append((json.loads(body), self.headers["Stripe-Signature"]))
                    listener.bodies.append(body)
                self.send_response(500 if refused else 200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
                pass

        self.bodies: list[bytes] = []
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


def open_stripe(sandbox: Sandbox, key: str, **more: Any) -> stripe.StripeClient:
    at = f"{sandbox.endpoints.vendors}/stripe"
    return stripe.StripeClient(key, base_addresses={"api": at}, max_network_retries=0, **more)


@pytest.fixture
def make_key(sandbox: Sandbox) -> Callable[..., str]:
    """A maker of keys of an account of the test's own, whose endpoints and events nobody else has."""
    account = f"acct_{uuid4().hex}"

    def make(**told: Any) -> str:
        return str(sandbox.vendors.act("stripe", "make_key", **{"account": account, **told})["key"])

    return make


def test_a_rolled_key_ends_at_once_or_later_and_its_successor_is_of_the_same_account(
    sandbox: Sandbox, make_key: Callable[..., str]
) -> None:
    old = make_key()
    later = sandbox.vendors.act("stripe", "roll_key", key=old, expires_in=3600)["key"]
    clients = [open_stripe(sandbox, key).v1 for key in (old, later)]
    (account, same) = [client.accounts.retrieve_current().id for client in clients]
    assert account == same
    now = sandbox.vendors.act("stripe", "roll_key", key=later)["key"]
    open_stripe(sandbox, now).v1.balance.retrieve()
    with pytest.raises(stripe.AuthenticationError, match="Expired API Key"):
        clients[1].balance.retrieve()
    sandbox.vendors.act("stripe", "expire_key", key=old)
    with pytest.raises(stripe.AuthenticationError, match="Expired API Key"):
        clients[0].balance.retrieve()


def test_keys_that_are_unknown_narrow_or_of_the_other_mode_are_told_apart(
    sandbox: Sandbox, make_key: Callable[..., str]
) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key"):
        open_stripe(sandbox, "sk_test_nobody0123456789").v1.balance.retrieve()
    narrow = open_stripe(sandbox, make_key(permissions=["rak_balance_read"])).v1
    narrow.balance.retrieve()
    with pytest.raises(stripe.PermissionError, match="rak_webhook_write"):
        narrow.webhook_endpoints.create({"url": "https://example.com", "enabled_events": ["*"]})
    live, test = (open_stripe(sandbox, make_key(livemode=mode)).v1 for mode in (True, False))
    made = live.webhook_endpoints.create({"url": "https://example.com", "enabled_events": ["*"]})
    assert (made.livemode, live.balance.retrieve().livemode, test.balance.retrieve().livemode) == (
        True,
        True,
        False,
    )
    with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint"):
        test.webhook_endpoints.retrieve(made.id)


def test_an_endpoints_secret_is_shown_once_and_there_are_sixteen_at_most(
    sandbox: Sandbox, make_key: Callable[..., str]
) -> None:
    endpoints = open_stripe(sandbox, make_key()).v1.webhook_endpoints
    made = [
        endpoints.create(
            {"url": "https://example.com/a", "enabled_events": ["*"], "metadata": {"rotation": str(number)}}
        )
        for number in range(16)
    ]
    assert len({one.secret for one in made}) == 16
    with pytest.raises(stripe.InvalidRequestError, match="maximum of 16"):
        endpoints.create({"url": "https://example.com/a", "enabled_events": ["*"]})
    listed = list(endpoints.list({"limit": 7}).auto_paging_iter())
    assert [one.id for one in listed] == [one.id for one in reversed(made)]
    assert not any("secret" in one.to_dict() for one in listed)
    changed = endpoints.update(made[0].id, {"disabled": True, "metadata": {"rotation": "", "new": "1"}})
    assert (changed.status, changed.to_dict()["metadata"]) == ("disabled", {"new": "1"})
    assert endpoints.delete(made[0].id).deleted
    with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint"):
        endpoints.retrieve(made[0].id)


def test_events_come_signed_to_each_enabled_endpoint_until_they_are_taken(
    sandbox: Sandbox, make_key: Callable[..., str], listener: Listener
) -> None:
    client = open_stripe(sandbox, make_key()).v1
    told: Any = {"url": listener.url, "enabled_events": EVENTS}
    first, second, off = [client.webhook_endpoints.create(told) for _ in range(3)]
    client.webhook_endpoints.update(off.id, {"disabled": True})
    listener.refusals = 1
    paid = client.payment_intents.create(
        {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    )
    wait_until(lambda: len(listener.came) == 2)
    verified = set()
    for body, (event, header) in zip(listener.bodies, listener.came, strict=True):
        assert event["data"]["object"]["id"] == paid.id
        for endpoint in (first, second):
            try:
                stripe.Webhook.construct_event(body, header, str(endpoint.secret))
            except stripe.SignatureVerificationError:
                continue
            verified.add(endpoint.id)
    assert verified == {first.id, second.id}
    wait_until(lambda: client.events.retrieve(listener.came[0][0]["id"]).pending_webhooks == 0)
    assert [event.type for event in client.events.list({"type": EVENTS[0]}).data] == EVENTS


def test_what_an_endpoint_did_not_take_is_told_and_given_up_when_it_is_disabled(
    sandbox: Sandbox, make_key: Callable[..., str]
) -> None:
    client = open_stripe(sandbox, make_key()).v1
    dead = client.webhook_endpoints.create(
        {"url": "http://127.0.0.1:1/", "enabled_events": ["payment_intent.created"]}
    )
    client.payment_intents.create({"amount": 500, "currency": "usd"})
    (event,) = client.events.list({"delivery_success": False}).data
    assert event.pending_webhooks == 1
    client.webhook_endpoints.update(dead.id, {"disabled": True})
    wait_until(lambda: client.events.retrieve(event.id).pending_webhooks == 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("url=https://a.example&enabled_events[0]=*&colour=red", "Received unknown parameter: colour"),
        ("url=https://a.example", "Missing required param: enabled_events."),
        ("url=a.example&enabled_events[0]=*", "Invalid URL: An explicit scheme"),
        ("url=https://a.example&enabled_events=*", "Invalid array: enabled_events"),
        ("url=https://a.example&enabled_events[0]=everything", "Invalid enabled_events"),
        ("url=https://a.example&enabled_events[0]=*&connect=maybe", "Invalid boolean: connect"),
        ("url=https://a.example&enabled_events[0]=*&metadata[a][b]=1", "Invalid hash: metadata"),
        ("url=&enabled_events[0]=*", "You passed an empty string"),
    ],
)
def test_stripe_refuses_what_its_interface_does_not_know(
    sandbox: Sandbox, make_key: Callable[..., str], body: str, said: str
) -> None:
    answer = httpx.post(
        f"{sandbox.endpoints.vendors}/stripe/v1/webhook_endpoints",
        content=body,
        headers={"Authorization": f"Bearer {make_key()}"},
    )
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_a_creation_that_was_done_but_not_answered_is_done_once_when_the_library_asks_again(
    sandbox: Sandbox, make_key: Callable[..., str]
) -> None:
    # Never answered, answered with an error after the work, and before it.
    fault = {"path": "/v1/webhook_endpoints", "method": "POST"}
    sandbox.vendors.conduct(
        "stripe",
        faults=[{**fault, "status": None, "works": True}, {**fault, "works": True}, {**fault, "status": 429}],
    )
    client = stripe.StripeClient(
        make_key(),
        base_addresses={"api": f"{sandbox.endpoints.vendors}/stripe"},
        max_network_retries=1,
        http_client=stripe.RequestsClient(timeout=0.5),
    )
    endpoints = client.v1.webhook_endpoints
    told: Any = {"url": "https://example.com/a", "enabled_events": ["*"]}
    with pytest.raises(stripe.APIError):
        endpoints.create(told)
    assert len(endpoints.list().data) == 1
    with pytest.raises(stripe.RateLimitError):
        endpoints.create(told)
    assert endpoints.create(told).secret.startswith("whsec_")  # type: ignore[union-attr]
    assert len(endpoints.list().data) == 2


# --- SendGrid ---


def open_sendgrid(sandbox: Sandbox, key: str) -> Client:
    return SendGridAPIClient(key, host=f"{sandbox.endpoints.vendors}/sendgrid").client


@pytest.fixture
def manager(sandbox: Sandbox) -> Iterator[Client]:
    """The operator's client; what it made besides the first three keys is deleted again."""
    client = open_sendgrid(sandbox, sandbox.vault.read("sendgrid-manager-key"))
    before = [one["api_key_id"] for one in client.api_keys.get().to_dict["result"]]
    yield client
    for one in client.api_keys.get().to_dict["result"]:
        if one["api_key_id"] not in before:
            client.api_keys._(one["api_key_id"]).delete()


def refused(act: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HTTPError) as error:
        act()
    return error.value.status_code, error.value.to_dict["errors"][0]["message"]


def test_a_sendgrid_key_lives_from_its_creation_to_its_deletion(sandbox: Sandbox, manager: Client) -> None:
    answer = manager.api_keys.post(request_body={"name": "new", "scopes": ["mail.send"]})
    made = answer.to_dict
    assert answer.status_code == 201
    assert len(made["api_key"]) == 69
    assert made["api_key"].split(".")[:2] == ["SG", made["api_key_id"]]
    one, client = manager.api_keys._(made["api_key_id"]), open_sendgrid(sandbox, made["api_key"])
    (shown,) = one.get().to_dict["result"]
    assert "api_key" not in shown
    # Two that nobody asks for are on every key.
    assert shown["scopes"] == ["2fa_required", "mail.send", "sender_verification_eligible"]
    assert client.scopes.get().to_dict["scopes"] == shown["scopes"]
    assert one.patch(request_body={"name": "renamed"}).to_dict["name"] == "renamed"
    one.put(request_body={"name": "wider", "scopes": ["mail.send", "stats.read"]})
    assert "stats.read" in client.scopes.get().to_dict["scopes"]
    assert one.delete().status_code == 204
    assert refused(client.scopes.get)[0] == 401
    assert refused(one.get) == (404, "unable to find API Key")


def test_sendgrid_has_a_hundred_keys_at_most(manager: Client) -> None:
    here = len(manager.api_keys.get().to_dict["result"])
    for number in range(100 - here):
        manager.api_keys.post(request_body={"name": str(number), "scopes": ["mail.send"]})
    full = refused(lambda: manager.api_keys.post(request_body={"name": "more", "scopes": ["mail.send"]}))
    assert full == (403, "Cannot create more than 100 API Keys")


def test_a_key_can_do_no_more_than_its_maker_and_sendgrid_takes_no_unknown_field(
    sandbox: Sandbox, manager: Client
) -> None:
    make = manager.api_keys.post
    status, said = refused(lambda: make(request_body={"name": "a", "scopes": ["user.delete"]}))
    assert (status, "user.delete" in said) == (403, True)
    assert refused(lambda: make(request_body={"name": "a", "colour": "red"}))[0] == 400
    assert refused(lambda: make(request_body={"scopes": []}))[0] == 400
    assert refused(lambda: make(request_body={"name": "a", "scopes": "mail.send"}))[0] == 400
    application = open_sendgrid(sandbox, sandbox.applications.setting(PROPERTYPULSE, "SENDGRID_API_KEY"))
    assert refused(application.api_keys.get) == (403, "access forbidden")


def test_a_mail_in_sandbox_mode_is_checked_and_kept_nowhere(sandbox: Sandbox, manager: Client) -> None:
    kept = len(sandbox.vendors.read_kept("sendgrid"))
    sender = open_sendgrid(sandbox, sandbox.vault.read("mail-key"))
    assert sender.mail.send.post(request_body=SANDBOXED).status_code == 200
    assert len(sandbox.vendors.read_kept("sendgrid")) == kept
    assert sender.mail.send.post(request_body=MAIL).status_code == 202
    assert len(sandbox.vendors.read_kept("sendgrid")) == kept + 1
    wrong = SANDBOXED | {"mail_settings": {"sandbox_mode": {"enable": "yes"}}}
    assert refused(lambda: sender.mail.send.post(request_body=wrong))[0] == 400
    narrow = manager.api_keys.post(request_body={"name": "narrow", "scopes": ["stats.read"]}).to_dict
    client = open_sendgrid(sandbox, narrow["api_key"])
    assert refused(lambda: client.mail.send.post(request_body=SANDBOXED)) == (403, "access forbidden")


def test_the_escalation_sends_with_a_key_of_its_own(sandbox: Sandbox) -> None:
    applications = sandbox.applications.setting(PROPERTYPULSE, "SENDGRID_API_KEY")
    assert sandbox.vault.read("mail-key") != applications
    assert open_sendgrid(sandbox, applications).scopes.get().status_code == 200


# --- Both ---


@pytest.fixture
def behaving_after(sandbox: Sandbox) -> Iterator[None]:
    yield
    for vendor in ("stripe", "sendgrid"):
        sandbox.vendors.conduct(vendor, faults=[], propagation_seconds=0)


def test_a_new_key_takes_its_time_until_it_is_known_everywhere(
    sandbox: Sandbox, manager: Client, make_key: Callable[..., str], behaving_after: None
) -> None:
    made = manager.api_keys.post(request_body={"name": "new", "scopes": ["mail.send"]}).to_dict
    scopes = open_sendgrid(sandbox, made["api_key"]).scopes
    balance = open_stripe(sandbox, make_key()).v1.balance
    for vendor in ("stripe", "sendgrid"):
        sandbox.vendors.conduct(vendor, propagation_seconds=3600)
    assert refused(scopes.get)[0] == 401
    with pytest.raises(stripe.AuthenticationError):
        balance.retrieve()
    for vendor in ("stripe", "sendgrid"):
        sandbox.vendors.conduct(vendor, propagation_seconds=0.01)
    assert scopes.get().status_code == 200
    assert balance.retrieve().object == "balance"


def test_faults_befall_the_next_requests_that_match_and_outlive_the_process(
    sandbox: Sandbox, manager: Client, behaving_after: None
) -> None:
    fault = {"path": "/v3/api_keys", "method": "GET"}
    sandbox.vendors.conduct("sendgrid", faults=[{**fault, "status": 429, "times": 2}])
    assert refused(manager.api_keys.get)[0] == 429
    assert manager.scopes.get().status_code == 200
    sandbox.vendors.kill()
    sandbox.vendors.start()
    assert refused(manager.api_keys.get)[0] == 429
    assert manager.api_keys.get().status_code == 200


def test_what_the_vendors_know_outlives_their_process(
    sandbox: Sandbox, manager: Client, make_key: Callable[..., str]
) -> None:
    endpoints = open_stripe(sandbox, make_key()).v1.webhook_endpoints
    made = endpoints.create({"url": "https://example.com/a", "enabled_events": ["*"]})
    key = manager.api_keys.post(request_body={"name": "kept", "scopes": ["mail.send"]}).to_dict["api_key"]
    sandbox.vendors.kill()
    sandbox.vendors.start()
    assert [one.id for one in endpoints.list().data] == [made.id]
    assert open_sendgrid(sandbox, key).scopes.get().status_code == 200
    state = sandbox.state / "vendors"
    assert {file.stat().st_mode & 0o777 for file in state.iterdir()} == {0o600}
    assert key not in (state / "sendgrid.json").read_text()
