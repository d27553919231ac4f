"""What was done about outages, and what is to be done about this one."""

from datetime import datetime
from typing import Literal

from tasks.records.observation import Record
from tasks.records.outage_care import Remedy
from tasks.records.runbook_plan import RunbookPlan

Outcome = Literal["begun", "healthy again", "not healthy", "undone", "failed"]


class PastRemedy(Record):
    """A remedy that was begun, kept on the host: the budget counts these."""

    at: datetime
    run: str
    remedy: Remedy
    fingerprint: str
    """Of the diagnosis that it answered: no remedy is done twice for the same."""
    outcome: Outcome


class RemedyStep(Record):
    """One remedy for one cause."""

    remedy: Remedy
    cause: str
    target: str


class RemediationPlan(RunbookPlan):
    """The remedies in their order."""

    fingerprint: str
    steps: tuple[RemedyStep, ...]
    needs_approval: bool


class DeliberateStop(Record):
    """That a person stopped the application, and since when, aware, UTC."""

    at: datetime
    by: str


class Hold(Record):
    """What the kill switch says. ``asked`` is False for a run from a shell that has no server to ask."""

    reason: str | None = None
    """Why nothing may be done, as people wrote it; None where it is off."""
    asked: bool = True


class Remediated(Record):
    """What became of a plan."""

    outcome: Literal["healthy again", "not needed", "planned", "refused", "handed over"]
    """"refused": nothing was done. "handed over": something was, and people are needed."""
    said: str
    """A sentence or two for people."""
    plan: RemediationPlan | None = None
    """None where none could be made, as ``said`` says."""
    done: tuple[str, ...] = ()
    """What was done, a sentence each."""
