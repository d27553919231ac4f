"""Stripe's rotators against the double: what they refuse, what they wait for, and what they leave behind."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import stripe

from deployments.sandbox.stack import Sandbox
from tasks.credentials import resolve
from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    RefusedError,
    UnreachableError,
)
from tasks.handed_over import find_handed_over, leave_again, wipe_handed_over
from tasks.records.credential_care import Credentials, StripeKey, StripeWebhookSecret
from tasks.records.rotation import Kept
from tasks.records.service import ServiceProfile
from tasks.rotation_files import keep
from tasks.rotator_stripe_key import StripeKeyRotator
from tasks.rotator_stripe_webhook import StripeWebhookRotator
from tasks.stripe_events import want_verified
from tests.runbooks.conftest import wait_until

KEY, SECRET = "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"
URL = "https://api.example.com/webhook"
ROTATION = "20261122T110000-abcdef"


class Service:
    """A service with an env file of its own, and an account of Stripe's that nobody else has."""

    def __init__(self, sandbox: Sandbox, propertypulse: ServiceProfile, folder: Path) -> None:
        self.sandbox, self.account = sandbox, f"acct_{uuid4().hex}"
        self.at = f"{sandbox.endpoints.vendors}/stripe"
        self.place = folder / "new-key"
        terms = {
            "stripe_key": {"handed_over": f"file:{self.place}", "url": self.at},
            "stripe_webhook_secret": {"endpoint_url": URL, "probe_url": URL, "url": self.at},
        }
        self.profile = propertypulse.model_copy(
            update={
                "application": propertypulse.application.model_copy(update={"directory": folder}),
                "credentials": Credentials.model_validate(terms),
                "state_directory": folder / "state",
            }
        )
        self.env = folder / ".env"
        self.key = self.make_key()
        self.set_variables(self.key)

    def set_variables(self, key: str, secret: str = "whsec_0123456789abcdef") -> None:
        self.env.write_text(f"{KEY}={key}\n{SECRET}={secret}\n")

    def make_key(self, **told: Any) -> str:
        made = self.sandbox.vendors.act("stripe", "make_key", **{"account": self.account, **told})
        return str(made["key"])

    def hand_over(self, key: str) -> None:
        self.place.touch(mode=0o600)
        self.place.write_text(f"{key}\n")

    @property
    def keys(self) -> StripeKeyRotator:
        terms = self.profile.credentials.stripe_key
        assert isinstance(terms, StripeKey)
        return StripeKeyRotator(self.profile, terms)

    @property
    def webhooks(self) -> StripeWebhookRotator:
        terms = self.profile.credentials.stripe_webhook_secret
        assert isinstance(terms, StripeWebhookSecret)
        return StripeWebhookRotator(self.profile, terms)

    @property
    def stripe(self) -> Any:
        return stripe.StripeClient(self.key, base_addresses={"api": self.at}).v1

    def make_endpoint(self, url: str = URL) -> Any:
        return self.stripe.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})


@pytest.fixture
def service(sandbox: Sandbox, propertypulse: ServiceProfile, tmp_path: Path) -> Service:
    return Service(sandbox, propertypulse, tmp_path)


# --- The key ---


@pytest.mark.parametrize(
    ("told", "kind", "said"),
    [
        (None, ConfigurationError, "there is no new key at file:"),
        ("not-a-key-at-all", ConfigurationError, "is no secret or restricted Stripe key"),
        ("the present one", ConfigurationError, "is the present one"),
        ("sk_test_51unknown0123456789", DeadCredentialError, "Stripe does not accept the new key (401)"),
        ({"livemode": True}, ConfigurationError, "is of live mode, the present one of test mode"),
        ({"account": "acct_somebody_elses"}, ConfigurationError, "of the account acct_somebody_elses"),
        (
            {"permissions": ["rak_account_read", "rak_balance_read", "rak_event_read"]},
            AccessDeniedError,
            "too narrow (403): it may not read payments, take payments, refund, read webhook endpoints",
        ),
    ],
)
def test_a_key_that_cannot_follow_the_present_one_stays_where_it_lies(
    service: Service, monkeypatch: pytest.MonkeyPatch, told: Any, kind: type[Exception], said: str
) -> None:
    monkeypatch.setattr("tasks.rotator_stripe_key._KNOWN_EVERYWHERE_SECONDS", 0.3)
    wrong = service.key if told == "the present one" else told
    wrong = service.make_key(**wrong) if isinstance(wrong, dict) else wrong
    if wrong is not None:
        service.hand_over(wrong)
    with pytest.raises(kind) as refused:
        service.keys.make(ROTATION, {})
    assert said in str(refused.value)
    assert wrong is None or wrong not in str(refused.value)
    assert find_handed_over(f"file:{service.place}") == wrong


