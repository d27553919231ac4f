"""What was seen of one service's last hours, and what is made of it."""

from datetime import datetime
from typing import Literal

from tasks.records.backup import RepositoryState
from tasks.records.credential_age import CredentialAge
from tasks.records.escalation import EscalationRecord
from tasks.records.observation import Record, Unknown

Verdict = Literal["missed", "failed", "late", "running", "waiting", "skipped", "cancelled", "paused", "ran"]
Level = Literal["bad", "note", "good"]


class DueRunbook(Record):
    """One schedule of a deployed runbook: the moments at which a run was due."""

    runbook: str
    paused: bool
    due: tuple[datetime, ...]


class SeenRun(Record):
    """A run as Prefect has it; ``due`` is None unless a schedule made it."""

    runbook: str
    due: datetime | None
    state: str
    """Prefect's type of the state, as ``COMPLETED``."""
    state_name: str
    message: str
    started: datetime | None


class SeenRuns(Record):
    """What Prefect knows of a service's runbooks in some hours."""

    runbooks: tuple[DueRunbook, ...]
    runs: tuple[SeenRun, ...]
    cleaned_at: datetime | None
    """When the newest cleanup ended that completed and was no dry run, at any time."""
    is_whole: bool
    """False where there were more runs than anybody reads."""


class SeenAlert(Record):
    """Alerts of one name of which nothing was started; ``state`` and ``reason`` are the newest one's."""

    name: str
    state: Literal["waiting", "unmapped", "refused"]
    reason: str
    count: int
    last_seen: datetime


class SeenNight(Record):
    """All that was seen of one service; what could not be seen says why."""

    runs: SeenRuns | Unknown
    repository: RepositoryState | Unknown
    escalations: tuple[EscalationRecord, ...] | Unknown
    going_on: frozenset[str] | Unknown
    """Ids of the escalations with which a run waits or goes on; an empty one for any of them."""
    half_done: tuple[str, ...] | Unknown
    """Runbooks whose journal is open on this host."""
    alerts: tuple[SeenAlert, ...] | Unknown = ()
    credentials: tuple[CredentialAge, ...] | Unknown = ()


class JudgedTime(Record):
    """What became of one moment at which a run was due."""

    runbook: str
    due: datetime
    verdict: Verdict
    reason: str = ""


class NightLine(Record):
    """A line of the page: ``bad`` is for somebody to look at, ``note`` to know."""

    level: Level
    what: str
    how: str
    said: str = ""


class NightPage(Record):
    """One service's lines, worst first."""

    service: str
    title: str
    lines: tuple[NightLine, ...]

    @property
    def bad(self) -> tuple[NightLine, ...]:
        """Return what somebody must look at."""
        return tuple(line for line in self.lines if line.level == "bad")
