"""What a service profile says of people: who they are, how they are reached, who is told after whom."""

from collections import Counter
from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from tasks.records.section import HostPath, Reference, Section, WebAddress


class Contact(Section):
    """A person or a team."""

    name: str = Field(min_length=1, description="What people call them", examples=["Database administrator"])
    email: str | None = Field(
        default=None,
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="Reached by SendGrid",
        examples=["dba@example.com"],
    )
    channels: tuple[Reference, ...] = Field(
        default=(),
        description="References to Apprise URLs, tried one after the other, before the e-mail",
        examples=[["file:/etc/runbooks/apprise-on-call"]],
    )

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.email is None and not self.channels:
            raise ValueError(f"nobody can reach '{self.name}': give an email or channels")
        return self


class Level(Section):
    """One rung of the ladder."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$", description="Short name of the level", examples=["database"]
    )
    contacts: tuple[str, ...] = Field(
        min_length=1,
        description="Names of those who are told at once",
        examples=[["Administrator"]],
    )
    acknowledge_within: timedelta = Field(
        gt=timedelta(0),
        description="Nobody acknowledges for so long: the next level is told (ISO 8601 duration)",
        examples=["PT30M"],
    )
    starts_for: tuple[str, ...] = Field(
        default=(),
        description="Causes of outage-triage (docs/reference/causes.md) and severities that begin here",
        examples=[["database down", "critical"]],
    )


class Escalation(Section):
    """Who is told when something is wrong, and who next when nobody answers."""

    levels: tuple[Level, ...] = Field(default=(), description="The ladder, from the first to the last")
    sender: str = Field(
        default="runbooks@example.com",
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="The address that e-mails come from; SendGrid must know it",
        examples=["runbooks@example.com"],
    )
    sendgrid_key: Reference | None = Field(
        default=None,
        description="Reference to a SendGrid key that may send mail; without one there are no e-mails",
        examples=["file:/etc/runbooks/sendgrid-key"],
    )
    sendgrid_url: WebAddress = Field(
        default="https://api.sendgrid.com",
        description="SendGrid's API",
        examples=["https://api.eu.sendgrid.com"],
    )
    receiver_url: WebAddress | None = Field(
        default=None,
        description="Where people reach the alert receiver, which takes their acknowledgement",
        examples=["https://alerts.example.com"],
    )
    receiver_file: HostPath | None = Field(
        default=None,
        description="The receiver's alerts.sqlite, if on this host: last-night shows what started nothing",
        examples=["/var/lib/runbooks/alerts/alerts.sqlite"],
    )
    link_key: Reference | None = Field(
        default=None,
        description="Reference to the key that signs links of acknowledgement; the receiver has it too",
        examples=["file:/etc/runbooks/link-key"],
    )

    @model_validator(mode="after")
    def _levels_differ(self) -> Self:
        twice = [name for name, count in Counter(level.name for level in self.levels).items() if count > 1]
        if twice:
            raise ValueError(f"level '{twice[0]}' is there twice: give each a name of its own")
        if (self.receiver_url is None) != (self.link_key is None):
            raise ValueError("receiver_url and link_key are given together or not at all")
        return self
