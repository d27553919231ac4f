"""Stripe's payment intents, and the events that tell of them."""

import operator
import secrets
import time
from typing import Any

from deployments.sandbox import vendor_forms as forms
from deployments.sandbox.vendor_stripe_keys import Record, StripeError

_CURRENCIES = {"aud", "eur", "gbp", "usd"}
_METHODS = {"pm_card_visa", "pm_card_mastercard"}
_BOUNDS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
_TO_MAKE: dict[str, forms.Reader] = {
    "amount": forms.integer,
    "currency": forms.text,
    "confirm": forms.boolean,
    "description": forms.any_text,
    "metadata": forms.metadata,
    "payment_method": forms.text,
    "payment_method_types": forms.texts,
}


def make_intent(document: Record, mode: Record, form: str) -> Record:
    """Make an intent to pay; one that is confirmed at once succeeds at once."""
    given = forms.read_form(form, _TO_MAKE, ("amount", "currency"))
    if given["amount"] <= 0:
        raise StripeError(400, "This value must be greater than or equal to 1.", param="amount")
    if given["currency"] not in _CURRENCIES:
        raise StripeError(400, f"Invalid currency: {given['currency']}.", param="currency")
    if given.get("payment_method", "pm_card_visa") not in _METHODS:
        raise StripeError(400, "No such PaymentMethod.", code="resource_missing", param="payment_method")
    if given.get("confirm") and "payment_method" not in given:
        raise StripeError(400, "You cannot confirm this PaymentIntent because it's missing a payment method.")
    identity = f"pi_3{secrets.token_hex(12)}"
    intent = {
        "id": identity,
        "object": "payment_intent",
        "amount": given["amount"],
        "client_secret": f"{identity}_secret_{secrets.token_hex(12)}",
        "created": int(time.time()),
        "currency": given["currency"],
        "description": given.get("description"),
        "livemode": mode["livemode"],
        "metadata": given.get("metadata", {}),
        "payment_method": given.get("payment_method"),
        "payment_method_types": given.get("payment_method_types", ["card"]),
        "status": "requires_payment_method",
        "account": mode["account"],
    }
    document["intents"].append(intent)
    add_event(document, mode, "payment_intent.created", intent)
    if given.get("confirm"):
        intent["status"] = "succeeded"
        add_event(document, mode, "payment_intent.succeeded", intent)
    return _shown(intent)


def find_intent(document: Record, mode: Record, identity: str) -> Record:
    """Return one intent.

    Raises:
        StripeError: there is none.
    """
    return _find(document["intents"], mode, identity, "payment_intent")


def list_intents(document: Record, mode: Record) -> list[Record]:
    """Return the intents, the newest first."""
    return [_shown(one) for one in reversed(document["intents"]) if _is_of(one, mode)]


def find_event(document: Record, mode: Record, identity: str) -> Record:
    """Return one event.

    Raises:
        StripeError: there is none.
    """
    return _told(document, _find(document["events"], mode, identity, "event"))


def list_events(document: Record, mode: Record, given: dict[str, Any]) -> list[Record]:
    """Return the events, the newest first, of a type, or by whether every endpoint took them."""
    events = [_told(document, _shown(one)) for one in reversed(document["events"]) if _is_of(one, mode)]
    if "type" in given:
        events = [event for event in events if event["type"] == given["type"]]
    for bound, seconds in given.get("created", {}).items():
        events = [event for event in events if _BOUNDS[bound](event["created"], seconds)]
    if "delivery_success" in given:
        failed = {one["event"] for one in document["deliveries"] if one["state"] != "delivered"}
        events = [event for event in events if (event["id"] not in failed) == given["delivery_success"]]
    return events


def add_event(document: Record, mode: Record, kind: str, what: Record) -> None:
    """Write down what happened, and for which endpoints it is."""
    event = {
        "id": f"evt_3{secrets.token_hex(12)}",
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": int(time.time()),
        "data": {"object": _shown(what)},
        "livemode": mode["livemode"],
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        "account": mode["account"],
    }
    document["events"].append(event)
    for endpoint in document["endpoints"]:
        wanted = {"*", kind} & set(endpoint["enabled_events"])
        if wanted and endpoint["status"] == "enabled" and _is_of(endpoint, mode):
            document["deliveries"].append(
                {"event": event["id"], "endpoint": endpoint["id"], "state": "pending", "tries": 0, "due": 0}
            )


def _told(document: Record, event: Record) -> Record:
    waiting = [
        one for one in document["deliveries"] if one["event"] == event["id"] and one["state"] == "pending"
    ]
    return event | {"pending_webhooks": len(waiting)}


def _find(records: list[Record], mode: Record, identity: str, kind: str) -> Record:
    for one in records:
        if one["id"] == identity and _is_of(one, mode):
            return _shown(one)
    raise StripeError(404, f"No such {kind}: '{identity}'", code="resource_missing", param="id")


def _is_of(one: Record, mode: Record) -> bool:
    return (one["account"], one["livemode"]) == (mode["account"], mode["livemode"])


def _shown(one: Record) -> Record:
    return {name: value for name, value in one.items() if name != "account"}
