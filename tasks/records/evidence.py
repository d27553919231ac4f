"""What an outage's triage observes. Each part is made by itself, or is ``Unknown`` and says why.

Facts only: what they mean is decided in ``flows/decisions``. No text here holds a secret. Times are aware,
UTC.
"""

from datetime import datetime
from typing import Literal

from tasks.records.database_health import Connections, Sessions
from tasks.records.logs import LogFacts
from tasks.records.observation import Complaint, Record, Unknown
from tasks.records.process import ProcessStatus


class HealthAnswer(Record):
    """One request to a health URL; ``problem`` is the end of a sentence, None when it is healthy."""

    url: str
    seconds: float
    problem: str | None
    status_code: int | None = None
    failure: Literal["refused", "timed out", "unknown host", "tls", "broken off"] | None = None
    """Why there was no HTTP answer at all."""
    error: str | None = None
    """What the body says is wrong, as the runbook's 500 does."""


class HealthFacts(Record):
    """How the service looks from outside: every answer of this triage, in order."""

    answers: tuple[HealthAnswer, ...]

    @property
    def problem(self) -> str | None:
        """What was wrong with the last answer."""
        return self.answers[-1].problem

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong with any answer."""
        return all(answer.problem is None for answer in self.answers)


class PortHolder(Record):
    """A process that listens on the application's port."""

    pid: int | None
    """None for another user's, which an ordinary user does not see; it is never ``left_behind``."""
    name: str
    command: str
    """Its command line, masked and short."""
    ours: bool
    """Whether it is the application's: a process that its manager knows, or one of them descends from."""
    left_behind: bool = False
    """Whether it is the application's own program, started from its directory, that its manager lost."""
    since: datetime | None = None

    @property
    def identity(self) -> str:
        """What no other process has: an id may be another's by now, but not with the same start."""
        return f"process {self.pid} since {self.since.isoformat() if self.since else 'nobody knows when'}"


class PortFacts(Record):
    """Who listens where the application should; ``port`` is its env file's."""

    port: int
    holders: tuple[PortHolder, ...]


class EnvironmentFacts(Record):
    """The application's env file, by the names of its variables; values never leave the task."""

    path: str
    problem: str | None
    """Why it could not be read at all, as a whole sentence."""
    missing: tuple[str, ...] = ()
    malformed: tuple[Complaint, ...] = ()
    repeated: tuple[str, ...] = ()
    """Set more than once, to different values: the last one counts."""
    changed: tuple[str, ...] = ()
    """Whose value is not what it was when the service was healthy last; empty where nothing is remembered."""
    modified_at: datetime | None = None


class ApplicationFacts(Record):
    """The application's files on this host."""

    directory: str
    syntax_errors: tuple[Complaint, ...] = ()
    missing_dependencies: tuple[Complaint, ...] = ()
    unreadable: tuple[Complaint, ...] = ()
    """What the application's user cannot read, or cannot write and has to."""
    changed_at: datetime | None = None
    """When a file of the program changed last."""
    changed_files: tuple[str, ...] = ()
    """Those that changed since the service was healthy last, at most ten."""


class ClockReading(Record):
    """How far another clock is ahead of this host's; behind is negative."""

    source: str
    seconds: float
    uncertainty: float
    """Half of the time that asking took, and what the clock's own steps are."""


DatabaseState = Literal[
    "answers",
    "malformed url",
    "unknown host",
    "refuses connections",
    "does not answer",
    "refuses the password",
    "has no such database",
    "has no connection left",
    "is starting or stopping",
    "has no primary",
    "does not allow it",
    "refuses otherwise",
]


class DatabaseFacts(Record):
    """The application's database, seen with the application's own URL."""

    kind: Literal["mongodb", "postgresql"]
    where: str
    """Host and port, and the database's name."""
    state: DatabaseState
    seconds: float
    problem: str | None = None
    """A sentence, unless it answers."""
    is_empty: bool | None = None
    """Whether it has no collection or table: a MongoDB database that is missing looks like that."""
    clock: ClockReading | None = None
    connections: Connections | Unknown = Unknown(why="nobody asked")
    sessions: Sessions | Unknown = Unknown(why="nobody asked")


class DiskFacts(Record):
    """A file system that the application writes to or lies on."""

    path: str
    total_bytes: int
    free_bytes: int
    free_files: float | None = None
    """The part of its inodes that is free; None where it has no such limit."""


class HostFacts(Record):
    """The host's resources."""

    at: datetime
    disks: tuple[DiskFacts, ...]
    memory_bytes: int
    memory_available_bytes: int
    cores: int
    cpu_percent: float
    """Of all cores, over the time of the observation."""
    waiting_percent: float | None = None
    """How much of the last ten seconds some process waited for a core (Linux pressure stall), 0 to 100."""
    busiest: tuple[Complaint, ...] = ()
    """The processes that take most of it, as "node (412)", "takes 98 % of a core"."""


class FirebaseFacts(Record):
    """Whether Firebase Messaging's credentials work (row I10)."""

    credentials: Literal["accepted", "refused", "malformed", "not set", "unreachable"]
    problem: str | None = None


class AuthenticationFacts(Record):
    """Whether users can log in, and whether tokens hold (row I16)."""

    secret: Literal["set", "not set", "too short", "unknown"]
    secret_changed: bool | None = None
    """Since the service was healthy last; None where nothing is remembered."""
    login: Literal["works", "refused", "no answer", "no token", "not probed"] = "not probed"
    login_problem: str | None = None
    login_status: int | None = None
    """What HTTP status its URL answered with."""
    token_verifies: bool | None = None
    """Whether the probe's token is signed with the secret of the env file; None where there is no token."""


class UpstreamFacts(Record):
    """Something outside that the application needs."""

    name: str
    where: str
    """Its host."""
    state: Literal["answers", "down", "refuses the key"]
    seconds: float
    problem: str | None = None


class CertificateFacts(Record):
    """The certificate of an https health URL."""

    where: str
    ends_at: datetime | None
    problem: str | None
    """Why a client that checks would refuse it; None if it would not."""


class Evidence(Record):
    """All that one triage saw. A part that a service does not have is None."""

    service: str
    at: datetime
    last_healthy: datetime | None
    """When a check last found it healthy; None where none ever did."""
    health: HealthFacts
    public_health: HealthFacts | Unknown | None
    process: ProcessStatus | Unknown
    port: PortFacts | Unknown
    environment: EnvironmentFacts | Unknown
    application: ApplicationFacts | Unknown
    database: DatabaseFacts | Unknown
    host: HostFacts | Unknown
    logs: LogFacts | Unknown
    firebase: FirebaseFacts | Unknown | None
    authentication: AuthenticationFacts | Unknown
    upstreams: tuple[UpstreamFacts, ...] | Unknown
    certificate: CertificateFacts | Unknown | None
    clocks: tuple[ClockReading, ...] | Unknown
