"""Who is told now, who next, and when: from the record of an escalation, the ladder, and the time."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final

from tasks.records.escalation import EscalationOutcome, EscalationPlan, EscalationRecord, LadderRow
from tasks.records.escalation_care import Escalation, Level

AFTER_LAST: Final = "after the last"
"""In a level's place: the run that finds that nobody of any level acknowledged. No level can be called so."""
UNKNOWN_FOR: Final = timedelta(minutes=5)
"""Longer than telling takes: who is not known to be told by then is waited for no longer."""


def choose_start(escalation: Escalation, cause: str, severity: str) -> str:
    """Given a cause and a severity, return the level that begins: the highest that names one, else the first.

    Empty if there are no levels.
    """
    named = [level for level in escalation.levels if {cause, severity} - {""} & set(level.starts_for)]
    return (named or [*escalation.levels[:1]])[-1].name if escalation.levels else ""


def plan_escalation(
    record: EscalationRecord, escalation: Escalation, *, now: datetime, healthy: bool, level: str = ""
) -> EscalationPlan:
    """Given an escalation, return what is to be done now; ``level`` is whose turn it is, empty for by time.

    Whoever an earlier run should have told and did not, because it was killed, is told first.
    """
    if (end := record.end) is not None:
        who = f" by {end.by}" if end.by else ""
        return EscalationPlan(said=f"It has ended ({end.kind}{who}): nobody is told.")
    if healthy and record.opening.was_down:
        return EscalationPlan(ends="recovered", said="The service is healthy again: nobody else is told.")
    levels = escalation.levels
    if not levels:
        return EscalationPlan(ends="nobody left", said="The profile has no levels: nobody can be told.")
    begins = _find_start(record, escalation)
    turn = max(begins, _find_turn(record, levels, now, begins, level))
    tell = tuple(
        (one.name, contact)
        for one in levels[begins : turn + 1]
        for contact in one.contacts
        if (one.name, contact) not in record.begun
    )
    if turn == len(levels):
        said = "Nobody of any level acknowledged, and nobody is left to tell."
        return EscalationPlan(tell=tell, ends="nobody left", said=said)
    following = levels[turn + 1].name if turn + 1 < len(levels) else AFTER_LAST
    within = levels[turn].acknowledge_within if tell else _patience(record, levels[turn])
    at = (_told_at(record, levels[turn]) or now) + within
    return EscalationPlan(
        level=levels[turn].name,
        tell=tell,
        next_level=following,
        next_at=at,
        said=f"It is the turn of level {levels[turn].name}." if tell else _say_told(levels[turn]),
    )


def plan_everybody(escalation: Escalation, level: str) -> EscalationPlan:
    """Return the plan where nothing can be remembered: everybody from this level on, at once."""
    names = [one.name for one in escalation.levels]
    following = escalation.levels[names.index(level) :] if level in names else escalation.levels
    tell = tuple((one.name, contact) for one in following for contact in one.contacts)
    return EscalationPlan(tell=tell, said="Everybody is told at once.")


def list_troubles(record: EscalationRecord) -> tuple[str, ...]:
    """Return what went wrong with telling people so far, a sentence or more each."""
    known = {(step.level, step.contact) for step in record.steps if step.kind in {"told", "not told"}}
    unknown = tuple(
        f"Whether {contact} was told is not known: the run died meanwhile."
        for level, contact in record.begun
        if (level, contact) not in known
    )
    return (*record.failures, *unknown)


def list_ladder(
    record: EscalationRecord, escalation: Escalation, following: EscalationPlan
) -> tuple[LadderRow, ...]:
    """Return the report's table: everybody on the ladder, and whether and how they were told."""
    names = [level.name for level in escalation.levels]
    begins = _find_start(record, escalation)
    return tuple(
        _describe(record, following, level, contact, below=names.index(level.name) < begins)
        for level in escalation.levels
        for contact in level.contacts
    )


def is_deaf(record: EscalationRecord, plan: EscalationPlan) -> bool:
    """Was everybody of the plan's level tried, and nobody told? Then there is nobody to wait for."""
    tried = [step.kind for step in record.steps if step.level == plan.level and step.kind != "joined"]
    return record.end is None and "not told" in tried and "told" not in tried


