"""SendGrid in small: the key is checked, its scopes are told, and mails are kept instead of sent."""

import json
import re
from typing import Any

from deployments.sandbox.vault import Vault
from deployments.sandbox.vendor_protocol import Conduct, VendorAnswer, VendorRequest

KEY = "propertypulse-sendgrid-key"
KEY_PREFIX = "SG."
_PEOPLE = "personalizations"
_FIELDS = {_PEOPLE, "from", "reply_to", "subject", "content", "headers", "categories", "tracking_settings"}
_SCOPES = ["mail.send", "mail.batch.create", "scopes.read", "stats.read", "suppression.read"]


class SendGrid:
    """One account, with the one key that the vault knows."""

    name = "sendgrid"

    def __init__(self, vault: Vault) -> None:
        """Take where the account's key is kept."""
        self._vault = vault
        self.kept: list[dict[str, Any]] = []

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as api.sendgrid.com does."""
        key = request.key
        if key is None:
            return _refuse(401, "authorization required")
        if key in conduct.revoked or key != KEY_PREFIX + self._vault.read(KEY):
            return _refuse(401, "The provided authorization grant is invalid, expired, or revoked")
        if (request.method, request.path) == ("GET", "/v3/scopes"):
            return VendorAnswer(200, {"scopes": _SCOPES})
        if (request.method, request.path) == ("POST", "/v3/mail/send"):
            return self._send(request)
        return _refuse(404, "not found")

    def _send(self, request: VendorRequest) -> VendorAnswer:
        try:
            mail = json.loads(request.body)
        except ValueError:
            return _refuse(400, "Bad Request")
        if (wrong := find_wrong(mail)) is not None:
            return _refuse(400, *wrong)
        self.kept.append(mail)
        return VendorAnswer(202, {})


def find_wrong(mail: Any) -> tuple[str, str] | None:
    """Return what SendGrid would not take of a mail, and which field that is."""
    if not isinstance(mail, dict):
        return "The request body must be an object.", ""
    if unknown := sorted(mail.keys() - _FIELDS):
        return f"Additional property {unknown[0]} is not allowed", unknown[0]
    content = mail.get("content")
    checks = (
        (_PEOPLE, bool(_people_of(mail)), "The personalizations field is required, each with a to array."),
        ("from", _is_address(mail.get("from")), "The from object must be provided for every email send."),
        ("subject", _is_text(mail.get("subject")), "The subject is required."),
        (
            "content",
            isinstance(content, list) and bool(content) and all(_is_content(one) for one in content),
            "The content value must be a string at least one character in length.",
        ),
    )
    return next(((message, field) for field, is_right, message in checks if not is_right), None)


def _people_of(mail: dict[str, Any]) -> list[Any]:
    """Return everybody whom a mail is to, nobody if one of them cannot be."""
    found = mail.get(_PEOPLE)
    people = [one.get("to") if isinstance(one, dict) else None for one in found] if found else []
    right = all(isinstance(to, list) and to and all(_is_address(one) for one in to) for to in people)
    return people if right else []


def _is_text(found: object) -> bool:
    return isinstance(found, str) and bool(found)


def _is_address(found: object) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() <= {"email", "name"}
        and re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(found.get("email"))) is not None
    )


def _is_content(found: object) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == {"type", "value"}
        and found["type"] in {"text/plain", "text/html"}
        and _is_text(found["value"])
    )


def _refuse(status: int, message: str, field: str | None = None) -> VendorAnswer:
    return VendorAnswer(status, {"errors": [{"field": field, "message": message, "help": None}]})
