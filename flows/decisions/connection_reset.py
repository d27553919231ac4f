"""Which of the application's sessions are stuck, and are to be terminated.

As few as will do: who only waits for one that is to go, goes on by itself.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from flows.decisions.query_masking import mask_document, mask_sql
from tasks.records.figures import say_count, say_duration
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile
from tasks.records.stuck_sessions import ApplicationSession, DatabaseSessions, StuckSession

RUNBOOK: Final = "reset-connections"
_LONGEST_SHAPE: Final = 200
_UNDO: Final = "nothing: what it had not committed is rolled back, and the application opens another"


class ResetPlan(RunbookPlan):
    """The plan, with the sessions that it terminates."""

    targets: tuple[StuckSession, ...]
    all_of_the_application: bool


def plan_reset(
    profile: ServiceProfile, found: DatabaseSessions, *, all_of_the_application: bool
) -> ResetPlan:
    """Given the application's sessions, return which of them are terminated and why."""
    limit = profile.outage.stuck_after
    targets = list_all(found) if all_of_the_application else find_stuck(found, limit)
    return ResetPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=_summarize(found, targets, None if all_of_the_application else limit)
        + _name_strangers(found, limit),
        acts=tuple(_describe(target) for target in targets),
        rests_on={"database": found.where},
        targets=targets,
        all_of_the_application=all_of_the_application,
    )


def _summarize(found: DatabaseSessions, targets: tuple[StuckSession, ...], limit: timedelta | None) -> str:
    sessions = f"{say_count(len(found.sessions), 'session')} of the application in {found.where}"
    if limit is None:
        return f"The {sessions} are all terminated."
    stuck = f"stuck for {say_duration(limit.total_seconds())}"
    if not targets:
        return f"Of the {sessions}, none is {stuck}."
    return f"Of the {sessions}, {say_count(len(targets), 'is', 'are')} {stuck} and terminated."


def list_all(found: DatabaseSessions) -> tuple[StuckSession, ...]:
    """Return every session of the application."""
    return tuple(_as_target(one, f"is one of the application's, {one.state}") for one in found.sessions)


def find_stuck(found: DatabaseSessions, limit: timedelta) -> tuple[StuckSession, ...]:
    """Return the sessions that are stuck for as long as the limit, without those that only wait for them."""
    seconds = limit.total_seconds()
    waited_for = {one.number: one.longest_wait for one in found.blockers}
    free = [one for one in found.sessions if one.waiting_seconds is None]
    reasons = {one.identity.number: _say_why_stuck(one, waited_for, seconds) for one in free}
    going = {number for number, why in reasons.items() if why}
    released = _find_released(found.sessions, going)
    for one in found.sessions:
        number, waits = one.identity.number, one.waiting_seconds or 0.0
        held_up = max(waits, waited_for.get(number, 0.0))
        if one.waiting_seconds is not None and number not in released and held_up >= seconds:
            reasons[number] = f"waits for a lock for {say_duration(waits)}{_name_holders(one, found)}"
    return tuple(_as_target(one, why) for one in found.sessions if (why := reasons.get(one.identity.number)))


def _say_why_stuck(one: ApplicationSession, waited_for: Mapping[str, float], limit: float) -> str:
    """Return why one that waits for nobody is stuck, or nothing."""
    keeps = waited_for.get(one.identity.number, 0.0)
    others = f"keeps others waiting for {say_duration(keeps)}"
    if one.state.startswith("idle in transaction") and one.seconds >= limit:
        idle = f"is idle in a transaction for {say_duration(one.seconds)}"
        return f"{idle}, and {others}" if keeps else idle
    if keeps >= limit:
        return others
    if one.reads_only and one.seconds >= limit:
        return f"reads for {say_duration(one.seconds)}, longer than anybody waits for an answer"
    return ""


def _find_released(sessions: Iterable[ApplicationSession], going: set[str]) -> set[str]:
    """Return those that go on when these are gone, directly or one after the other."""
    waiting = {one.identity.number: set(one.blocked_by) for one in sessions if one.blocked_by}
    released: set[str] = set()
    while more := {
        number for number, by in waiting.items() if number not in released and by <= going | released
    }:
        released |= more
    return released


def _name_holders(one: ApplicationSession, found: DatabaseSessions) -> str:
    who = {blocker.number: blocker.who for blocker in found.blockers}
    held = ", ".join(f"session {number} ({who.get(number, 'unknown')})" for number in one.blocked_by)
    return f", which {held} holds" if held else ""


def _name_strangers(found: DatabaseSessions, limit: timedelta) -> str:
    """Say whose sessions keep the application waiting that are not its own: they are left alone."""
    ours = {one.identity.number for one in found.sessions}
    waited_for = {number for one in found.sessions for number in one.blocked_by} - ours
    strangers = [
        f"session {one.number} ({one.who})"
        for one in found.blockers
        if one.number in waited_for and one.longest_wait >= limit.total_seconds()
    ]
    if not strangers:
        return ""
    return f" It is kept waiting by {', '.join(strangers)}, not the application's, which is left alone."


def _as_target(one: ApplicationSession, why: str) -> StuckSession:
    shape = (
        mask_sql(one.statement) if one.statement else mask_document(one.command) if one.command else "nothing"
    )
    return StuckSession(
        identity=one.identity, who=one.who, doing=shape[:_LONGEST_SHAPE], why=why, seconds=one.seconds
    )


def _describe(target: StuckSession) -> PlannedAct:
    return PlannedAct(
        what=f"Terminate {target.identity} ({target.who})",
        why=f"It {target.why}. Its statement: {target.doing}",
        how_many=f"since {target.identity.since:%Y-%m-%d %H:%M:%S} UTC",
        undo=_UNDO,
    )