def test_a_narrow_key_may_follow_one_that_is_as_narrow(service: Service) -> None:
    rights = ["rak_payment_intent_write", "rak_payment_intent_read"]
    old, new = service.make_key(permissions=rights), service.make_key(permissions=rights)
    service.set_variables(old)
    service.hand_over(new)
    assert service.keys.make(ROTATION, {}).value(KEY) == new
    assert service.keys.accepts(Kept(ROTATION, {KEY: new}))


def test_a_new_key_is_compared_with_what_was_known_of_one_that_is_dead_by_now(service: Service) -> None:
    before = service.keys.observe()
    assert before.provider == {service.account: "its account"}
    service.sandbox.vendors.act("stripe", "roll_key", key=service.key)
    assert not service.keys.accepts(Kept(ROTATION, {KEY: service.key}))
    # Nothing that a plan rests on is otherwise.
    assert service.keys.observe().model_dump(exclude={"warnings"}) == before.model_dump(exclude={"warnings"})
    service.hand_over(service.make_key(account="acct_somebody_elses"))
    with pytest.raises(ConfigurationError, match=f"the present one of {service.account}"):
        service.keys.make(ROTATION, {})


@pytest.mark.parametrize(("grace", "said"), [("PT24H", "live for 1 day"), ("PT0S", "end at once")])
def test_a_person_is_told_to_let_the_old_key_live_as_long_as_it_is_waited_for(
    service: Service, grace: str, said: str
) -> None:
    terms = {"handed_over": f"file:{service.place}", "url": service.at, "grace": grace}
    (warning,) = StripeKeyRotator(service.profile, StripeKey.model_validate(terms)).observe().warnings
    assert f"let the old one {said}" in warning


def test_the_key_is_wiped_where_it_lay_and_left_there_again_when_it_is_given_up(service: Service) -> None:
    new = service.make_key()
    service.hand_over(new)
    kept, old = service.keys.make(ROTATION, {}), Kept(ROTATION, {KEY: service.key})
    service.keys.put_in_force(kept, old)
    assert not service.place.exists()
    service.keys.put_in_force(kept, old)
    service.keys.discard(ROTATION, {}, kept)
    assert service.place.read_text() == new
    assert service.place.stat().st_mode & 0o777 == 0o600
    # Another one that a person left meanwhile stays.
    service.hand_over("sk_test_51another0123456789")
    service.keys.put_in_force(kept, old)
    service.keys.discard(ROTATION, {}, kept)
    assert service.place.read_text().strip() == "sk_test_51another0123456789"


@pytest.mark.usefixtures("prefect_server")
def test_a_secret_block_is_emptied_and_filled_again() -> None:
    leave_again("block:new-stripe-key", "sk_test_51fromablock0123")
    assert resolve("block:new-stripe-key") == "sk_test_51fromablock0123"
    wipe_handed_over("block:new-stripe-key")
    wipe_handed_over("block:new-stripe-key")
    assert find_handed_over("block:new-stripe-key") is None


def test_a_stripe_that_does_not_answer_is_no_key_that_is_dead(service: Service) -> None:
    service.sandbox.vendors.conduct("stripe", mode="down")
    try:
        with pytest.raises(UnreachableError, match=r"Stripe answered 503\."):
            service.keys.accepts(Kept(ROTATION, {KEY: service.key}))
    finally:
        service.sandbox.vendors.conduct("stripe", mode="up")


# --- The webhook's secret ---


def test_an_endpoint_that_is_not_clear_or_has_no_room_beside_it_is_refused_with_the_way_out(
    service: Service,
) -> None:
    assert "Stripe has no enabled endpoint for" in str(service.webhooks.observe().refusal)
    first = service.make_endpoint()
    assert service.webhooks.observe().refusal is None
    second = service.make_endpoint()
    said = str(service.webhooks.observe().refusal)
    assert f"2 enabled endpoints ({second.id}, {first.id})" in said
    service.stripe.webhook_endpoints.update(second.id, {"disabled": True})
    assert service.webhooks.observe().refusal is None
    for number in range(14):
        service.make_endpoint(f"https://api.example.com/{number}")
    assert "Stripe has 16 endpoints already" in str(service.webhooks.observe().refusal)
    service.set_variables(service.key, "secret")
    assert "is no signing secret" in str(service.webhooks.observe().refusal)


