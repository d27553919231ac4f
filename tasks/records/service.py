"""The service profile: where a service lives and what is wanted for it. It holds no secret."""

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from tasks.records.application import Application
from tasks.records.credential_care import Credentials
from tasks.records.data_care import Cleanup, QueryCare, RecommendedIndex
from tasks.records.escalation_care import Contact, Escalation
from tasks.records.incident_care import IncidentCare
from tasks.records.outage_care import Firebase, Outage, SystemLogs, Upstream
from tasks.records.section import HostPath, Reference, Section, WebAddress
from tasks.records.user_care import UserCare


@cache
def _list_time_zones() -> frozenset[str]:
    """Return every zone's name: the host's files of all of them are looked through once a process."""
    return frozenset(available_timezones())


def _known_time_zone(name: str) -> str:
    if name not in _list_time_zones():
        raise ValueError(f"'{name}' is no IANA time zone; expected a name like 'Europe/Berlin'")
    return name


class Database(Section):
    """The application's database."""

    kind: Literal["mongodb", "postgresql"] = Field(description="Which server it is", examples=["mongodb"])
    url_variable: str = Field(
        min_length=1,
        description="The variable of the env file that holds its URL",
        examples=["MONGODB_URI"],
    )
    admin_url: Reference = Field(
        description="Reference to a URL that may create and drop the drill's scratch database",
        examples=["file:/etc/runbooks/mongodb-admin-url"],
    )
    client_directory: HostPath | None = Field(
        default=None,
        description="Where pg_dump, pg_restore and psql are when they are not on PATH",
        examples=["/usr/lib/postgresql/18/bin"],
    )


class Destination(Section):
    """Where backup sets go."""

    url: str = Field(
        pattern=r"^(s3://[^/]+|file:///)",
        description="s3://bucket/prefix, or file:///directory",
        examples=["s3://backup-bucket/runbooks"],
    )
    endpoint_url: WebAddress | None = Field(
        default=None,
        description="For a store that is not AWS itself",
        examples=["https://minio.example.com"],
    )
    region: str = Field(default="us-east-1", description="The bucket's region", examples=["eu-central-1"])
    access_key_id: Reference | None = Field(
        default=None,
        description="Reference to the key id; AWS's own chain of credentials when left out",
        examples=["env:BACKUP_ACCESS_KEY_ID"],
    )
    secret_access_key: Reference | None = Field(
        default=None,
        description="Reference to the secret key",
        examples=["file:/etc/runbooks/backup-secret-key"],
    )
    checksums: Literal["when_supported", "when_required"] = Field(
        default="when_required",
        description="boto3's own checksums; some S3-compatible stores refuse them",
        examples=["when_supported"],
    )

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key are given together or not at all")
        return self


class Retention(Section):
    """Which sets are kept. A set is kept when any of these rules wants it."""

    keep_days: int = Field(ge=1, le=36_500, description="Every set younger than so many days", examples=[30])
    keep_daily: int = Field(
        default=0, ge=0, description="The newest set of each of so many days", examples=[7]
    )
    keep_weekly: int = Field(default=0, ge=0, description="... of so many ISO weeks", examples=[4])
    keep_monthly: int = Field(default=0, ge=0, description="... of so many months", examples=[12])
    most_deletes: int = Field(
        default=5,
        ge=0,
        description="A plan that deletes more than this is refused: something is wrong",
        examples=[5],
    )


WhenLate = Literal["run", "skip", "ask"]


class Backup(Section):
    """The nightly backup of the service."""

    destination: Destination = Field(description="Where the sets go")
    retention: Retention = Field(description="Which sets are kept")
    schedule: str = Field(
        default="0 2 * * *", description="Cron expression, in the service's time zone", examples=["0 2 * * *"]
    )
    late_after: timedelta = Field(
        default=timedelta(hours=2),
        description="A scheduled run that starts later than this is late (ISO 8601 duration)",
        examples=["PT2H"],
    )
    when_late: WhenLate = Field(
        default="run", description="What a late run does; ask: it waits for a person", examples=["ask"]
    )
    width: int = Field(
        default=2, ge=1, le=32, description="How many parts are saved side by side", examples=[4]
    )
    size_factor: float = Field(
        default=3.0,
        gt=1,
        description="A set so many times smaller or larger than the recent ones' median is suspicious",
        examples=[3.0],
    )
    drill_every: timedelta = Field(
        default=timedelta(days=35),
        description="The newest passed restore drill may be this old (ISO 8601 duration)",
        examples=["P35D"],
    )


