"""An escalation as its host remembers it: why it began, and every step since."""

from datetime import datetime
from typing import Literal

from tasks.records.observation import Record

StepKind = Literal[
    "telling",
    "told",
    "not told",
    "acknowledged",
    "recovered",
    "nobody left",
    "joined",
]
_ENDS: tuple[StepKind, ...] = ("acknowledged", "recovered", "nobody left")


class Opening(Record):
    """The first line of an escalation."""

    id: str
    service: str
    at: datetime
    reason: str
    cause: str = ""
    severity: str = ""
    was_down: bool
    """Whether the service's health complained when this began: only then does health say that it is over."""


class EscalationStep(Record):
    """Something that happened to an escalation; what does not apply is empty."""

    at: datetime
    kind: StepKind
    level: str = ""
    contact: str = ""
    channel: str = ""
    """By which the contact was told."""
    said: str = ""
    """Channels that failed, a comment, a reason: a sentence or more."""
    by: str = ""
    """Who acknowledged."""


class EscalationRecord(Record):
    """All lines of an escalation, oldest first."""

    opening: Opening
    steps: tuple[EscalationStep, ...] = ()

    @property
    def end(self) -> EscalationStep | None:
        """Return what ended it, or None while it is open; an acknowledgement says more than the others."""
        return self.acknowledged or next((step for step in self.steps if step.kind in _ENDS), None)

    @property
    def acknowledged(self) -> EscalationStep | None:
        """Return the first acknowledgement, or None."""
        return next((step for step in self.steps if step.kind == "acknowledged"), None)

    @property
    def begun(self) -> tuple[tuple[str, str], ...]:
        """Return level and contact of everybody whom a run began to tell, in order."""
        return tuple((step.level, step.contact) for step in self.steps if step.kind == "telling")

    @property
    def reached(self) -> tuple[str, ...]:
        """Return the contacts who were told, each once, in order."""
        return tuple(dict.fromkeys(step.contact for step in self.steps if step.kind == "told"))

    @property
    def failures(self) -> tuple[str, ...]:
        """Return what went wrong with channels so far, a sentence or more each."""
        return tuple(step.said for step in self.steps if step.kind in {"told", "not told"} and step.said)


class EscalationPlan(Record):
    """What a run of an escalation does now."""

    level: str = ""
    """The level that is told, or was; empty where nobody is."""
    tell: tuple[tuple[str, str], ...] = ()
    """Level and contact of everybody who is told now, in order."""
    next_level: str = ""
    """Whose run is created first; empty where nobody follows."""
    next_at: datetime | None = None
    ends: Literal["recovered", "nobody left"] | None = None
    """How the escalation ends by this run."""
    said: str
    """A sentence for people."""


class EscalationOutcome(Record):
    """What a run of an escalation did; ``well`` is False where somebody must look at it."""

    well: bool
    said: str


class Message(Record):
    """What a contact is told."""

    subject: str
    body: str


class Told(Record):
    """Whether a contact was told."""

    contact: str
    channel: str = ""
    """By which; empty if by none."""
    failures: tuple[str, ...] = ()
    """The channels that failed before, a sentence each."""


class AcknowledgementLink(Record):
    """What a link of acknowledgement holds, as signed."""

    id: str
    escalation: str
    service: str
    level: str
    contact: str
    expires: datetime


class LadderRow(Record):
    """One line of the report: somebody of a level, and whether they were told."""

    level: str
    contact: str
    at: datetime | None = None
    what: str
