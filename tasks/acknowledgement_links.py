"""Links by which somebody who was told says that they have seen it: signed, for a while, and used once.

A token is the link's content as base64url JSON, a dot, and its HMAC-SHA256 as base64url. Who signs and who
checks share ``escalation.link_key``. Without Prefect: the receiver of alerts checks them too.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from tasks.errors import AlreadyExistsError, RefusedError
from tasks.records.escalation import AcknowledgementLink

PATH = "/acknowledge"


def make_token(link: AcknowledgementLink, key: str) -> str:
    """Given what a link holds, return it as a token signed by the key."""
    content = _encode(link.model_dump_json().encode())
    return f"{content}.{_sign(content, key)}"


def check_token(token: str, key: str, now: datetime, is_used: Callable[[str], bool]) -> AcknowledgementLink:
    """Given a token, return what it holds.

    Raise ``RefusedError`` if it is not what was signed by this key or has expired, and ``AlreadyExistsError``
    if it was used before.
    """
    content, _, signature = token.partition(".")
    # Bytes: compare_digest takes no other text than ASCII.
    if not hmac.compare_digest(_sign(content, key).encode(), signature.encode()):
        raise RefusedError("This link is not one of ours: open the one from the message again, whole.")
    try:
        link = AcknowledgementLink.model_validate_json(base64.urlsafe_b64decode(content + "=="))
    except (binascii.Error, ValidationError):
        raise RefusedError("This link was made by another version: acknowledge in the UI.") from None
    if now >= link.expires:
        raise RefusedError(f"This link has expired: acknowledge in the UI, by acknowledge/{link.service}.")
    if is_used(link.id):
        raise AlreadyExistsError("This link was used before: it is acknowledged.")
    return link


def _sign(content: str, key: str) -> str:
    return _encode(hmac.new(key.encode(), content.encode(), hashlib.sha256).digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
