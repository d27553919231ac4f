"""Is this run later than scheduled, and what does the profile want of a late one?

After an outage every late run starts at once: a night job must not surprise anybody at noon.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tasks.records.figures import say_period
from tasks.records.service import WhenLate


@dataclass(frozen=True, slots=True)
class Lateness:
    """The verdict, and the sentence that says it to the operator."""

    verdict: Literal["on time", "late", "skip", "ask"]
    sentence: str


def judge_lateness(
    scheduled: datetime | None, now: datetime, late_after: timedelta, when_late: WhenLate
) -> Lateness:
    """Given when a run was due (None: a person started it) and when it began, say if it is late."""
    if scheduled is None:
        return Lateness("on time", "Started by hand.")
    delay = max(now - scheduled, timedelta(0))
    if delay <= late_after:
        return Lateness("on time", f"Started {say_period(delay)} after its scheduled time.")
    facts = (
        f"Scheduled for {scheduled:%Y-%m-%d %H:%M %Z}, started {say_period(delay)} later, "
        f"which is more than the {say_period(late_after)} allowed by late_after"
    )
    if when_late == "skip":
        return Lateness("skip", f"{facts}: skipped, as when_late says; start it by hand if it is wanted.")
    if when_late == "ask":
        return Lateness("ask", f"{facts}.")
    return Lateness("late", f"{facts}: it runs all the same, as when_late says.")


def judge_look(scheduled: datetime | None, now: datetime, every: timedelta) -> Lateness:
    """Given when a look was due that is taken every so often, say if the next one has taken its place."""
    found = judge_lateness(scheduled, now, every, "skip")
    if found.verdict == "on time":
        return found
    return Lateness("skip", f"The next one was due {say_period(every)} later, and takes this one's place.")
