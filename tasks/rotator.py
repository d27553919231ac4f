"""What differs between credentials: each has a rotator, and ``flows.rotating`` is the machine around it.

Every method may be called again after a kill at any moment of it, has time limits of its own, and reads what
it needs of the provider's admin inside. ``pending`` are the new values, ``previous`` the old ones.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from tasks.records.rotation import CredentialFacts, Kept


class Rotator(Protocol):
    """How one credential of one service is made, put in force, proven and retired."""

    def observe(self) -> CredentialFacts:
        """Return how the credential is now; raise ``RunbookError`` if that cannot be seen."""

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return new values of every variable that changes; the provider makes them where it is its part.

        ``before`` are the ids that the provider had when the rotation was planned. The old ones work on.
        """

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Remove from the provider what ``make`` made, also where its answer never came.

        ``making`` is when that was begun, None if it was not. Of a rotation in grace ``pending`` has only the
        facts.
        """

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """Let the provider accept the new values, where making them was not enough."""

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """Let the provider accept the old values again, where ``put_in_force`` ended them."""

    def accepts(self, values: Kept) -> bool:
        """Does the provider accept these values now? Raise ``UnreachableError`` if it does not say."""

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Wait until the provider accepts the new values, and do with them what the application does.

        Raise ``RunbookError`` if they may less than the old ones.
        """

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return, in a sentence, by which behaviour the application was seen to use the new values.

        None where it shows none. Raise ``UnreachableError`` if it uses others.
        """

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return who or what still uses the old one, so that the stage has to wait; None if nobody does."""

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """Do one stage of ending the old credential at its provider."""

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return, in a sentence, how the old one was refused; raise ``RunbookError`` if it is accepted."""
