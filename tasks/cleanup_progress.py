"""What a journal says of a cleanup rule: which parts of its archive stand, and which is not yet deleted."""

from datetime import datetime
from typing import Any, Final

from tasks.errors import ConfigurationError
from tasks.journal import Journal
from tasks.records.archive import ArchivePart

# A part is in the store; its entries may be in the database still.
ARCHIVED: Final = "archived"
# A batch of entries was gone through: which of them are gone from the database.
DELETED: Final = "deleted"
# All of a part is gone from the database.
EMPTIED: Final = "emptied"
# A part gave way to one of the entries that are gone, or to none.
CUT: Final = "cut"
# The archive has its manifest, or there was nothing to publish.
PUBLISHED: Final = "published"


class Progress:
    """How far a rule came, in this run or in one that was killed."""

    def __init__(self, journal: Journal, rule: str) -> None:
        """Given a journal, read what it says of the rule."""
        self._journal, self._rule = journal, rule
        self.parts: dict[int, ArchivePart] = {}
        self.under_way: ArchivePart | None = None
        self.is_published = False
        self.deleted = 0
        # Of the part under way: how many of its entries were gone through, and the places of those gone.
        self.gone_through = 0
        self.gone: list[int] = []
        self.last_at: datetime | None = None
        self._highest = 0
        for entry in journal.entries:
            if entry.facts.get("rule") == rule:
                self._take(entry.step, entry.facts, entry.at)

    @property
    def next_number(self) -> int:
        """The number of the next part: none is given twice, not even one that was cut."""
        return self._highest + 1

    def write(self, step: str, **facts: Any) -> None:
        """Put a step of the rule down."""
        self._journal.write(step, rule=self._rule, **facts)
        self._take(step, facts, self._journal.entries[-1].at)

    def _take(self, step: str, facts: dict[str, Any], at: datetime) -> None:
        if step == PUBLISHED:
            self.is_published = True
            return
        self.last_at = at
        if step == DELETED:
            self._take_deleted(facts)
            return
        if step == CUT:
            del self.parts[facts["number"]]
        if facts.get("part") is not None:
            part = ArchivePart.model_validate(facts["part"])
            self.parts[part.number] = part
            self._highest = max(self._highest, part.number)
            self.under_way = part
            self.gone_through, self.gone = 0, []
        if step != ARCHIVED:
            self.under_way = None

    def _take_deleted(self, facts: dict[str, Any]) -> None:
        if "gone_through" not in facts:
            raise ConfigurationError(
                f"A killed cleanup by the rule {self._rule} was begun by another version of the runbook, "
                "which did not write down which entries it deleted: start it once with that version, it puts "
                "right what was left. Nothing was changed."
            )
        self.deleted += facts["deleted"]
        if self.under_way is None:
            # A rule without an archive has no parts.
            return
        self.gone_through = facts["gone_through"]
        self.gone += [place for first, end in facts["gone"] for place in range(first, end)]
