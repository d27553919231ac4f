"""Stripe in small: the account's key is checked, the balance and the account are told."""

import secrets

from deployments.sandbox.vault import Vault
from deployments.sandbox.vendor_protocol import Conduct, VendorAnswer, VendorRequest

KEY = "propertypulse-stripe-key"
KEY_PREFIX = "sk_test_"
_SHOWN_OF_A_KEY = 4


class Stripe:
    """One account in test mode, with the one key that the vault knows."""

    name = "stripe"

    def __init__(self, vault: Vault) -> None:
        """Take where the account's key is kept."""
        self._vault = vault

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as api.stripe.com does."""
        key = request.key
        if key is None:
            return _refuse(
                "You did not provide an API key. You need to provide your API key in the Authorization "
                "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
            )
        if key in conduct.revoked:
            return _refuse(f"Expired API Key provided: {_masked(key)}", code="api_key_expired")
        if key != KEY_PREFIX + self._vault.read(KEY):
            return _refuse(f"Invalid API Key provided: {_masked(key)}")
        match (request.method, request.path):
            case ("GET", "/v1/balance"):
                return _succeed(_BALANCE)
            case ("GET", "/v1/account"):
                return _succeed(_ACCOUNT)
        return VendorAnswer(404, _error(f"Unrecognized request URL ({request.method}: {request.path})."))


_BALANCE = {
    "object": "balance",
    "available": [{"amount": 125_000, "currency": "usd", "source_types": {"card": 125_000}}],
    "livemode": False,
    "pending": [{"amount": 4_200, "currency": "usd", "source_types": {"card": 4_200}}],
}
_ACCOUNT = {
    "id": "acct_1SandboxPropPulse",
    "object": "account",
    "charges_enabled": True,
    "country": "US",
    "default_currency": "usd",
    "payouts_enabled": True,
    "type": "standard",
}


def _succeed(body: dict[str, object]) -> VendorAnswer:
    return VendorAnswer(200, body, {"Request-Id": _request_id()})


def _refuse(message: str, **more: str) -> VendorAnswer:
    headers = {"Request-Id": _request_id(), "WWW-Authenticate": 'Basic realm="Stripe"'}
    return VendorAnswer(401, _error(message, **more), headers)


def _error(message: str, **more: str) -> dict[str, object]:
    return {"error": {**more, "message": message, "type": "invalid_request_error"}}


def _request_id() -> str:
    return f"req_{secrets.token_hex(7)}"


def _masked(key: str) -> str:
    hidden = len(key) - len(KEY_PREFIX) - _SHOWN_OF_A_KEY
    return f"{key[: len(KEY_PREFIX)]}{'*' * hidden}{key[-_SHOWN_OF_A_KEY:]}" if hidden > 0 else "****"
