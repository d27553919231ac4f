"""Stripe's webhook endpoints: a secret that is shown once, and sixteen at most in each mode."""

import re
import secrets
import time
from typing import Any

from deployments.sandbox import vendor_forms as forms
from deployments.sandbox.vendor_stripe_keys import ACCOUNT, Record, StripeError

MOST = 16
_FIELDS: dict[str, forms.Reader] = {
    "url": forms.text,
    "enabled_events": forms.texts,
    "description": forms.any_text,
    "metadata": forms.metadata,
}
_TO_MAKE = _FIELDS | {"api_version": forms.text, "connect": forms.boolean}
_TO_CHANGE = _FIELDS | {"disabled": forms.boolean}
_EVENT = re.compile(r"\*|[a-z_0-9]+(\.[a-z_0-9]+)+")


def first_endpoint(url: str, secret: str) -> Record:
    """Return the endpoint that the application has from its first day."""
    mode = {"account": ACCOUNT, "livemode": False}
    return _make({"url": url, "enabled_events": ["payment_intent.succeeded"]}, mode) | {"secret": secret}


def make_endpoint(document: Record, mode: Record, form: str) -> Record:
    """Make an endpoint and return it with its secret, which nobody is shown again.

    Raises:
        StripeError: there are sixteen, or what it shall be is wrong.
    """
    given = forms.read_form(form, _TO_MAKE, ("url", "enabled_events"))
    _check(given)
    if len(list_endpoints(document, mode)) >= MOST:
        kind = "live" if mode["livemode"] else "test"
        raise StripeError(400, f"You have reached the maximum of {MOST} {kind} webhook endpoints.")
    made = _make(given, mode)
    document["endpoints"].append(made)
    return _shown(made) | {"secret": made["secret"]}


def list_endpoints(document: Record, mode: Record) -> list[Record]:
    """Return the endpoints of an account's mode, the newest first."""
    return [_shown(one) for one in reversed(document["endpoints"]) if _is_of(one, mode)]


def find_endpoint(document: Record, mode: Record, identity: str) -> Record:
    """Return one endpoint as it is shown.

    Raises:
        StripeError: there is none.
    """
    return _shown(_find(document, mode, identity))


def change_endpoint(document: Record, mode: Record, identity: str, form: str) -> Record:
    """Change an endpoint and return it."""
    given = forms.read_form(form, _TO_CHANGE)
    _check(given)
    found = _find(document, mode, identity)
    if "disabled" in given:
        found["status"] = "disabled" if given.pop("disabled") else "enabled"
    whole = found["metadata"] | given.pop("metadata", {})
    found["metadata"] = {key: value for key, value in whole.items() if value}
    found.update(given)
    return _shown(found)


def delete_endpoint(document: Record, mode: Record, identity: str) -> Record:
    """Delete an endpoint."""
    document["endpoints"].remove(_find(document, mode, identity))
    return {"id": identity, "object": "webhook_endpoint", "deleted": True}


def _make(given: dict[str, Any], mode: Record) -> Record:
    return {
        "id": f"we_1{secrets.token_hex(12)}",
        "object": "webhook_endpoint",
        "api_version": None,
        "application": None,
        "created": int(time.time()),
        "description": None,
        "livemode": mode["livemode"],
        "metadata": {},
        "status": "enabled",
        "secret": f"whsec_{secrets.token_hex(16)}",
        "account": mode["account"],
        **{name: value for name, value in given.items() if name != "connect"},
    }


def _check(given: dict[str, Any]) -> None:
    if not re.match(r"https?://[^/\s]+", given.get("url", "http://a")):
        raise StripeError(
            400, "Invalid URL: An explicit scheme (such as https) must be provided.", param="url"
        )
    for event in given.get("enabled_events", ["*"]):
        if not _EVENT.fullmatch(event):
            raise StripeError(
                400, f"Invalid enabled_events: {event} is no type of an event.", param="enabled_events"
            )


def _find(document: Record, mode: Record, identity: str) -> Record:
    endpoints: list[Record] = document["endpoints"]
    for one in endpoints:
        if one["id"] == identity and _is_of(one, mode):
            return one
    raise StripeError(404, f"No such webhook endpoint: '{identity}'", code="resource_missing", param="id")


def _is_of(one: Record, mode: Record) -> bool:
    return (one["account"], one["livemode"]) == (mode["account"], mode["livemode"])


def _shown(one: Record) -> Record:
    return {name: value for name, value in one.items() if name not in {"secret", "account"}}
