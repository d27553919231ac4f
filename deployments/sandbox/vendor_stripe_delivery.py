"""Stripe's deliveries: each event to each endpoint that was enabled for it, signed with its own secret."""

import hashlib
import hmac
import json
import threading
import time

import httpx

from deployments.sandbox.vendor_state import VendorState
from deployments.sandbox.vendor_stripe_keys import Record

ANSWER_SECONDS = 5
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.5


def sign(payload: bytes, secret: str, at: int) -> str:
    """Return the header with which an event comes."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Delivery:
    """A thread that delivers what is due, again and again until it is taken."""

    def __init__(self, state: VendorState) -> None:
        """Take what Stripe knows; nothing is sent before it is started."""
        self._state = state
        self._news = threading.Event()

    def start(self) -> None:
        """Deliver from now on, what an earlier process left first."""
        threading.Thread(target=self._run, daemon=True, name="stripe-delivery").start()

    def wake(self) -> None:
        """Look at once whether there is something to deliver."""
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait(_POLL_SECONDS)
            self._news.clear()
            for delivery, endpoint, event in self._due():
                self._note(delivery, taken=_deliver(endpoint, event))

    def _due(self) -> list[tuple[Record, Record, Record]]:
        """Return what is to be sent now; what nobody is there for any more is given up."""
        found = []
        with self._state.opened() as document:
            events = {event["id"]: event for event in document["events"]}
            enabled = {one["id"]: one for one in document["endpoints"] if one["status"] == "enabled"}
            for delivery in document["deliveries"]:
                if delivery["state"] != "pending":
                    continue
                if delivery["endpoint"] not in enabled:
                    delivery["state"] = "given up"
                elif delivery["due"] <= time.time():
                    found.append((delivery, enabled[delivery["endpoint"]], events[delivery["event"]]))
        return found

    def _note(self, delivery: Record, *, taken: bool) -> None:
        with self._state.opened() as document:
            for one in document["deliveries"]:
                if (one["event"], one["endpoint"]) == (delivery["event"], delivery["endpoint"]):
                    one["tries"] += 1
                    one["state"] = "delivered" if taken else "pending"
                    wait = _FIRST_WAIT_SECONDS * 2 ** min(one["tries"], 10)
                    one["due"] = time.time() + min(wait, _LONGEST_WAIT_SECONDS)


def _deliver(endpoint: Record, event: Record) -> bool:
    payload = json.dumps({name: value for name, value in event.items() if name != "account"}).encode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": sign(payload, endpoint["secret"], int(time.time())),
    }
    try:
        answer = httpx.post(endpoint["url"], content=payload, headers=headers, timeout=ANSWER_SECONDS)
    except httpx.HTTPError:
        return False
    return answer.is_success
