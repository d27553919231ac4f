"""What a rotation needs of a database server's users, whichever server it is."""

from datetime import timedelta
from typing import Protocol


class DatabaseUsers(Protocol):
    """The users of a database server, as its administrator and as the application see them."""

    @property
    def place(self) -> str:
        """What a person calls the database."""
        ...

    @property
    def in_which_form(self) -> str:
        """How a new password goes to the server, as the end of a sentence."""
        ...

    @property
    def settled_within(self) -> float:
        """So many seconds after a change every member of the server follows."""
        ...

    @property
    def tells_sessions_apart(self) -> bool:
        """Can it end only those sessions of a user that are older than its password?"""
        ...

    def refuse(self, user: str, following: str | None) -> str | None:
        """Return why the password cannot be rotated, and the way out; None if it can.

        ``following`` is who takes the turn. Raise ``UnreachableError`` if the server does not say.
        """
        ...

    def warn(self, user: str) -> tuple[str, ...]:
        """Return what a new password of the user's does not change, and somebody has to see to, if anything.

        Raise ``UnreachableError`` if the server does not say.
        """
        ...

    def set_password(self, user: str, password: str) -> None:
        """Let the server accept this password of the user's and no other."""
        ...

    def end_password(self, user: str) -> None:
        """Let the server accept no password of the user's that anybody knows."""
        ...

    def accepts(self, url: str) -> bool:
        """Does a new connection get in? Raise ``UnreachableError`` if the server does not say."""
        ...

    def exercise(self, url: str, previous: str | None) -> None:
        """Do by a new connection what the application does, and leave nothing of it.

        Raise ``RunbookError`` if it may not, or may less than the ``previous`` URL's user.
        """
        ...

    def list_sessions(self, user: str) -> tuple[str, ...]:
        """Return where the user's open sessions come from, one each, without ours."""
        ...

    def end_sessions(self, user: str, older_than: timedelta | None) -> None:
        """End the user's sessions, only those opened so long ago if it is given."""
        ...
