"""Runbook row I10: whether the service account's key still gets an access token from Google."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.http_exchange import Exchange, exchange
from tasks.log_masking import mask
from tasks.records.evidence import FirebaseFacts
from tasks.records.figures import shorten
from tasks.records.outage_care import Firebase
from tasks.records.service import ServiceProfile

_SECONDS = 4.0
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
# Long enough for one request; Google takes at most an hour.
_LIFE = timedelta(minutes=5)
_REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class _MalformedKeyError(Exception):
    """The key is not what Firebase takes; the message is the end of a sentence, without the key."""


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_firebase(profile: ServiceProfile) -> FirebaseFacts | None:
    """Given a service, return whether its Firebase credentials get a token; None if it has no Firebase.

    The token is forgotten at once. Raise ``ConfigurationError`` or ``AccessDeniedError`` if the env file
    cannot be read.
    """
    firebase = profile.firebase
    if firebase is None:
        return None
    variables = read_variables(profile)
    names = (firebase.project_variable, firebase.email_variable, firebase.key_variable)
    if missing := [name for name in names if not variables.get(name)]:
        return FirebaseFacts(credentials="not set", problem=f"{missing[0]} is not set in {profile.env_path}.")
    try:
        assertion = _sign(firebase, variables)
    except _MalformedKeyError as error:
        return FirebaseFacts(credentials="malformed", problem=f"{firebase.key_variable} {error}.")
    form = {"grant_type": _GRANT, "assertion": assertion}
    return _judge(firebase, exchange(firebase.token_url, _SECONDS, "POST", data=form))


def _sign(firebase: Firebase, variables: Mapping[str, str]) -> str:
    now = datetime.now(UTC)
    claims = {
        "iss": variables[firebase.email_variable],
        "scope": _SCOPE,
        "aud": firebase.token_url,
        "iat": now,
        "exp": now + _LIFE,
    }
    return jwt.encode(claims, _read_key(variables[firebase.key_variable]), algorithm="RS256")


def _read_key(text: str) -> RSAPrivateKey:
    # Applications put the line ends in where the env file has "\n", as Firebase's own guide does.
    pem = text.replace("\\n", "\n")
    if "-----BEGIN" not in pem:
        raise _MalformedKeyError("is no PEM private key: it lacks the line that begins one")
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise _MalformedKeyError("is encrypted with a password, which Firebase does not take") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _MalformedKeyError("is no PEM private key: what is between its lines is damaged") from None
    if not isinstance(key, RSAPrivateKey):
        raise _MalformedKeyError("is no RSA key, and Google's are")
    return key


def _judge(firebase: Firebase, found: Exchange) -> FirebaseFacts:
    if found.failure is not None:
        return FirebaseFacts(credentials="unreachable", problem=f"{firebase.token_url}: {found.problem}.")
    body = found.read_json()
    fields = body if isinstance(body, dict) else {}
    if found.status_code == HTTPStatus.OK and fields.get("access_token"):
        return FirebaseFacts(credentials="accepted")
    said = [str(fields[name]) for name in ("error", "error_description") if fields.get(name)]
    answer = shorten(mask(": ".join((str(found.status_code), *said)), frozenset())).removesuffix(".")
    refused = found.status_code in _REFUSALS
    return FirebaseFacts(
        credentials="refused" if refused else "unreachable",
        problem=f"{firebase.token_url} answered {answer}.",
    )
