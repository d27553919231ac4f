"""Records of plans: what a run means to do, with its reasons, before it does it.

Decisions make them, artifacts show them, flows apply exactly them.
"""

from dataclasses import dataclass
from datetime import datetime

from tasks.records.backup import SetKind


@dataclass(frozen=True, slots=True)
class BackupOrder:
    """What was asked for: the same backup, wanted by the night or by somebody before a risky operation."""

    kind: SetKind
    reason: str
    dry_run: bool
    accept_changed_size: bool = False
    allow_deletes: int | None = None


@dataclass(frozen=True, slots=True)
class SetDecision:
    """What retention means to do with one set, and why."""

    set_id: str
    created_at: datetime
    stored_bytes: int
    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What retention would keep, delete and collect; ``decided_at`` is the moment ages were counted from.

    ``decisions`` are newest first. A refused plan deletes and collects nothing; its decisions still say
    what would have gone.
    """

    service: str
    decided_at: datetime
    decisions: tuple[SetDecision, ...]
    collect: tuple[str, ...]
    refusal: str | None

    @property
    def deletes(self) -> tuple[str, ...]:
        """Ids of the sets to delete; none when the plan is refused, so that nobody can delete by mistake."""
        if self.refusal is not None:
            return ()
        return tuple(decision.set_id for decision in self.decisions if not decision.keep)

    @property
    def keeps(self) -> tuple[str, ...]:
        """Ids of the sets that stay: all of them when the plan is refused."""
        return tuple(
            decision.set_id for decision in self.decisions if decision.keep or self.refusal is not None
        )


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part that a backup means to save; the estimates are of the night before, or the server's own."""

    name: str
    kind: str
    entries_estimate: int | None
    bytes_estimate: int | None


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What a backup means to save, where to, and what retention will do afterwards.

    ``refusal`` is about the backup alone: a refused retention is no reason to go without a backup.
    """

    set_id: str
    service: str
    destination: str
    parts: tuple[PlannedPart, ...]
    retention: RetentionPlan
    consistency: str
    lateness: str
    refusal: str | None
