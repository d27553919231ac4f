"""Stripe's keys: who a key is, what it may do, and what a person does with keys in the Dashboard."""

import hashlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

from deployments.sandbox.vendor_protocol import Act, Conduct, VendorAnswer
from deployments.sandbox.vendor_state import VendorState

ACCOUNT = "acct_1SandboxPropPulse"
KEY_PREFIX = "sk_test_"
# What a restricted key may do, in Stripe's names.
PERMISSIONS = {
    "/v1/account": "rak_account",
    "/v1/balance": "rak_balance",
    "/v1/events": "rak_event",
    "/v1/payment_intents": "rak_payment_intent",
    "/v1/refunds": "rak_charge",
    "/v1/webhook_endpoints": "rak_webhook",
}
_SHOWN_OF_A_KEY = 4

Record = dict[str, Any]


class StripeError(Exception):
    """What Stripe answers instead of what was asked for."""

    def __init__(self, status: int, message: str, **more: str) -> None:
        """Take the status, the sentence and the fields beside it."""
        super().__init__(message)
        self.answer = VendorAnswer(
            status, {"error": {"type": "invalid_request_error", "message": message, **more}}
        )


def record_of(key: str, *, account: str = ACCOUNT, permissions: list[str] | None = None) -> Record:
    """Return what Stripe keeps of a key, which is not the key."""
    return {
        "hash": _hash(key),
        "last4": key[-_SHOWN_OF_A_KEY:],
        "account": account,
        "livemode": "_live_" in key,
        "permissions": permissions,
        "created": time.time(),
        "expires": None,
    }


def authenticate(document: Record, key: str | None, conduct: Conduct) -> Record:
    """Return the record of the key.

    Raises:
        StripeError: there is none, or it is unknown, expired or not known everywhere yet.
    """
    if key is None:
        raise StripeError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        )
    record = _find(document, key)
    now = time.time()
    if record is None or now < record["created"] + conduct.propagation_seconds:
        raise StripeError(401, f"Invalid API Key provided: {_mask(key)}")
    if key in conduct.revoked or (record["expires"] is not None and record["expires"] <= now):
        raise StripeError(401, f"Expired API Key provided: {_mask(key)}", code="api_key_expired")
    return record


def permit(record: Record, key: str, method: str, resource: str) -> None:
    """Return if the key may do this.

    Raises:
        StripeError: it is too narrow for it.
    """
    if record["permissions"] is None:
        return
    name = PERMISSIONS[resource]
    enough = {f"{name}_write"} if method != "GET" else {f"{name}_write", f"{name}_read"}
    if not enough & set(record["permissions"]):
        wanted = min(enough)
        raise StripeError(
            403,
            f"The provided key '{_mask(key)}' does not have the required permissions for this endpoint on "
            f"account '{record['account']}'. Having the '{wanted}' permission would allow this request to "
            "continue.",
        )


class KeyPages:
    """The pages of the Dashboard on which a person makes, rolls and expires keys."""

    def __init__(self, state: VendorState) -> None:
        """Take what Stripe knows."""
        self._state = state

    @property
    def acts(self) -> Mapping[str, Act]:
        """Return them by name."""
        return {"make_key": self._make, "roll_key": self._roll, "expire_key": self._expire}

    def _make(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a key: livemode, permissions for a restricted one, account for another one's."""
        kind = "sk" if told.get("permissions") is None else "rk"
        key = f"{kind}_{'live' if told.get('livemode') else 'test'}_51{secrets.token_hex(24)}"
        made = record_of(key, account=told.get("account", ACCOUNT), permissions=told.get("permissions"))
        with self._state.opened() as document:
            document["keys"].append(made)
        return {"key": key}

    def _roll(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give a key a successor; the old one ends after so many seconds."""
        with self._state.opened() as document:
            old = _known(document, told["key"])
            fresh = f"{told['key'].rpartition('_')[0]}_51{secrets.token_hex(24)}"
            document["keys"].append(record_of(fresh, account=old["account"], permissions=old["permissions"]))
            old["expires"] = time.time() + float(told.get("expires_in", 0))
        return {"key": fresh}

    def _expire(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """End a key at once."""
        with self._state.opened() as document:
            _known(document, told["key"])["expires"] = time.time()
        return {}


def _known(document: Record, key: str) -> Record:
    record = _find(document, key)
    if record is None:
        raise ValueError("There is no such key.")
    return record


def _find(document: Record, key: str) -> Record | None:
    wanted = _hash(key)
    return next((record for record in document["keys"] if record["hash"] == wanted), None)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _mask(key: str) -> str:
    hidden = len(key) - len(KEY_PREFIX) - _SHOWN_OF_A_KEY
    return f"{key[: len(KEY_PREFIX)]}{'*' * hidden}{key[-_SHOWN_OF_A_KEY:]}" if hidden > 0 else "****"
