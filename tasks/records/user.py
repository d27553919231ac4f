"""A user of the application, as its database knows one."""

from typing import Literal

from tasks.records.observation import Record


class UserFacts(Record):
    """Whether somebody who cannot log in is known, and may; nothing else of the user."""

    asked: str
    where: str
    """The collection or table, and its field."""
    found: Literal["found", "spelled otherwise", "several", "not found"]
    active: bool | None = None
    """None where no field tells."""
    told_by: str | None = None
    """The field that tells it."""