def sum_up(
    record: EscalationRecord, plan: EscalationPlan, reached: Sequence[str], zone: tzinfo
) -> EscalationOutcome:
    """Given what a run did, return it in a sentence, and whether somebody has to look at it."""
    if (taken := record.acknowledged) is not None:
        return EscalationOutcome(well=True, said=f"{taken.by} has it: nobody else is told.")
    if plan.ends == "nobody left":
        return EscalationOutcome(well=False, said=plan.said)
    if plan.next_at is None:
        return EscalationOutcome(well=True, said=plan.said)
    if plan.tell and not record.reached:
        return EscalationOutcome(well=False, said="Nobody could be told: see why, and tell people by hand.")
    told = f"{', '.join(reached)} told, level {plan.level}." if reached else plan.said
    at = f"{plan.next_at.astimezone(zone):%H:%M %Z}"
    following = "it is given up" if plan.next_level == AFTER_LAST else f"{plan.next_level} is told"
    return EscalationOutcome(well=True, said=f"{told} Unless somebody acknowledges, {following} at {at}.")


def find_open(records: Sequence[EscalationRecord]) -> EscalationRecord | None:
    """Given all escalations, oldest first, return the newest that still wants somebody, or None."""
    wanting = [record for record in records if record.end is None or record.end.kind == "nobody left"]
    return wanting[-1] if wanting else None


def _find_start(record: EscalationRecord, escalation: Escalation) -> int:
    names = [level.name for level in escalation.levels]
    told = [names.index(level) for level, _ in record.begun if level in names]
    start = choose_start(escalation, record.opening.cause, record.opening.severity)
    return min([names.index(start), *told]) if names else 0


def _find_turn(
    record: EscalationRecord, levels: tuple[Level, ...], now: datetime, begins: int, wanted: str
) -> int:
    """Return the level whose turn it is, never one before those that were told already."""
    names = [level.name for level in levels]
    told = [names.index(level) for level, _ in record.begun if level in names]
    if wanted == AFTER_LAST:
        return len(levels)
    highest = max(told, default=-1)
    if wanted in names and names.index(wanted) > highest:
        return names.index(wanted)
    if not told:
        return begins
    since = _told_at(record, levels[highest]) or now
    # A level that left the profile in the meantime gives its turn to whoever follows.
    is_gone = wanted not in {"", *names}
    return highest + 1 if is_gone or now >= since + _patience(record, levels[highest]) else highest


def _patience(record: EscalationRecord, level: Level) -> timedelta:
    """Return for how long a level is waited for: not for long if the run died while telling it."""
    told = any(step.kind == "told" and step.level == level.name for step in record.steps)
    return level.acknowledge_within if told else min(UNKNOWN_FOR, level.acknowledge_within)


def _told_at(record: EscalationRecord, level: Level) -> datetime | None:
    return next(
        (step.at for step in record.steps if step.kind == "telling" and step.level == level.name), None
    )


def _say_told(level: Level) -> str:
    return f"Level {level.name} was told before: nobody is told again."


def _describe(
    record: EscalationRecord, following: EscalationPlan, level: Level, contact: str, *, below: bool
) -> LadderRow:
    steps = [step for step in record.steps if (step.level, step.contact) == (level.name, contact)]
    if steps:
        last = steps[-1]
        what = {
            "telling": "not known: the run died while telling",
            "told": f"told by {last.channel}" + (f"; {last.said}" if last.said else ""),
            "not told": f"could not be told: {last.said}",
        }[last.kind]
        return LadderRow(level=level.name, contact=contact, at=last.at, what=what)
    if below:
        return LadderRow(level=level.name, contact=contact, what="below where this began")
    if record.end is not None:
        return LadderRow(level=level.name, contact=contact, what="not needed")
    if level.name == following.next_level:
        what = "next, unless somebody acknowledges"
        return LadderRow(level=level.name, contact=contact, at=following.next_at, what=what)
    return LadderRow(level=level.name, contact=contact, what="not yet")
