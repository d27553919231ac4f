"""Events in Stripe's manner: one of ours, signed, to the application; and Stripe's that nobody took yet."""

import json
import secrets
import time
from typing import Any, Final

import httpx
import stripe

from tasks.errors import AccessDeniedError, UnreachableError
from tasks.http_exchange import exchange
from tasks.process_manager import observe_application
from tasks.records.service import ServiceProfile
from tasks.stripe_asking import ask_stripe

_SECONDS: Final = 10.0
# Connections go round among the processes of a cluster: so often each of them answers.
_ROUNDS: Final = 3
_MOST: Final = 100


def want_verified(profile: ServiceProfile, url: str, secret: str, whose: str, *, accepted: bool) -> None:
    """Given a secret, sign a test event with it and send it until every process must have answered.

    Raise ``UnreachableError`` unless each accepts it, or each refuses it, as is wanted.
    """
    instances = max(1, len(observe_application.fn(profile).instances))
    for _ in range(_ROUNDS * instances):
        payload = _make_test_event()
        header = stripe.WebhookSignature.generate_signature_header(payload, secret)
        headers = {"Content-Type": "application/json", "Stripe-Signature": header}
        found = exchange(url, _SECONDS, method="POST", headers=headers, content=payload.encode())
        if (said := found.silence) is not None:
            raise UnreachableError(f"{profile.name}: {url} does not say whether {whose} is valid: {said}.")
        if httpx.codes.is_success(found.status_code) is not accepted:
            wrong = "refused" if accepted else "accepted"
            raise UnreachableError(
                f"{profile.name}: a test event signed with {whose} is {wrong} at {url} ({found.status_code})."
            )


def count_waiting(client: stripe.StripeClient, before: int, kinds: tuple[str, ...], whose: str) -> int:
    """Given a moment, return how many older events of these types some endpoint has still to take.

    None are counted where the key may not read events.
    """
    wanted: Any = {"delivery_success": False, "created": {"lt": before}, "limit": _MOST}
    try:
        found = ask_stripe(lambda: client.v1.events.list(wanted).data, whose)
    except AccessDeniedError:
        return 0
    return sum(event.pending_webhooks > 0 and bool({"*", event.type} & set(kinds)) for event in found)


def _make_test_event() -> str:
    """Return an event of a type that no application acts on."""
    event = {
        "id": f"evt_runbook_{secrets.token_hex(8)}",
        "object": "event",
        "type": "runbook.signature_test",
        "created": int(time.time()),
        "livemode": False,
        "pending_webhooks": 0,
        "data": {"object": {"id": "runbook", "object": "runbook"}},
    }
    return json.dumps(event)
