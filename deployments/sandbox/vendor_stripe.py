"""Stripe in small: one account and what it has, asked as the official library asks."""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deployments.sandbox import vendor_forms as forms
from deployments.sandbox import vendor_stripe_endpoints as endpoints
from deployments.sandbox import vendor_stripe_payments as payments
from deployments.sandbox.vault import Vault, hex_key
from deployments.sandbox.vendor_protocol import Act, Conduct, VendorAnswer, VendorRequest
from deployments.sandbox.vendor_state import VendorState
from deployments.sandbox.vendor_stripe_delivery import Delivery
from deployments.sandbox.vendor_stripe_keys import (
    KEY_PREFIX,
    PERMISSIONS,
    KeyPages,
    Record,
    StripeError,
    authenticate,
    permit,
    record_of,
)

KEY = "propertypulse-stripe-key"
WEBHOOK_SECRET = "propertypulse-stripe-webhook"
WEBHOOK_PATH = "/api/webhooks/stripe"
_PATH = re.compile(r"(?P<resource>/v1/[a-z_]+)(?:/(?P<identity>[A-Za-z0-9_]+))?")
_LISTING: dict[str, forms.Reader] = {
    "created": forms.span,
    "limit": forms.integer,
    "starting_after": forms.text,
    "type": forms.text,
    "delivery_success": forms.boolean,
}
_MOST_LISTED = 100


def first_key(vault: Vault) -> str:
    """Return the key that the application has from its first day."""
    return KEY_PREFIX + vault.once(KEY, hex_key)


def first_webhook_secret(vault: Vault) -> str:
    """Return the secret that the application's first endpoint signs with."""
    return f"whsec_{vault.once(WEBHOOK_SECRET, hex_key)}"


