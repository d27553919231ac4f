"""Google's token endpoint in small: a signed JWT of the service account is exchanged for an access token."""

import secrets
import time
from collections.abc import Mapping
from functools import cache
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from deployments.sandbox.vault import Vault
from deployments.sandbox.vendor_protocol import Act, Conduct, VendorAnswer, VendorRequest

KEY = "invoice-firebase-private-key"
ACCOUNT = "messaging@invoice-sandbox.example.com"
AUDIENCE = "https://oauth2.googleapis.com/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME_SECONDS = 3600
# As much as Google lets a client's clock be ahead.
SKEW_SECONDS = 300


class Google:
    """The token endpoint, which knows one service account with one key."""

    name = "google"
    dashboard: Mapping[str, Act] = {}

    def __init__(self, vault: Vault, address: str) -> None:
        """Take where the account's private key is kept, and the address, which may be named as audience."""
        self._vault = vault
        self._audiences = (AUDIENCE, f"{address}/token")

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as oauth2.googleapis.com does."""
        if request.path != "/token" or request.method != "POST":
            return _refuse("not_found", "Not Found", status=404)
        form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != GRANT:
            return _refuse("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        try:
            claims = jwt.decode(form.get("assertion", ""), options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return _refuse("invalid_grant", "Invalid JWT: Token must be a signed JWT.")
        complaint = self._complaint(form["assertion"], claims, time.time() + conduct.clock_ahead)
        if complaint is not None:
            return _refuse("invalid_grant", complaint)
        if not claims.get("scope"):
            return _refuse("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        token = f"ya29.{secrets.token_urlsafe(48)}"
        return VendorAnswer(
            200, {"access_token": token, "expires_in": LIFETIME_SECONDS - 1, "token_type": "Bearer"}
        )

    def fail(self, status: int) -> VendorAnswer:
        """Answer in Google's words that something failed."""
        return _refuse("internal_failure", "Internal error encountered.", status=status)

    def _complaint(self, assertion: str, claims: dict[str, object], now: float) -> str | None:
        if claims.get("iss") != ACCOUNT:
            return "Invalid grant: account not found"
        try:
            # Times are judged below, by the vendor's own clock.
            jwt.decode(
                assertion,
                _public_pem(self._vault.read(KEY)),
                algorithms=["RS256"],
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return "Invalid JWT Signature."
        if claims.get("aud") not in self._audiences:
            return f"Invalid JWT: Failed audience check. The right audience is {AUDIENCE}"
        if not _is_timely(claims.get("iat"), claims.get("exp"), now):
            return (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )
        return None


def private_key() -> str:
    """Return a new service account's private key, PEM, as Google hands it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


@cache
def _public_pem(private: str) -> bytes:
    public = load_pem_private_key(private.encode("ascii"), None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _is_timely(issued: object, ends: object, now: float) -> bool:
    if not isinstance(issued, int | float) or not isinstance(ends, int | float):
        return False
    is_short = 0 < ends - issued <= LIFETIME_SECONDS
    return is_short and issued <= now + SKEW_SECONDS and ends >= now - SKEW_SECONDS


def _refuse(error: str, description: str, *, status: int = 400) -> VendorAnswer:
    return VendorAnswer(status, {"error": error, "error_description": description})
