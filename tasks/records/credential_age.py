"""How old a credential is, who uses it, and until when it works: what the credential report shows."""

from datetime import date, datetime, timedelta
from typing import Literal

from tasks.records.observation import Record, Unknown

AgeVerdict = Literal["EXPIRED", "OVERDUE", "NOT SET", "not retired", "due soon", "not known", "ok"]


class CredentialAge(Record):
    """A credential of a service as it is now. It holds no secret.

    ``since`` is when its present value came: ``source`` says how that is known. One that was there before the
    first report is at least so old. ``retires`` is when the old one of a rotation is retired.
    """

    service: str
    name: str
    owner: str | None
    held_in: str
    is_set: bool
    since: datetime | None = None
    source: Literal["rotated here", "its provider", "first seen", "not known"] = "not known"
    rotated: datetime | None = None
    used: datetime | Unknown | None = None
    expires: date | None = None
    rotate_every: timedelta
    retires: datetime | None = None
    problem: str | None = None


class JudgedAge(Record):
    """A credential with the verdict on it, and what to do as a sentence where there is something."""

    age: CredentialAge
    verdict: AgeVerdict
    to_do: str | None = None