class Stripe:
    """Stripe's API and the pages of its Dashboard."""

    name = "stripe"

    def __init__(self, vault: Vault, state: Path, application: str) -> None:
        """Take where the first secrets are, where it keeps what it knows, and the application's address."""
        self._vault = vault
        self._application = application
        self._state = VendorState(state / "stripe.json", self._first)
        self._delivery = Delivery(self._state)
        self.dashboard: Mapping[str, Act] = {**KeyPages(self._state).acts, "deliveries": self._deliveries}
        self._follow_application()
        self._delivery.start()

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as api.stripe.com does."""
        try:
            with self._state.opened() as document:
                record = authenticate(document, request.key, conduct)
                body = self._once(document, record, request)
        except forms.FormError as error:
            wrong = StripeError(400, str(error), code=error.code, param=error.param)
            return _with_id(wrong.answer)
        except StripeError as error:
            return _with_id(error.answer)
        self._delivery.wake()
        return _with_id(VendorAnswer(200, body))

    def fail(self, status: int) -> VendorAnswer:
        """Answer in Stripe's words that something failed."""
        if status == 429:  # noqa: PLR2004
            return _with_id(StripeError(429, "Request rate limit exceeded.", code="rate_limit").answer)
        if status < 500:  # noqa: PLR2004
            return _with_id(StripeError(status, "This request is not allowed.").answer)
        error = {"type": "api_error", "message": "An unknown error occurred"}
        return _with_id(VendorAnswer(status, {"error": error}))

    def _once(self, document: Record, record: Record, request: VendorRequest) -> Record:
        """Answer a POST that comes a second time with the same idempotency key as the first time."""
        name = request.headers.get("idempotency-key")
        if name is None or request.method != "POST":
            return _act(document, record, request)
        asked = [request.path, request.body.decode("utf-8", "replace")]
        done = document["done"].get(name)
        if done is not None and done["asked"] != asked:
            message = "Keys for idempotent requests can only be used with the same parameters."
            raise StripeError(400, message, code="idempotency_error")
        if done is None:
            done = document["done"][name] = {"asked": asked, "body": _act(document, record, request)}
        return dict(done["body"])

    def _first(self) -> Record:
        url, secret = f"{self._application}{WEBHOOK_PATH}", first_webhook_secret(self._vault)
        return {
            "application": self._application,
            "keys": [record_of(first_key(self._vault)) | {"created": 0}],
            "endpoints": [endpoints.first_endpoint(url, secret)],
            "intents": [],
            "events": [],
            "deliveries": [],
            "done": {},
        }

    def _follow_application(self) -> None:
        """Let the endpoints lead to where the application is since the sandbox's last start."""
        with self._state.opened() as document:
            for endpoint in document["endpoints"]:
                endpoint["url"] = endpoint["url"].replace(document["application"], self._application)
            document["application"] = self._application

    def _deliveries(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Show which event came to which endpoint, and after how many tries."""
        with self._state.opened() as document:
            return {"deliveries": list(document["deliveries"])}


def _act(document: Record, record: Record, request: VendorRequest) -> Record:
    found = _PATH.fullmatch(request.path.rstrip("/"))
    if found is None or found["resource"] not in PERMISSIONS:
        raise _unknown(request)
    resource, identity = found["resource"], found["identity"]
    permit(record, request.key or "", request.method, resource)
    ways: dict[tuple[str, str, bool], Callable[[str], Record]] = {
        ("GET", "/v1/account", False): lambda _: _ACCOUNT | {"id": record["account"]},
        ("GET", "/v1/balance", False): lambda _: _BALANCE | {"livemode": record["livemode"]},
        ("GET", "/v1/webhook_endpoints", False): lambda form: _page(
            request, endpoints.list_endpoints(document, record), form
        ),
        ("GET", "/v1/webhook_endpoints", True): lambda _: endpoints.find_endpoint(document, record, identity),
        ("POST", "/v1/webhook_endpoints", False): lambda form: endpoints.make_endpoint(
            document, record, form
        ),
        ("POST", "/v1/webhook_endpoints", True): lambda form: endpoints.change_endpoint(
            document, record, identity, form
        ),
        ("DELETE", "/v1/webhook_endpoints", True): lambda _: endpoints.delete_endpoint(
            document, record, identity
        ),
        ("GET", "/v1/payment_intents", False): lambda form: _page(
            request, payments.list_intents(document, record), form
        ),
        ("GET", "/v1/payment_intents", True): lambda _: payments.find_intent(document, record, identity),
        ("POST", "/v1/payment_intents", False): lambda form: payments.make_intent(document, record, form),
        ("GET", "/v1/events", False): lambda form: _page(
            request, payments.list_events(document, record, forms.read_form(form, _LISTING)), form
        ),
        ("GET", "/v1/events", True): lambda _: payments.find_event(document, record, identity),
    }
    way = ways.get((request.method, resource, identity is not None))
    if way is None:
        raise _unknown(request)
    return way(request.query if request.method == "GET" else request.body.decode("utf-8", "replace"))


def _page(request: VendorRequest, found: list[Record], form: str) -> Record:
    given = forms.read_form(form, _LISTING)
    limit = given.get("limit", 10)
    if not 1 <= limit <= _MOST_LISTED:
        raise StripeError(400, "Invalid integer: limit is between 1 and 100.", param="limit")
    names = [one["id"] for one in found]
    if "starting_after" in given and given["starting_after"] not in names:
        raise StripeError(400, "No such object to start after.", param="starting_after")
    start = names.index(given["starting_after"]) + 1 if "starting_after" in given else 0
    return {
        "object": "list",
        "url": request.path,
        "has_more": len(found) > start + limit,
        "data": found[start : start + limit],
    }


_BALANCE = {
    "object": "balance",
    "available": [{"amount": 125_000, "currency": "usd", "source_types": {"card": 125_000}}],
    "livemode": False,
    "pending": [{"amount": 4_200, "currency": "usd", "source_types": {"card": 4_200}}],
}
_ACCOUNT = {
    "object": "account",
    "charges_enabled": True,
    "country": "US",
    "default_currency": "usd",
    "payouts_enabled": True,
    "type": "standard",
}


def _unknown(request: VendorRequest) -> StripeError:
    return StripeError(404, f"Unrecognized request URL ({request.method}: {request.path}).")


def _with_id(answer: VendorAnswer) -> VendorAnswer:
    headers = {"Request-Id": f"req_{secrets.token_hex(7)}"}
    if answer.status == 401:  # noqa: PLR2004
        headers["WWW-Authenticate"] = 'Basic realm="Stripe"'
    return VendorAnswer(answer.status, json.loads(json.dumps(answer.body)), headers)
