"""The link that somebody who is told gets, to say that they have seen it."""

import secrets
from datetime import datetime

from tasks.acknowledgement_links import PATH, make_token
from tasks.credentials import resolve
from tasks.records.escalation import AcknowledgementLink
from tasks.records.service import ServiceProfile


def make_contact_link(
    profile: ServiceProfile, escalation: str, level: str, contact: str, expires: datetime
) -> str | None:
    """Given who is told, return the link that they follow; None where the profile has no receiver.

    Raise ``ConfigurationError`` or ``AccessDeniedError`` if the reference to the key leads nowhere.
    """
    care = profile.escalation
    if care.receiver_url is None or care.link_key is None:
        return None
    link = AcknowledgementLink(
        id=secrets.token_hex(12),
        escalation=escalation,
        service=profile.name,
        level=level,
        contact=contact,
        expires=expires,
    )
    return f"{care.receiver_url.rstrip('/')}{PATH}?token={make_token(link, resolve(care.link_key))}"
