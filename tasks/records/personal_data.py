"""How people are named where everybody may read: told apart, and not known. Pure."""

import hashlib
import re
from typing import Final

_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+[A-Za-z0-9]")
_DIGITS: Final = 4


def mask_email(address: str) -> str:
    """Given what somebody logs in with, return it so that nobody is known and two can be told apart.

    ``jane@example.com`` is ``j***@example.com (8c87)``; whoever knows the address can work that out again.
    """
    mark = hashlib.sha256(address.strip().lower().encode()).hexdigest()[:_DIGITS]
    name, at, domain = address.strip().rpartition("@")
    return f"{name[:1]}***@{domain} ({mark})" if at else f"{domain[:1]}*** ({mark})"


def mask_emails(text: str) -> str:
    """Given a text, return it with every e-mail address masked."""
    return _EMAIL.sub(lambda found: mask_email(found[0]), text)
