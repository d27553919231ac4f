"""Runbook row I16: the secret that tokens are signed with, and whether a login gets one that holds."""

import base64
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.errors import RunbookError
from tasks.known_good import fingerprint, recall_healthy
from tasks.login_probing import LoginAttempt, attempt_login
from tasks.records.evidence import AuthenticationFacts
from tasks.records.service import ServiceProfile

_SECONDS = 4.0
# RFC 7518: an HS256 key has at least as many bits as its hash.
_LEAST_SECRET = 32
_HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_OLDER_ALPHABET = str.maketrans("-_", "+/")


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_authentication(profile: ServiceProfile) -> AuthenticationFacts:
    """Given a service, return how its tokens' secret is, whether its probe user can log in, and if both fit.

    A token that the env file's secret does not fit is one of an application that still runs with another.
    Raise ``ConfigurationError`` or ``AccessDeniedError`` if the probe user's password cannot be had.
    """
    variables = _read_variables(profile)
    secret = (variables or {}).get(profile.application.jwt_secret_variable)
    login = profile.application.login
    attempt = attempt_login(login, _SECONDS) if login else None
    return AuthenticationFacts(
        secret="unknown" if variables is None else _judge_secret(secret),
        secret_changed=None if variables is None else _has_changed(profile, secret),
        login=attempt.outcome if attempt else "not probed",
        login_status=attempt.status_code if attempt else None,
        login_problem=attempt.problem if attempt else None,
        token_verifies=_verify(attempt, secret) if attempt and secret else None,
    )


def _read_variables(profile: ServiceProfile) -> Mapping[str, str] | None:
    try:
        return read_variables(profile)
    except RunbookError:
        # The observation of the env file tells it; whether users can log in is seen without it.
        return None


def _judge_secret(secret: str | None) -> Literal["set", "not set", "too short"]:
    if not secret:
        return "not set"
    return "set" if len(secret) >= _LEAST_SECRET else "too short"


def _has_changed(profile: ServiceProfile, secret: str | None) -> bool | None:
    name = profile.application.jwt_secret_variable
    try:
        known = recall_healthy(profile)
        if known is None:
            return None
        now = None if secret is None else fingerprint(profile, name, secret)
    except RunbookError:
        return None
    return known.variables.get(name) != now


def _verify(attempt: LoginAttempt, secret: str) -> bool | None:
    """Is the token signed with the secret? None where it is no token that a shared secret signs."""
    signed, _, signature = (attempt.token or "").rpartition(".")
    try:
        header = json.loads(_decode(signed.partition(".")[0]))
        hashed, found = _HASHES[header["alg"]], _decode(signature)
    except (ValueError, TypeError, KeyError):
        return None
    keys = _spell(secret)
    return any(hmac.compare_digest(hmac.digest(key, signed.encode(), hashed), found) for key in keys)


def _spell(secret: str) -> Iterator[bytes]:
    """Yield what applications make of a secret: its text, or the bytes that it writes down."""
    yield secret.encode()
    for read in (_decode, bytes.fromhex):
        with suppress(ValueError):
            yield read(secret)


def _decode(text: str) -> bytes:
    """Read base64, in the alphabet for URLs or the older one, with or without its padding."""
    plain = text.translate(_OLDER_ALPHABET).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