class Runs(Section):
    """Scheduled runs, beside the backup, that change or load the service: what they do when they are late."""

    late_after: timedelta = Field(
        default=timedelta(hours=2),
        description="A scheduled run that starts later than this is late (ISO 8601 duration)",
        examples=["PT2H"],
    )
    when_late: WhenLate = Field(
        default="run",
        description="What a late drill, cleanup, care of indexes, profiling or report of the database does; "
        "ask: it waits for a person",
        examples=["ask"],
    )


class Approval(Section):
    """Which runbooks wait for a person before they change anything."""

    required_for: tuple[str, ...] = Field(
        default=(),
        description="Names of runbooks that show their plan and wait",
        examples=[["restore-database", "restore-application"]],
    )
    expires_after: timedelta = Field(
        default=timedelta(hours=1),
        description="No answer for so long is a no (ISO 8601 duration)",
        examples=["PT1H"],
    )


class ServiceProfile(Section):
    """One operated service. Adding a service is writing one of these."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$",
        description="Short name, the same as the file's",
        examples=["invoice"],
    )
    title: str = Field(
        min_length=1, description="What people call it", examples=["Invoice Management System"]
    )
    time_zone: Annotated[str, AfterValidator(_known_time_zone)] = Field(
        description="IANA name; schedules and days are counted in it", examples=["Europe/Berlin"]
    )
    application: Application = Field(description="The Node.js application")
    database: Database = Field(description="Its database")
    backup: Backup = Field(description="Its nightly backup")
    runs: Runs = Field(default=Runs(), description="What other scheduled runs do when they are late")
    approval: Approval = Field(default=Approval(), description="Which runbooks wait for a person")
    indexes: tuple[RecommendedIndex, ...] = Field(
        default=(), description="The indexes that the application needs, beside those of its primary keys"
    )
    cleanup: Cleanup = Field(default=Cleanup(), description="What of the database is deleted when it is old")
    queries: QueryCare = Field(default=QueryCare(), description="What a slow query and an unused index are")
    outage: Outage = Field(default=Outage(), description="What an outage is, and what is done at once")
    firebase: Firebase | None = Field(default=None, description="Firebase Messaging, where it is used")
    upstreams: tuple[Upstream, ...] = Field(
        default=(), description="What outside of our systems the application needs"
    )
    system_logs: SystemLogs = Field(
        default=SystemLogs(), description="Where logs are beside the application's own"
    )
    users: UserCare = Field(default=UserCare(), description="Its users, and who of them administers")
    incident: IncidentCare = Field(
        default=IncidentCare(), description="What is done when a breach is suspected"
    )
    contacts: tuple[Contact, ...] = Field(default=(), description="Who can be told")
    escalation: Escalation = Field(default=Escalation(), description="Who is told, and who next")
    credentials: Credentials = Field(
        default=Credentials(), description="Its credentials: how they are rotated, and how old they may be"
    )
    state_directory: HostPath = Field(
        default=Path("/var/lib/runbooks"),
        description="Where the host keeps journals, the lock and the audit trail; private, on a local disk",
        examples=["/var/lib/runbooks"],
    )

    @model_validator(mode="after")
    def _levels_name_contacts(self) -> Self:
        known: set[str] = set()
        for contact in self.contacts:
            if contact.name in known:
                raise ValueError(f"contact '{contact.name}' is there twice: give each a name of its own")
            known.add(contact.name)
        for level in self.escalation.levels:
            if unknown := [name for name in level.contacts if name not in known]:
                raise ValueError(
                    f"level '{level.name}' of escalation tells '{unknown[0]}', who is not among contacts"
                )
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone as Python wants it."""
        return ZoneInfo(self.time_zone)

    @property
    def env_path(self) -> Path:
        """The env file's full path."""
        return self.application.directory / self.application.env_file
