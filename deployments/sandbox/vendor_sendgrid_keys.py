"""SendGrid's API keys: shown once, a hundred at most, and never able to do more than who makes them."""

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from deployments.sandbox.vendor_protocol import Conduct

KEY_PREFIX = "SG."
MOST = 100
APPLICATION_SCOPES = ("mail.send", "mail.batch.create", "scopes.read", "stats.read", "suppression.read")
MAIL_SCOPES = ("mail.send", "scopes.read")
MANAGER_SCOPES = (
    "api_keys.create",
    "api_keys.delete",
    "api_keys.read",
    "api_keys.update",
    *APPLICATION_SCOPES,
)
# Every key has these, whether they were asked for or not.
_GIVEN_ANYWAY = ("2fa_required", "sender_verification_eligible")

Record = dict[str, Any]


class SendGridError(Exception):
    """What SendGrid answers instead of what was asked for."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        """Take the status, the sentence and the field that it is about."""
        super().__init__(message)
        self.status = status
        self.body = {"errors": [{"field": field, "message": message, "help": None}]}


def new_key() -> str:
    """Return a key in SendGrid's form: SG., its id, its secret, 69 characters altogether."""
    return f"{KEY_PREFIX}{secrets.token_urlsafe(16)}.{secrets.token_urlsafe(32)}"


def record_of(key: str, name: str, scopes: Sequence[str], created: float = 0) -> Record:
    """Return what SendGrid keeps of a key, which is not the key."""
    return {
        "hash": _hash(key),
        "api_key_id": key.removeprefix(KEY_PREFIX).partition(".")[0],
        "name": name,
        "scopes": sorted({*scopes, *_GIVEN_ANYWAY}),
        "created": created,
    }


def authenticate(document: Record, key: str | None, conduct: Conduct) -> Record:
    """Return the record of the key.

    Raises:
        SendGridError: there is none, or it is unknown, deleted or not known everywhere yet.
    """
    if key is None:
        raise SendGridError(401, "authorization required")
    wanted = _hash(key)
    found = next((one for one in document["keys"] if one["hash"] == wanted), None)
    is_early = found is not None and time.time() < found["created"] + conduct.propagation_seconds
    if found is None or is_early or key in conduct.revoked:
        raise SendGridError(401, "The provided authorization grant is invalid, expired, or revoked")
    return dict(found)


def permit(record: Record, scope: str) -> None:
    """Return if the key may do this.

    Raises:
        SendGridError: it has not the scope.
    """
    if scope not in record["scopes"]:
        raise SendGridError(403, "access forbidden")


def make_key(document: Record, maker: Record, body: bytes) -> Record:
    """Make a key and return it, which nobody is shown again.

    Raises:
        SendGridError: there are a hundred, or what it shall be is wrong.
    """
    given = _read(body, {"name", "scopes"}, {"name"})
    scopes = given["scopes"] if "scopes" in given else maker["scopes"]
    _check_scopes(scopes, maker)
    if len(document["keys"]) >= MOST:
        raise SendGridError(403, f"Cannot create more than {MOST} API Keys")
    key = new_key()
    record = record_of(key, given["name"], scopes, time.time())
    document["keys"].append(record)
    return {"api_key": key, **_shown(record), "scopes": record["scopes"]}


def list_keys(document: Record) -> Record:
    """Return the names and ids of all keys."""
    return {"result": [_shown(one) for one in document["keys"]]}


def find_key(document: Record, identity: str) -> Record:
    """Return one key with its scopes."""
    found = _find(document, identity)
    return {"result": [_shown(found) | {"scopes": found["scopes"]}]}


def rename_key(document: Record, identity: str, body: bytes) -> Record:
    """Give a key another name."""
    found = _find(document, identity)
    found["name"] = _read(body, {"name"}, {"name"})["name"]
    return _shown(found)


def change_key(document: Record, maker: Record, identity: str, body: bytes) -> Record:
    """Give a key another name and other scopes."""
    given = _read(body, {"name", "scopes"}, {"name", "scopes"})
    _check_scopes(given["scopes"], maker)
    found = _find(document, identity)
    found["name"], found["scopes"] = given["name"], sorted({*given["scopes"], *_GIVEN_ANYWAY})
    return _shown(found) | {"scopes": found["scopes"]}


def delete_key(document: Record, identity: str) -> None:
    """Delete a key, which is refused from now on."""
    document["keys"].remove(_find(document, identity))


def _read(body: bytes, known: set[str], required: set[str]) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        raise SendGridError(400, "invalid json") from None
    if not isinstance(given, dict):
        raise SendGridError(400, "invalid json")
    if wrong := sorted(given.keys() - known):
        raise SendGridError(400, f"unknown field {wrong[0]}", wrong[0])
    if missing := sorted(required - given.keys()):
        raise SendGridError(400, "missing required argument", missing[0])
    if not isinstance(given.get("name"), str) or not given["name"]:
        raise SendGridError(400, "name must be a text that is not empty", "name")
    return given


def _check_scopes(scopes: Any, maker: Record) -> None:
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        raise SendGridError(400, "scopes must be a list of texts", "scopes")
    if more := sorted({*scopes} - {*maker["scopes"]}):
        raise SendGridError(403, f"you may not give the scope {more[0]}, which your own key lacks", "scopes")


def _find(document: Record, identity: str) -> Record:
    records: list[Record] = document["keys"]
    for one in records:
        if one["api_key_id"] == identity:
            return one
    raise SendGridError(404, "unable to find API Key")


def _shown(record: Record) -> Record:
    return {"api_key_id": record["api_key_id"], "name": record["name"]}


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
