"""Tell a person or a team: their channels by Apprise, one after the other, then e-mail by SendGrid.

Each has a time limit of its own. Why one failed is said in words that hold neither its address nor its key.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import apprise
from prefect import task
from prefect.cache_policies import NO_CACHE
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]  # it ships no types

from tasks.credentials import resolve
from tasks.errors import ConfigurationError, RunbookError, UnreachableError
from tasks.records.escalation import Message, Told
from tasks.records.escalation_care import Contact, Escalation
from tasks.records.service import ServiceProfile
from tasks.sendgrid_asking import SECONDS, SOCKET_SECONDS, ask_sendgrid, open_sendgrid
from tasks.time_limits import run_together

_WHOSE: Final = "the key of escalation.sendgrid_key"


@task(cache_policy=NO_CACHE, persist_result=False)
def tell(profile: ServiceProfile, contact: Contact, message: Message, seconds: float = SECONDS) -> Told:
    """Given a contact, tell them by the first way that works, each within so many seconds.

    It raises nothing: a way that fails is in the answer, and so is that none worked.
    """
    failures: list[str] = []
    for channel, send in _list_ways(profile.escalation, contact, message):
        try:
            if run_together([send], seconds) == [None]:
                raise UnreachableError(f"it did not answer within {seconds:g} s")
        except RunbookError as error:
            failures.append(f"{contact.name} by {channel}: {str(error).rstrip('.')}.")
        else:
            return Told(contact=contact.name, channel=channel, failures=tuple(failures))
    return Told(contact=contact.name, failures=tuple(failures))


def open_channel(reference: str) -> apprise.Apprise:
    """Given a reference to an Apprise URL, return what tells by it.

    Raise ``ConfigurationError`` or ``AccessDeniedError`` if it leads nowhere or Apprise knows no such URL.
    """
    channel = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, secure_logging=True))
    url = resolve(reference)
    limits = f"cto={SOCKET_SECONDS}&rto={SOCKET_SECONDS}"
    if not channel.add(f"{url}{'&' if '?' in url else '?'}{limits}"):
        raise ConfigurationError(f"what {reference} names is no Apprise URL: correct it")
    return channel


def read_scopes(escalation: Escalation) -> tuple[str, ...]:
    """Given who sends, return what SendGrid lets the key do.

    Raise ``AccessDeniedError`` if it refuses the key, ``UnreachableError`` if it does not answer,
    ``ConfigurationError`` if there is no key.
    """
    client = _open_sendgrid(escalation)
    return tuple(ask_sendgrid(client.client.scopes.get, _WHOSE).to_dict["scopes"])


def _list_ways(
    escalation: Escalation, contact: Contact, message: Message
) -> Iterator[tuple[str, Callable[[], bool]]]:
    for number, reference in enumerate(contact.channels, start=1):
        yield f"channel {number}", partial(_notify, reference, message)
    if contact.email is not None:
        yield "e-mail", partial(_send_mail, escalation, contact, message)


def _notify(reference: str, message: Message) -> bool:
    channel = open_channel(reference)
    if not channel.notify(title=message.subject, body=message.body):
        raise UnreachableError(f"{channel[0].service_name} did not take the message")
    return True


def _send_mail(escalation: Escalation, contact: Contact, message: Message) -> bool:
    mail = {
        "personalizations": [{"to": [{"email": contact.email, "name": contact.name}]}],
        "from": {"email": escalation.sender},
        "subject": message.subject,
        "content": [{"type": "text/plain", "value": message.body}],
        # SendGrid would lead the link of acknowledgement through a server of its own.
        "tracking_settings": {"click_tracking": {"enable": False, "enable_text": False}},
    }
    client = _open_sendgrid(escalation)
    ask_sendgrid(partial(client.send, mail), _WHOSE)
    return True


def _open_sendgrid(escalation: Escalation) -> SendGridAPIClient:
    if escalation.sendgrid_key is None:
        raise ConfigurationError("the profile has no escalation.sendgrid_key")
    return open_sendgrid(resolve(escalation.sendgrid_key), escalation.sendgrid_url)
