"""What people read who are told: what is wrong, who knows, by when somebody must say that they have it."""

from datetime import datetime, tzinfo
from typing import Final

from flows.decisions.escalation import AFTER_LAST, list_troubles
from tasks.records.escalation import EscalationPlan, EscalationRecord, Message
from tasks.records.figures import shorten
from tasks.records.service import ServiceProfile

NO_RECORD: Final = (
    "No record can be kept on the host, so everybody is told at once, and nobody can acknowledge."
)
_SUBJECT_LENGTH = 90


def write_message(
    profile: ServiceProfile, record: EscalationRecord, plan: EscalationPlan, level: str, link: str | None
) -> Message:
    """Return what somebody of a level is told; without a link they acknowledge in the UI."""
    opening, zone = record.opening, profile.zone
    cause = f"Cause: {opening.cause}" if opening.cause else ""
    severity = f"Severity: {opening.severity}" if opening.severity else ""
    joined = (f"Also: {step.said}" for step in record.steps if step.kind == "joined")
    before = f"Told before you: {', '.join(record.reached)}." if record.reached else ""
    lines = (
        f"{profile.title}: {opening.reason}",
        *(line for line in (cause, severity, *joined) if line),
        "",
        f"You are told as level {level}. Nobody has acknowledged since {_say(opening.at, zone)}.",
        *([before] if before else []),
        *list_troubles(record),
        _say_next(plan, zone),
        "",
        _say_how(record, link),
    )
    subject = shorten(f"[{opening.service}] People are needed: {opening.reason}", _SUBJECT_LENGTH)
    return Message(subject=subject, body="\n".join(lines))


def write_recovery(profile: ServiceProfile, record: EscalationRecord) -> Message:
    """Return what those who were told learn when the service recovers."""
    opening = record.opening
    since = _say(opening.at, profile.zone)
    return Message(
        subject=shorten(f"[{opening.service}] Healthy again: {opening.reason}", _SUBJECT_LENGTH),
        body=(
            f"{profile.title} is healthy again. You were told that people are needed since {since}: "
            f"{opening.reason}\n\nNobody acknowledged, and nobody else is told."
        ),
    )


def _say_next(plan: EscalationPlan, zone: tzinfo) -> str:
    if plan.next_at is None:
        return "Nobody is told after you."
    at = _say(plan.next_at, zone)
    if plan.next_level == AFTER_LAST:
        return f"Nobody is told after you; at {at} it is given up."
    return f"If nobody acknowledges by {at}, level {plan.next_level} is told."


def _say_how(record: EscalationRecord, link: str | None) -> str:
    opening = record.opening
    if not opening.id:
        return "Speak to each other about who takes it."
    by_hand = f"start acknowledge/{opening.service} in the Prefect UI (escalation {opening.id})"
    return f"I have it: {link}\nOr {by_hand}." if link else f"If you have it, {by_hand}."


def _say(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%a %H:%M %Z}"
