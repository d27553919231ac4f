"""What a runbook means to change: shown before it is done, and done exactly as shown."""

import hashlib

from pydantic import BaseModel, ConfigDict


class PlannedAct(BaseModel):
    """One act of a plan, in the order in which they are done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    why: str
    how_many: str = ""
    undo: str


class RunbookPlan(BaseModel):
    """An immutable list of acts with reasons.

    ``rests_on`` is what must still be so when the plan is applied, name to value. A plan with a ``refusal``
    is shown and never applied. ``difference`` is what changes in a file, as diff writes it, without secrets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    runbook: str
    service: str
    summary: str
    acts: tuple[PlannedAct, ...]
    rests_on: dict[str, str]
    refusal: str | None = None
    difference: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan: what was approved is what is applied."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
