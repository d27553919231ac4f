"""What the doctor looks at of the ladder: whether everybody on it can be told. Nobody is told anything."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from flows.decisions.diagnosis_rules import RULES
from tasks.credentials import resolve
from tasks.errors import RunbookError
from tasks.notifying import open_channel, read_scopes
from tasks.records.escalation_care import Contact, Escalation, Level
from tasks.records.service import ServiceProfile

_SENDS: Final = "mail.send"
_ALIKE: Final = 0.8
_CAUSES: Final = tuple(rule.name for rule in RULES)


def examine_contacts(profile: ServiceProfile) -> Iterator[str]:
    """Yield a sentence for each way that leads nowhere, for whom none is left, and for a misspelt cause."""
    escalation = profile.escalation
    if not escalation.levels:
        yield "nobody is told of anything: fill escalation.levels, see docs/how-to/who-is-told.md."
        return
    for level in escalation.levels:
        yield from _find_misspelt(level)
    if escalation.link_key is not None:
        yield from _tell_unresolved("escalation.link_key", escalation.link_key)
    on_ladder = {name for level in escalation.levels for name in level.contacts}
    people = [contact for contact in profile.contacts if contact.name in on_ladder]
    no_mail = _find_no_mail(escalation) if any(contact.email for contact in people) else None
    if no_mail is not None:
        yield f"no e-mail can be sent, {no_mail}."
    for contact in people:
        yield from _examine(contact, may_mail=no_mail is None)


def _examine(contact: Contact, *, may_mail: bool) -> Iterator[str]:
    wrong = [problem for reference in contact.channels if (problem := _find_wrong(reference)) is not None]
    yield from (f"a channel of {contact.name} does not work, {problem}." for problem in wrong)
    if len(wrong) == len(contact.channels) and not (contact.email and may_mail):
        yield f"{contact.name} cannot be told: give the contact a channel that works."


def _find_misspelt(level: Level) -> Iterator[str]:
    """Severities are words of whoever sends the alerts: only what is almost a cause is surely wrong."""
    for word in level.starts_for:
        alike = get_close_matches(word.lower(), _CAUSES, n=1, cutoff=_ALIKE)
        if alike and word not in _CAUSES:
            yield f"level {level.name} starts for '{word}', which no triage says: write '{alike[0]}'."


def _find_wrong(reference: str) -> str | None:
    try:
        open_channel(reference)
    except RunbookError as error:
        return str(error).rstrip(".")
    return None


def _tell_unresolved(field: str, reference: str) -> Iterator[str]:
    try:
        resolve(reference)
    except RunbookError as error:
        yield f"{field} leads nowhere: {error}"


def _find_no_mail(escalation: Escalation) -> str | None:
    try:
        scopes = read_scopes(escalation)
    except RunbookError as error:
        return str(error).rstrip(".")
    if _SENDS not in scopes:
        return f"the key of escalation.sendgrid_key may not send ({_SENDS}): give it that scope in SendGrid"
    return None
