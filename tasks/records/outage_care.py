"""What a service profile says of outages: what is observed, what counts as bad, what may be done at once."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from tasks.records.section import HostPath, Section, WebAddress

Remedy = Literal["restart", "free-port", "reset-connections"]


class Firebase(Section):
    """Firebase Cloud Messaging, by the variables of the env file that hold its service account."""

    project_variable: str = Field(
        default="FIREBASE_PROJECT_ID", description="Holds the project's id", examples=["FIREBASE_PROJECT_ID"]
    )
    email_variable: str = Field(
        default="FIREBASE_CLIENT_EMAIL",
        description="Holds the service account's e-mail address",
        examples=["FIREBASE_CLIENT_EMAIL"],
    )
    key_variable: str = Field(
        default="FIREBASE_PRIVATE_KEY",
        description="Holds the service account's private key, PEM",
        examples=["FIREBASE_PRIVATE_KEY"],
    )
    token_url: WebAddress = Field(
        default="https://oauth2.googleapis.com/token",
        description="Gives an access token for the key",
        examples=["https://oauth2.googleapis.com/token"],
    )
    started_line: str = Field(
        default="Firebase Messaging initialized successfully",
        min_length=1,
        description="What the application's log says when Firebase is up",
        examples=["Firebase Messaging initialized successfully"],
    )


class Upstream(Section):
    """Something outside that the application needs, asked with one cheap GET that changes nothing."""

    name: str = Field(min_length=1, description="What people call it", examples=["Stripe"])
    url: WebAddress = Field(
        description="Answers anything below 500 when it is up",
        examples=["https://api.stripe.com/v1/balance"],
    )
    bearer_variable: str | None = Field(
        default=None,
        description="The variable of the env file whose value is sent as bearer token; 401 is then a bad key",
        examples=["STRIPE_SECRET_KEY"],
    )


class SystemLogs(Section):
    """Logs outside of the application. What is not named is not read."""

    journal_unit: str | None = Field(
        default=None, description="Unit whose journal is read by journalctl", examples=["propertypulse-api"]
    )
    files: tuple[HostPath, ...] = Field(
        default=(), description="The system's own log files", examples=[["/var/log/syslog"]]
    )
    database_files: tuple[str, ...] = Field(
        default=(),
        description="The database's log files, when it runs on this host; shell patterns may be used",
        examples=[["/var/log/postgresql/postgresql-*.log"]],
    )
    windows_source: str | None = Field(
        default=None,
        description="Source in the Windows event log, Application",
        examples=["PropertyPulse"],
    )


class Outage(Section):
    """What counts as suffering, and what may be done about it without asking anybody."""

    remedies: tuple[Remedy, ...] = Field(
        default=(),
        description="What is done at once; every other remedy waits for a person's approval",
        examples=[["restart", "free-port"]],
    )
    remedies_per_hour: int = Field(
        default=3, ge=0, description="So many remedies within an hour, then people are needed", examples=[3]
    )
    healthy_for: timedelta = Field(
        default=timedelta(seconds=30),
        description="So long after a remedy it must stay healthy (ISO 8601 duration)",
        examples=["PT30S"],
    )
    slow_after: timedelta = Field(
        default=timedelta(seconds=2),
        description="A health answer that takes longer is an outage as well (ISO 8601 duration)",
        examples=["PT2S"],
    )
    memory_limit_mib: int | None = Field(
        default=None,
        ge=1,
        description="So much memory one process of the application may have",
        examples=[512],
    )
    least_free_disk: float = Field(
        default=0.05, ge=0, lt=1, description="Less of a disk free than this part is full", examples=[0.05]
    )
    least_free_memory: float = Field(
        default=0.05, ge=0, lt=1, description="Less of the host's memory free is exhausted", examples=[0.05]
    )
    clock_tolerance: timedelta = Field(
        default=timedelta(seconds=30),
        description="Clocks may differ by so much (ISO 8601 duration)",
        examples=["PT30S"],
    )
    certificate_days: int = Field(
        default=14,
        ge=0,
        description="A certificate that ends within so many days is worth a word",
        examples=[14],
    )
    stuck_after: timedelta = Field(
        default=timedelta(seconds=60),
        description="A session that is idle in a transaction, waits for a lock, or keeps others waiting for "
        "so long is stuck (ISO 8601 duration)",
        examples=["PT60S"],
    )
