"""Who sent a post: a bearer token, or a signature over its time and body."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from deployments.alerts.configuration import Configured, Signature, Source
from deployments.alerts.refusals import Refusal

_BEARER = "bearer "


@dataclass(frozen=True)
class Authenticated:
    """The source, and the signature that must not be taken a second time."""

    source: Source
    signature: str | None = None
    expires: float = 0


def sign(key: str, timestamp: str | None, body: bytes) -> str:
    """Given the key, the timestamp if there is one, and the body, return the signature."""
    said = body if timestamp is None else timestamp.encode() + b":" + body
    return hmac.new(key.encode(), said, hashlib.sha256).hexdigest()


def demand_credentials(configured: Configured, headers: Mapping[str, str]) -> None:
    """Refuse a post that brings no credentials at all, before its body is read."""
    signed = {source.signature.header for source in configured.receiver.sources if source.signature}
    if "authorization" not in headers and not any(header in headers for header in signed):
        raise _unknown()


def authenticate(
    configured: Configured, path: str, headers: Mapping[str, str], body: bytes, now: float
) -> Authenticated:
    """Given a post, return who sent it; raise ``Refusal`` if nobody whom we know may send this here now."""
    known = [source for source in configured.receiver.sources if _matches(configured, source, headers, body)]
    allowed = [source for source in known if source.path == path]
    if not known:
        raise _unknown()
    if not allowed:
        raise Refusal(
            403, "forbidden", f"The source '{known[0].name}' may post to /{known[0].path}, not here."
        )
    source = allowed[0]
    if source.signature is None:
        return Authenticated(source)
    expires = _expiry(source.signature, headers, now, configured.receiver.keep)
    return Authenticated(source, f"{source.name}:{_signature(source.signature, headers)}", expires)


def _matches(configured: Configured, source: Source, headers: Mapping[str, str], body: bytes) -> bool:
    secret = configured.secrets[source.name]
    if source.signature is None:
        sent = headers.get("authorization", "")
        is_bearer = sent[: len(_BEARER)].lower() == _BEARER
        return is_bearer and _is_same(sent[len(_BEARER) :].strip(), secret)
    timestamp = _timestamp(source.signature, headers)
    if source.signature.timestamp_header is not None and timestamp is None:
        return False
    return _is_same(_signature(source.signature, headers), sign(secret, timestamp, body))


def _is_same(sent: str, expected: str) -> bool:
    return hmac.compare_digest(sent.encode(), expected.encode())


def _signature(scheme: Signature, headers: Mapping[str, str]) -> str:
    return headers.get(scheme.header, "").strip().lower()


def _timestamp(scheme: Signature, headers: Mapping[str, str]) -> str | None:
    return headers.get(scheme.timestamp_header) if scheme.timestamp_header else None


def _expiry(scheme: Signature, headers: Mapping[str, str], now: float, keep: timedelta) -> float:
    """Return until when the signature has to be remembered; raise ``Refusal`` if it is too old or too new."""
    timestamp = _timestamp(scheme, headers)
    if timestamp is None:
        return now + keep.total_seconds()
    window = scheme.window.total_seconds()
    # Signed by a known key, and still somebody may have signed nonsense.
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp)) > window:
        raise Refusal(403, "stale", f"The signature's time is not within {window:g} s of this host's clock.")
    return int(timestamp) + window


def _unknown() -> Refusal:
    return Refusal(401, "unauthenticated", "This post carries no token or signature that is known here.")


class TokenBuckets:
    """How many posts each source may still make: refilled with time, never above the burst."""

    def __init__(self, sources: Iterable[Source], per_second: float, burst: int) -> None:
        """Begin with full buckets."""
        self._per_second = per_second
        self._burst = burst
        self._left = {source.name: (float(burst), 0.0) for source in sources}

    def take(self, source: str, now: float) -> None:
        """Take one post of the source; raise ``Refusal`` if it has none left."""
        left, seen = self._left[source]
        left = min(self._burst, left + max(0.0, now - seen) * self._per_second)
        if left < 1:
            self._left[source] = (left, now)
            raise Refusal(
                429, "rate-limited", f"The source '{source}' posts too often: try again in a while."
            )
        self._left[source] = (left - 1, now)
