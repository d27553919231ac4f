"""Go on with open escalations of which no run is left: it died before the next level's was made."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from deployments.watch.complaints import Complaint
from tasks.errors import NotFoundError, RunbookError
from tasks.escalation_runs import list_going_on, resume_ladder
from tasks.escalations import list_escalations
from tasks.records.escalation import EscalationRecord
from tasks.records.service import ServiceProfile

# Two watches start one run; one that cannot go on, whatever the reason, is not started at every look.
_AGAIN_SECONDS: Final = 300


def resume_ladders(profile: ServiceProfile, now: datetime) -> Iterator[Complaint]:
    """Given a service, start its stranded escalations again and yield what to say of each.

    Raise ``UnreachableError`` if the server does not answer. Whom a run told stands in the record: nobody is
    told twice.
    """
    try:
        # First these, then the runs: what begins in between has a run of its own.
        found = [record for record in list_escalations.fn(profile) if record.end is None]
    except RunbookError as error:
        yield Complaint("the escalations", f"The escalations cannot be looked at: {error}")
        return
    waiting = list_going_on(profile.name) if found else frozenset()
    for record in found:
        # A run that names none begins one, or goes on with the one that is open.
        if not waiting & {"", record.opening.id}:
            yield _resume(record, now)


def _resume(record: EscalationRecord, now: datetime) -> Complaint:
    opening = record.opening
    key = f"stranded:{opening.id}:{int(now.timestamp()) // _AGAIN_SECONDS}"
    said = f"No run went on with escalation {opening.id} ({opening.reason})"
    try:
        resume_ladder(opening.service, opening.id, key)
    except NotFoundError as error:
        return Complaint(f"escalation {opening.id}", f"{said}, and none can be started: {error}")
    return Complaint(
        f"escalation {opening.id}",
        f"{said}: its run died together with its worker. escalate/{opening.service} was started again.",
    )
