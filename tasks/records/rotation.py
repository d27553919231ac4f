"""What is known of a rotation: of the credential before it, of its stages, and of one that is in grace."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import Field

from tasks.records.credential_care import CredentialName
from tasks.records.observation import Record

RUNBOOKS: Final[dict[CredentialName, str]] = {
    "jwt-secret": "rotate-jwt-secret",
    "database-password": "rotate-database-password",
    "s3": "rotate-s3-credentials",
    "stripe-key": "rotate-stripe-keys",
    "stripe-webhook-secret": "rotate-stripe-keys",
    "sendgrid-key": "rotate-sendgrid-key",
}
# What such a runbook is told beside the service, where it rotates more than one.
PARAMETERS: Final[dict[CredentialName, dict[str, str]]] = {
    "stripe-key": {"which": "key"},
    "stripe-webhook-secret": {"which": "webhook-secret"},
}


class Stage(Record):
    """One act of retiring the old credential, so long after the one before it (the first: after the proof).

    ``unset`` are variables of the env file that go with it.
    """

    name: str
    after: timedelta
    unset: tuple[str, ...] = ()


class CredentialFacts(Record):
    """A credential as it is before its rotation. It holds no secret.

    ``variables`` are those of the env file that a rotation changes, each with a fingerprint of its value that
    means something on this host only; None for one that is not set. ``provider`` are the provider's own ids
    of all credentials of that kind, each with a word about it: what is new there after a failure is ours.
    ``setting``, ``testing`` and ``proving`` say in words what will be done, and ``undoing`` how the provider
    has it taken back. ``is_dead`` tells that the provider refuses it already: then it is never put back.
    ``refusal`` says why it cannot be rotated, and the way out.
    """

    credential: CredentialName
    identity: str
    variables: dict[str, str | None]
    provider: dict[str, str] = Field(default_factory=dict)
    making: str
    setting: str | None = None
    testing: str
    proving: str
    undoing: str
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...] = ()
    is_dead: bool = False
    refusal: str | None = None


@dataclass(frozen=True)
class Kept:
    """Values of the env file that a rotation keeps in a private file; None for a variable that is not set.

    ``facts`` are what the provider calls it; they are no secret.
    """

    rotation: str
    variables: dict[str, str | None] = field(repr=False)
    facts: dict[str, str] = field(default_factory=dict)

    def value(self, variable: str) -> str:
        """Return a variable's value, empty where it is not set."""
        return self.variables.get(variable) or ""


class OpenRotation(Record):
    """A rotation whose new credential is in force and whose old one is not retired yet. It holds no secret.

    ``stages`` are those that are left, the first due at ``due``. Of an ``emergency`` nothing is waited for,
    whoever goes on with it.
    """

    rotation: str
    credential: CredentialName
    emergency: bool = False
    verified_at: datetime
    due: datetime
    stages: tuple[Stage, ...]
    facts: dict[str, str]


class RotationEvent(Record):
    """One line of what was done to a credential on this host."""

    at: datetime
    credential: CredentialName
    rotation: str
    event: Literal["rotated", "retired", "undone"]
    by: str
    fingerprint: str = ""
    """Of the value then, as the credential report has it."""


class FoundAfterKill(Record):
    """What is there of a rotation that was killed, or failed.

    ``pending`` and ``previous`` say whether the provider accepts the new and the old values now,
    ``environment`` which of them the env file has, and ``present`` whether those are accepted.
    """

    pending: Literal["not kept", "accepted", "refused"]
    previous: Literal["not kept", "accepted", "refused"]
    environment: Literal["previous", "pending", "other"]
    present: Literal["accepted", "refused"]
