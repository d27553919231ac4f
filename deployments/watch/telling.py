"""Tell the first level's people of what is new, and call the address that misses us when we are silent."""

from datetime import datetime

from deployments.watch.complaints import Complaint
from deployments.watch.memory import Memory
from tasks.errors import RunbookError
from tasks.http_exchange import exchange
from tasks.log_masking import mask
from tasks.notifying import tell
from tasks.records.escalation import Message
from tasks.records.service import ServiceProfile

_SECONDS = 10.0
_OK = range(200, 300)


def tell_first_level(
    profile: ServiceProfile, complaints: list[Complaint], memory: Memory, now: datetime
) -> list[str]:
    """Tell people what they do not know yet; return a sentence for each way to them that failed.

    What nobody could be told is told again at the next look.
    """
    new = memory.choose_new(complaints, now)
    if not new:
        return []
    if not profile.escalation.levels:
        return [f"{profile.name}: nobody is told, the profile has no escalation.levels: fill it."]
    message = Message(
        subject=f"{profile.title}: the watch complains",
        body=mask("\n\n".join(complaint.sentence for complaint in new), frozenset()),
    )
    first = profile.escalation.levels[0]
    told = [
        tell.fn(profile, contact, message) for contact in profile.contacts if contact.name in first.contacts
    ]
    if any(answer.channel for answer in told):
        memory.remember(new, now)
    return [f"{profile.name}: {failure}" for answer in told for failure in answer.failures]


def call_heartbeat(url: str) -> str | None:
    """Call an address that complains when it is not called; return what went wrong, if anything did."""
    try:
        found = exchange(url, _SECONDS)
    except RunbookError:
        return "The heartbeat's address is no URL: correct it."
    if found.problem is not None:
        return f"The heartbeat's address was not reached: {found.problem}."
    if found.status_code not in _OK:
        return f"The heartbeat's address answered {found.status_code}: correct it."
    return None
