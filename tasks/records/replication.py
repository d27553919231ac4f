"""What of logical replication belongs to a database itself, and not to what is in it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Replication:
    """``slots`` are read by others, who follow this database; ``subscriptions`` bring others' changes."""

    slots: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()


NOT_REPLICATED: Final = Replication()
