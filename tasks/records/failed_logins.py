"""What failed logins come to: by address, by user, by hour, and what of it is too much."""

from datetime import datetime
from typing import Literal

from tasks.records.accounts import AttemptExtract, AttemptSource
from tasks.records.observation import Record


class Suspect(Record):
    """An address or a user of which there is more than one refusal, perhaps."""

    name: str
    """An address as it is; a user masked."""
    count: int
    others: int
    """How many different users an address tried, or from how many addresses a user was tried."""
    first: datetime
    last: datetime
    is_admin: bool = False


class Burst(Record):
    """More refusals within one period than the profile allows."""

    kind: Literal["address", "user", "all"]
    subject: str
    """As in ``Suspect``; empty for all together."""
    source: AttemptSource
    count: int
    """The most within one period."""
    limit: int
    first: datetime
    last: datetime
    """The last refusal of a period with too many."""
    is_new: bool = True
    """Whether some of it came after the last report."""


class LoginReport(Record):
    """The whole page."""

    service: str
    since: datetime
    at: datetime
    headline: str
    read: tuple[AttemptExtract, ...]
    unread: tuple[str, ...] = ()
    """Why a source could not be read, each a sentence."""
    total: int
    by_address: tuple[Suspect, ...] = ()
    by_user: tuple[Suspect, ...] = ()
    by_hour: tuple[tuple[datetime, int], ...] = ()
    bursts: tuple[Burst, ...] = ()

    @property
    def alarming(self) -> tuple[Burst, ...]:
        """What raises an alarm now."""
        return tuple(burst for burst in self.bursts if burst.is_new)
