"""The audit trail's lines, and what a check of it found."""

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Event = Literal["began", "approved", "rejected", "settled", "finished", "failed"]


class TrailLine(BaseModel):
    """One thing that happened; ``previous`` is the hash of the line before, which chains them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    at: datetime
    service: str
    runbook: str
    event: Event
    run: str
    started_by: str
    host: str
    plan: str
    outcome: str
    previous: str
    hash: str = ""

    def sealed(self) -> "TrailLine":
        """Return the line with its hash, over everything else in it."""
        return self.model_copy(update={"hash": self.expected_hash})

    @property
    def expected_hash(self) -> str:
        """SHA-256 of the line without its hash."""
        content: dict[str, Any] = self.model_dump(mode="json", exclude={"hash"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CheckedTrail(BaseModel):
    """The lines that are as they were written, oldest first, and what is wrong, a sentence each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: tuple[TrailLine, ...]
    findings: tuple[str, ...]
