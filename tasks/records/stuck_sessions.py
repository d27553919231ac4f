"""Sessions that the application keeps open in its database, and what became of those that were terminated."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from tasks.records.observation import Record

SessionKind = Literal["session", "operation", "transaction"]
# It was terminated and is gone; it had ended by itself; it was told to end and did not.
Ending = Literal["gone", "over", "left"]


class SessionIdentity(Record):
    """Which session it is, so that no other is taken for it: numbers are given again."""

    kind: SessionKind
    """A PostgreSQL session; in MongoDB an operation, or a transaction that is open and idle."""
    number: str
    """The process id, the opid, or the hex digits of the logical session's id."""
    since: datetime
    """When it was opened (PostgreSQL) or began (MongoDB), on the server's clock."""
    client: str = ""

    def __str__(self) -> str:
        """Name it as the database's report does."""
        return f"{self.kind} {self.number}"


class ApplicationSession(Record):
    """A session of the application's own user in its own database. What it does may hold secrets."""

    identity: SessionIdentity
    who: str
    state: str
    """As the server calls it: active, idle, idle in transaction."""
    seconds: float
    """In this state, or since the operation began."""
    waiting_seconds: float | None = None
    """For a lock; None if it does not wait for one."""
    blocked_by: tuple[str, ...] = ()
    """The numbers of the sessions that it waits for; MongoDB does not say."""
    statement: str = Field(default="", repr=False)
    command: Mapping[str, Any] = Field(default={}, repr=False)
    reads_only: bool = False
    """Whether it is an operation that only reads (MongoDB)."""


class Blocker(Record):
    """A session for which others wait, whoever's it is."""

    number: str
    who: str
    longest_wait: float


class DatabaseSessions(Record):
    """The application's sessions, and the blockers among all."""

    at: datetime
    where: str
    sessions: tuple[ApplicationSession, ...]
    blockers: tuple[Blocker, ...] = ()


class StuckSession(Record):
    """A session that is to be terminated. No value of a query is in it."""

    identity: SessionIdentity
    who: str
    doing: str
    """The shape of what it does."""
    why: str
    """The end of a sentence that begins with the session, as "is idle in a transaction for 3 min"."""
    seconds: float


class Terminated(Record):
    """What became of the sessions that were to be terminated."""

    gone: tuple[StuckSession, ...]
    """Terminated, and seen to be gone."""
    over: tuple[StuckSession, ...]
    """They had ended by themselves before."""
    left: tuple[StuckSession, ...]
    """Still there."""
