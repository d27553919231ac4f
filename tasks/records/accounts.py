"""The accounts of the application's users, and what its audit log says of them. Times are aware, UTC."""

from datetime import datetime
from typing import Literal

from tasks.records.observation import Record

AttemptSource = Literal["audit log", "log"]


class Account(Record):
    """A user as the database has one. What the profile names no field for is None."""

    email: str
    role: str
    """Several are separated by commas."""
    active: bool
    is_admin: bool
    organization: str | None = None
    created: datetime | None = None
    last_login: datetime | None = None


class AccountFacts(Record):
    """What is there for one e-mail address, and who else could administer."""

    where: str
    """The database, its collection or table."""
    asked: str
    exact: tuple[Account, ...]
    """At most two."""
    alike: str | None = None
    """An address that differs in capitals only, where there is no exact one."""
    other_admins: int = 0
    """Active administrators beside this one and the probe."""
    other_admins_of_organization: int = 0
    """Those of the same organisation; the same number where there are none."""
    sessions: int | None = None
    """Sessions in the database; None where the profile names no place of them."""


class KnownAdmin(Record):
    """An administrator as an earlier run saw one."""

    email: str
    organization: str | None = None
    active: bool = True


class AdminsThen(Record):
    """Who administered at a moment."""

    at: datetime
    admins: tuple[KnownAdmin, ...]


class AdminReport(Record):
    """Who administers, what is new, and what is wrong with it."""

    service: str
    at: datetime
    headline: str
    admins: tuple[Account, ...]
    new: tuple[str, ...] = ()
    """E-mail addresses that were no administrators, or not active ones, at the look before."""
    gone: tuple[str, ...] = ()
    compared_with: datetime | None = None
    findings: tuple[str, ...] = ()


class Attempt(Record):
    """Something that was refused: a login, or an access."""

    at: datetime
    source: AttemptSource
    action: str
    user: str | None = None
    address: str | None = None


class AttemptExtract(Record):
    """What one source says of refusals since a moment, oldest first."""

    source: AttemptSource
    where: str
    attempts: tuple[Attempt, ...] = ()
    left_out: int = 0
    """Older ones that were too many."""
