"""What SendGrid does not take of a mail: unknown fields, wrong types, nobody to send it to."""

import re
from typing import Any

_PEOPLE = "personalizations"
_FIELDS = {
    _PEOPLE,
    "from",
    "reply_to",
    "subject",
    "content",
    "headers",
    "categories",
    "mail_settings",
    "tracking_settings",
}


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
        (
            "mail_settings",
            _is_settings(mail.get("mail_settings", {})),
            "The mail_settings may have a sandbox_mode, whose enable is true or false.",
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


def _is_settings(found: object) -> bool:
    if not isinstance(found, dict) or not found.keys() <= {"sandbox_mode"}:
        return False
    sandbox = found.get("sandbox_mode", {"enable": False})
    return isinstance(sandbox, dict) and sandbox.keys() == {"enable"} and isinstance(sandbox["enable"], bool)