def test_a_second_endpoint_is_like_the_first_and_is_found_by_the_rotations_id(service: Service) -> None:
    described = {"description": "payments", "metadata": {"team": "payments"}, "api_version": "2024-06-20"}
    made = service.stripe.webhook_endpoints.create(
        {"url": URL, "enabled_events": ["charge.failed"], **described}
    )
    before = service.webhooks.observe().provider
    assert before == {made.id: "enabled"}
    # What an earlier try of the same rotation left is no endpoint of its own.
    orphan = service.webhooks.make(ROTATION, before).facts["endpoint"]
    kept = service.webhooks.make(ROTATION, before)
    there = {one.id: one for one in service.stripe.webhook_endpoints.list().data}
    assert there.keys() == {made.id, kept.facts["endpoint"]}
    assert orphan not in there
    new = there[kept.facts["endpoint"]]
    assert (new.enabled_events, new.description, new.api_version) == (
        ["charge.failed"],
        "payments",
        "2024-06-20",
    )
    assert new.to_dict()["metadata"] == {"team": "payments", "runbook_rotation": ROTATION}
    assert kept.value(SECRET).startswith("whsec_")
    service.webhooks.discard(ROTATION, before, None)
    assert [one.id for one in service.stripe.webhook_endpoints.list().data] == [made.id]


@pytest.mark.parametrize(
    ("previous_variable", "said"),
    [
        ("STRIPE_WEBHOOK_SECRET_PREVIOUS", "takes each event twice, once by each endpoint: it has to know"),
        (None, "refuses each event that comes by the other endpoint"),
    ],
)
def test_the_plan_says_what_two_endpoints_mean_for_the_application(
    service: Service, previous_variable: str | None, said: str
) -> None:
    service.set_variables(service.key, str(service.make_endpoint().secret))
    terms = service.profile.credentials.stripe_webhook_secret
    assert terms is not None
    changed = terms.model_copy(update={"previous_variable": previous_variable})
    (warning,) = StripeWebhookRotator(service.profile, changed).observe().warnings
    assert said in warning


def test_a_secret_is_accepted_while_its_endpoint_is_enabled(service: Service) -> None:
    made = service.make_endpoint()
    service.set_variables(service.key, made.secret)
    old = Kept(ROTATION, {SECRET: str(made.secret)})
    keep(service.profile, "stripe-webhook-secret", "previous", old)
    kept = service.webhooks.make(ROTATION, {made.id: "enabled"})
    keep(service.profile, "stripe-webhook-secret", "pending", kept)
    person = Kept(ROTATION, {SECRET: "whsec_of_somebody_else"})
    assert [service.webhooks.accepts(one) for one in (old, kept, person)] == [True, True, False]
    service.webhooks.retire("disable the old endpoint at Stripe", kept, old)
    assert [service.webhooks.accepts(one) for one in (old, kept)] == [False, True]
    with pytest.raises(RefusedError, match="Stripe still has the old endpoint"):
        service.webhooks.prove_refused("delete the old endpoint at Stripe", old)
    for _ in range(2):
        service.webhooks.retire("delete the old endpoint at Stripe", kept, old)
    service.webhooks.discard(ROTATION, {}, kept)
    assert not service.webhooks.accepts(kept)


def test_the_old_endpoint_is_in_use_while_an_older_event_is_to_be_delivered(service: Service) -> None:
    made = service.make_endpoint("http://127.0.0.1:1/webhook")
    terms = service.profile.credentials.stripe_webhook_secret
    assert terms is not None
    rotator = StripeWebhookRotator(service.profile, terms.model_copy(update={"endpoint_url": made.url}))
    event = service.stripe.payment_intents.create({"amount": 500, "currency": "usd"})
    # Stripe tells times in whole seconds.
    wait_until(lambda: time.time() >= event.created + 1)
    kept, old = rotator.make(ROTATION, {made.id: "enabled"}), Kept(ROTATION, {SECRET: "whsec_old"})
    keep(service.profile, "stripe-webhook-secret", "pending", kept)
    said = rotator.find_use("disable the old endpoint at Stripe", old)
    assert said == "1 event is older than the new endpoint and still to be delivered"
    assert rotator.find_use("delete the old endpoint at Stripe", old) is None


def test_an_event_that_only_the_present_endpoint_has_to_deliver_is_told_where_one_secret_is_accepted(
    service: Service,
) -> None:
    made = service.make_endpoint("http://127.0.0.1:1/webhook")
    service.set_variables(service.key, str(made.secret))
    terms = service.profile.credentials.stripe_webhook_secret
    assert terms is not None
    terms = terms.model_copy(update={"endpoint_url": made.url, "previous_variable": None})
    event = service.stripe.payment_intents.create({"amount": 500, "currency": "usd"})
    wait_until(lambda: time.time() >= event.created + 1)
    warnings = StripeWebhookRotator(service.profile, terms).observe().warnings
    assert "1 event is still to be delivered by the present endpoint only, and will be refused" in warnings[1]


@pytest.mark.parametrize("accepted", [True, False])
def test_an_application_that_has_too_many_requests_neither_accepts_nor_refuses(
    propertypulse: ServiceProfile, accepted: bool
) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(429)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        with pytest.raises(UnreachableError, match="not say whether the secret is valid: it answered 429"):
            want_verified(propertypulse, url, "whsec_x", "the secret", accepted=accepted)
        server.shutdown()
