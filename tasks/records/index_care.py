"""What the care of indexes finds in a database, and what it does there."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.records.indexes import IndexFacts

ActKind = Literal["remove", "rebuild", "drop", "vacuum", "analyze", "compact"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexBloat(_Record):
    """How much of an index holds nothing."""

    source: str
    name: str
    wasted: float
    """Of all its bytes, from 0 to 1."""
    measured: bool
    """Whether the index was read for it; else it is estimated from the table's statistics."""


class TableState(_Record):
    """What a table's vacuum has left, and how old its statistics are."""

    source: str
    bytes: int
    live: int
    dead: int
    vacuum_above: int
    """So many dead rows make autovacuum begin."""
    last_vacuum: datetime | None
    modified: int
    """Rows that were changed since the statistics were made."""
    analyze_above: int
    last_analyze: datetime | None
    index_writes: int
    """How often each of its indexes was written to since its statistics began."""
    wasted_bytes: int = 0
    """Of its own file, what should be empty as estimated; 0 where there are no statistics."""


class SequenceState(_Record):
    """How far a sequence has come: the limit is its own, or that of the column that it feeds."""

    name: str
    last: int
    limit: int
    feeds: str


class TransactionAge(_Record):
    """How many transactions the oldest one is behind that the server still has to tell from the others."""

    counter: Literal["transaction ids", "multixacts"]
    age: int
    vacuum_above: int
    held_by: str
    """What keeps vacuum from making it younger; nothing where there is nothing."""


class CollectionSpace(_Record):
    """How much of a collection's file, on one member, holds nothing."""

    source: str
    member: str
    is_primary: bool
    file_bytes: int
    reusable_bytes: int


class IndexUseFacts(_Record):
    """The indexes of a database with their counts of uses, and what these are worth."""

    observed_at: datetime
    indexes: tuple[IndexFacts, ...]
    uncounted: str = ""
    """Why the server's counts of uses say nothing; empty where they do."""
    counted_by: str = ""
    """Which member of several counted."""


class IndexCareFacts(IndexUseFacts):
    """A database as the care of indexes sees it. An index is named by its source and its own name."""

    identity: str
    """Which database the name stands for."""
    cannot_rebuild: str = ""
    """Why nothing can be rebuilt on this server; empty where it can."""
    bloat: tuple[IndexBloat, ...] = ()
    tables: tuple[TableState, ...] = ()
    sequences: tuple[SequenceState, ...] = ()
    ages: tuple[TransactionAge, ...] = ()
    spaces: tuple[CollectionSpace, ...] = ()
    away: tuple[str, ...] = ()
    """Members that did not answer: of their files nothing is known."""

    def find(self, key: str) -> IndexFacts | None:
        """Return the index of this name, or None."""
        return next((index for index in self.indexes if name_index(index) == key), None)


class CareAct(_Record):
    """One act. ``bytes`` is what it concerns had before; ``definition`` makes a dropped index again."""

    kind: ActKind
    source: str
    name: str = ""
    member: str = ""
    bytes: int = 0
    definition: str = ""

    @property
    def key(self) -> str:
        """The index's name, or the collection's or table's."""
        return f"{self.source}/{self.name}" if self.name else self.source


class Finding(_Record):
    """Something that was found. An alarm ends the run as Failed; what is minor is good to know."""

    severity: Literal["alarm", "warning", "minor"]
    sentence: str


class ObservedUse(_Record):
    """What samples say of an index: its uses, how long they watched it, how long at last nobody used it.

    Time counts as watched only where a counter covers it. What was counted between the last sample and a
    restart of the server is lost, so that is not watched.
    """

    uses: int
    watched: timedelta
    idle: timedelta


class DoneAct(_Record):
    """What became of an act: the size after it, or the sentence in which it failed."""

    act: CareAct
    after: int | None = None
    problem: str = ""


def name_index(index: IndexFacts) -> str:
    """Return what an index is called among all of its database."""
    return f"{index.source}/{index.name}"
