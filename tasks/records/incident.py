"""A security incident: why it was opened, what was done about it step by step, and what was seen."""

from datetime import datetime
from typing import Final, Literal

from tasks.records.accounts import AttemptExtract
from tasks.records.credential_care import CredentialName
from tasks.records.failed_logins import Suspect
from tasks.records.observation import Record

CLOSED: Final = "closed"
Outcome = Literal["begun", "done", "failed", "left out"]


class Fact(Record):
    """Something that was seen, and where; it holds no secret."""

    text: str
    source: str


class IncidentOpening(Record):
    """Why an incident was opened, and what is to be replaced."""

    id: str
    at: datetime
    service: str
    by: str
    host: str
    run: str
    suspicion: str
    since: datetime
    """From when on it is looked at what happened."""
    credentials: tuple[CredentialName, ...]


class IncidentStep(Record):
    """A step that was begun, or how it ended; ``said`` is a sentence."""

    at: datetime
    step: str
    outcome: Outcome
    said: str = ""
    facts: tuple[Fact, ...] = ()
    run: str = ""


class IncidentRecord(Record):
    """An incident as the host keeps it. It is closed when its document was written."""

    opening: IncidentOpening
    steps: tuple[IncidentStep, ...] = ()

    def find(self, step: str) -> IncidentStep | None:
        """Return how a step ended, or that it was begun; None if it was not."""
        return next((one for one in reversed(self.steps) if one.step == step), None)

    def is_over(self, step: str) -> bool:
        """Was this step done or left out? One that failed may be tried again."""
        found = self.find(step)
        return found is not None and found.outcome in {"done", "left out"}

    @property
    def is_closed(self) -> bool:
        """Was its document written?"""
        return self.find(CLOSED) is not None

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What steps kept of what they saw."""
        return tuple(fact for step in self.steps for fact in step.facts)


class Refusals(Record):
    """Refused logins and accesses since a moment; of which users are masked in what everybody may read."""

    total: int
    by_action: dict[str, int]
    by_address: tuple[Suspect, ...]
    by_user: tuple[Suspect, ...]
    by_hour: tuple[tuple[datetime, int], ...]


class Investigation(Record):
    """What was found out. What could not be seen is said, each a sentence."""

    at: datetime
    read: tuple[AttemptExtract, ...] = ()
    new_admins: tuple[Fact, ...] = ()
    acts: tuple[Fact, ...] = ()
    """What credentials did, and what our own runbooks did, since."""
    unseen: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    """Addresses of all administrators, to mark whom somebody tried."""
    probe: str | None = None
    """Our own user, whose refused tokens are proofs of a rotation."""


class IncidentReport(Record):
    """The whole document."""

    record: IncidentRecord
    investigation: Investigation
    headline: str
    well: bool
    """Whether nothing at all failed."""
    to_do: tuple[str, ...]
