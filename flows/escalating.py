"""How an escalation goes on: the next run first, then one contact after the other, each claimed and told."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from flows.decisions.escalation import AFTER_LAST, UNKNOWN_FOR, is_deaf, plan_escalation, plan_everybody
from flows.decisions.escalation_message import NO_RECORD, write_message, write_recovery
from tasks.contact_links import make_contact_link
from tasks.errors import RunbookError, StoreFullError
from tasks.escalation_runs import (
    call_off_levels,
    dismiss_guard,
    has_server,
    schedule_guard,
    schedule_level,
)
from tasks.escalations import claim_end, claim_telling, read_escalation, record_step
from tasks.notifying import tell
from tasks.records.escalation import EscalationPlan, EscalationRecord, EscalationStep, Opening, StepKind, Told
from tasks.records.service import ServiceProfile
from tasks.run_context import read_clock

_LINKS_LAST: Final = timedelta(hours=24)


@dataclass
class Climbing:
    """An escalation under way: what came of this run, and what could not be done."""

    profile: ServiceProfile
    escalation: str
    plan: EscalationPlan
    told: list[Told] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def reached(self) -> tuple[str, ...]:
        """Return who was told by this run."""
        return tuple(f"{one.contact} by {one.channel}" for one in self.told if one.channel)

    def read(self) -> EscalationRecord:
        """Return the escalation as it is by now."""
        return read_escalation(self.profile, self.escalation)


def climb(profile: ServiceProfile, escalation: str, level: str, *, healthy: bool) -> Climbing:
    """Do what is to be done now. A level of which nobody can be told gives its turn to the next at once."""
    record = read_escalation(profile, escalation)
    decide = partial(plan_escalation, escalation=profile.escalation, healthy=healthy)
    climbing = Climbing(profile, escalation, decide(record, now=read_clock(), level=level))
    while True:
        plan = climbing.plan
        guard = _schedule(climbing)
        for one, contact in plan.tell:
            _tell(climbing, one, contact)
        _dismiss(climbing, guard)
        record = climbing.read()
        if plan.next_level == AFTER_LAST or not is_deaf(record, plan):
            break
        climbing.plan = decide(record, now=read_clock(), level=plan.next_level)
    if climbing.plan.ends is not None:
        _end(climbing, climbing.plan.ends)
    return climbing


def call_everybody(profile: ServiceProfile, opening: Opening, level: str, why: str) -> str:
    """Tell everybody from a level on, and return what became of that: without a record nobody is next."""
    steps = (_step(opening.at, "not told").model_copy(update={"said": f"{NO_RECORD} {why}"}),)
    record = EscalationRecord(opening=opening.model_copy(update={"id": ""}), steps=steps)
    plan = plan_everybody(profile.escalation, level)
    contacts = {contact.name: contact for contact in profile.contacts}
    told = [
        tell(profile, contacts[name], write_message(profile, record, plan, one, None))
        for one, name in plan.tell
    ]
    reached = ", ".join(f"{one.contact} by {one.channel}" for one in told if one.channel)
    failures = " ".join(failure for one in told for failure in one.failures)
    return f"{profile.name}: {NO_RECORD} Told: {reached or 'nobody'}. {why} {failures}".strip()


def _schedule(climbing: Climbing) -> UUID | None:
    """Make the next level's run before anybody is told; without it people are told all the more.

    Where somebody is told now, return a second run, which comes soon unless this one says that it got so far.
    """
    plan, profile, escalation = climbing.plan, climbing.profile, climbing.escalation
    if plan.next_at is None:
        return None
    try:
        if has_server():
            schedule_level(profile, escalation, plan.next_level, plan.next_at)
            at = read_clock() + UNKNOWN_FOR
            return schedule_guard(profile, escalation, plan.level, at) if plan.tell else None
        why = "this is a shell without a Prefect server."
    except RunbookError as error:
        why = str(error)
    climbing.problems.append(
        f"No run waits to tell {plan.next_level}: {why} Start escalate again when it is their turn."
    )
    return None


def _dismiss(climbing: Climbing, guard: UUID | None) -> None:
    if guard is not None:
        # One that comes all the same finds that people were told.
        with suppress(RunbookError):
            dismiss_guard(climbing.profile, guard)


def _tell(climbing: Climbing, level: str, name: str) -> None:
    profile, escalation = climbing.profile, climbing.escalation
    now = read_clock()
    record = climbing.read()
    try:
        if not claim_telling(profile, escalation, _step(now, "telling", level, name)):
            return
    except StoreFullError as error:
        # A full disk is a reason to call people, and none to be silent.
        climbing.problems.append(f"Whom this run told is not remembered: {error}")
    contact = next(one for one in profile.contacts if one.name == name)
    link = _link(climbing, record, level, name, now)
    told = tell(profile, contact, write_message(profile, record, climbing.plan, level, link))
    climbing.told.append(told)
    said = " ".join(told.failures)
    kind: StepKind = "told" if told.channel else "not told"
    step = _step(read_clock(), kind, level, name).model_copy(update={"channel": told.channel, "said": said})
    with suppress(StoreFullError):
        record_step(profile, escalation, step)


def _link(
    climbing: Climbing, record: EscalationRecord, level: str, contact: str, now: datetime
) -> str | None:
    try:
        return make_contact_link(climbing.profile, record.opening.id, level, contact, now + _LINKS_LAST)
    except RunbookError as error:
        # They can still acknowledge in the UI, as the message then says.
        climbing.problems.append(f"There is no link of acknowledgement: {error}")
        return None


def _end(climbing: Climbing, kind: StepKind) -> None:
    """End it, and let those who were told know when the service recovered."""
    profile, record = climbing.profile, climbing.read()
    if record.end is not None:
        return
    if kind == "recovered":
        # First: a run that is killed here tells some twice, and not nobody.
        message = write_recovery(profile, record)
        climbing.told += [
            tell(profile, contact, message) for contact in profile.contacts if contact.name in record.reached
        ]
    if not claim_end(profile, climbing.escalation, _step(read_clock(), kind)):
        return
    if has_server():
        try:
            call_off_levels(profile, climbing.escalation, f"The escalation has ended: {kind}.")
        except RunbookError as error:
            # A run that waits finds out by itself.
            climbing.problems.append(str(error))


def _step(at: datetime, kind: StepKind, level: str = "", contact: str = "") -> EscalationStep:
    return EscalationStep(at=at, kind=kind, level=level, contact=contact)
