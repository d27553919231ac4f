"""A scheduled run that starts late does what the profile says: after an outage all of them start at once."""

from datetime import datetime, timedelta
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.decisions.lateness import judge_lateness, judge_look
from tasks.approval import agree_to_late_start
from tasks.late_turns import take_late_turn
from tasks.records.service import Backup, Runs, ServiceProfile
from tasks.run_context import Run

# The shortest interval of what is looked at all day.
_NEXT_LOOK: Final = timedelta(minutes=10)


def skip_late(profile: ServiceProfile, run: Run) -> State[Any] | None:
    """Given a run at its start, return how it ends if it is late and skipped; None if it is to run."""
    return start(profile, run, profile.runs)[1]


def start(profile: ServiceProfile, run: Run, rule: Backup | Runs) -> tuple[str, State[Any] | None]:
    """Given a run at its start, return how late it is, in a sentence, and its end if it is to be skipped.

    A late one that runs is the only late one of its service on this host; others are put back meanwhile. One
    that asks is suspended here, and comes here again when it is answered.
    """
    lateness = judge_lateness(run.due, _begin(run), rule.late_after, rule.when_late)
    said = lateness.sentence
    if lateness.verdict == "on time":
        return said, None
    if lateness.verdict == "ask":
        agreed, outcome = agree_to_late_start(profile, run, said)
        said = f"{said} {'Approved' if agreed else 'Skipped'} {outcome}."
        if not agreed:
            return said, _skip(profile, said)
    if lateness.verdict == "skip":
        return said, _skip(profile, said)
    take_late_turn(profile, run)
    return said, None


def skip_replaced(profile: ServiceProfile, run: Run) -> State[Any] | None:
    """Given a run that looks at something all day, return how it ends if the next one was due meanwhile."""
    found = judge_look(run.due, _begin(run), _NEXT_LOOK)
    return _skip(profile, found.sentence) if found.verdict == "skip" else None


def _begin(run: Run) -> datetime:
    return run.first_started or run.started


def _skip(profile: ServiceProfile, said: str) -> State[Any]:
    return Cancelled(name="Skipped", message=f"{profile.name}: {said}")
