"""Evidence of outages, made up: that of a service that is well, and how each fault changes it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tasks.records.database_health import Blocked, ConnectionGroup, Connections, Session, Sessions
from tasks.records.evidence import (
    ApplicationFacts,
    AuthenticationFacts,
    CertificateFacts,
    ClockReading,
    DatabaseFacts,
    DiskFacts,
    EnvironmentFacts,
    Evidence,
    FirebaseFacts,
    HealthAnswer,
    HealthFacts,
    HostFacts,
    PortFacts,
    PortHolder,
    UpstreamFacts,
)
from tasks.records.logs import LogFacts, LogSignature
from tasks.records.observation import Complaint
from tasks.records.process import ProcessInstance, ProcessStatus
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 22, 3, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
GB, MIB = 10**9, 1 << 20
URL = "http://127.0.0.1:8080/health"
_PROFILE = Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml"
PROFILE = ServiceProfile.model_validate(yaml.safe_load(_PROFILE.read_text(encoding="utf-8")))

GOOD_ANSWER = HealthAnswer(url=URL, seconds=0.02, problem=None, status_code=200)
REFUSED = HealthAnswer(url=URL, seconds=0.01, problem="it does not answer (refused)", failure="refused")
TIMED_OUT = HealthAnswer(url=URL, seconds=3.0, problem="it does not answer (timed out)", failure="timed out")
ERROR = HealthAnswer(
    url=URL,
    seconds=0.1,
    problem="it answered 500",
    status_code=500,
    error="Database connection failed",
)
BAD_STATUS = HealthAnswer(url=URL, seconds=0.1, problem="its status is 'ERROR', not 'OK'", status_code=503)

INSTANCE = ProcessInstance(
    name="0",
    state="online",
    pid=100,
    kernel_state="running",
    since=NOW - 5 * HOUR,
    restarts=1,
    unstable_restarts=0,
    memory_bytes=90 * MIB,
    cpu_percent=2.0,
)
OURS = PortHolder(pid=100, name="node", command="node server.js", ours=True, since=NOW - 5 * HOUR)
SESSIONS = Sessions(working=(Session(identity="5", who="app, api", doing="SELECT", seconds=0.1),))


def answers(*given: HealthAnswer) -> HealthFacts:
    return HealthFacts(answers=given)


def status(*instances: ProcessInstance) -> ProcessStatus:
    return ProcessStatus(
        running=all(one.state == "online" for one in instances),
        stopped=all(one.state in {"stopped", "errored"} for one in instances),
        detail=f"invoice-backend is {', '.join(one.state for one in instances) or 'unknown to it'}",
        instances=instances,
    )


def process(**changed: Any) -> ProcessStatus:
    return status(INSTANCE.model_copy(update=changed))


WELL: dict[str, Any] = {
    "service": "invoice",
    "at": NOW,
    "last_healthy": NOW - HOUR,
    "health": answers(GOOD_ANSWER, GOOD_ANSWER, GOOD_ANSWER),
    "public_health": answers(GOOD_ANSWER),
    "process": status(INSTANCE),
    "port": PortFacts(port=8080, holders=(OURS,)),
    "environment": EnvironmentFacts(path="/srv/invoice/.env", problem=None, modified_at=NOW - 90 * HOUR),
    "application": ApplicationFacts(directory="/srv/invoice", changed_at=NOW - 90 * HOUR),
    "database": DatabaseFacts(
        kind="mongodb",
        where="MongoDB database invoice at 127.0.0.1:27017",
        state="answers",
        seconds=0.01,
        is_empty=False,
        connections=Connections(current=10, limit=100),
        sessions=SESSIONS,
    ),
    "host": HostFacts(
        at=NOW,
        disks=(
            DiskFacts(path="/", total_bytes=100 * GB, free_bytes=40 * GB, free_files=0.9),
            DiskFacts(path="/srv", total_bytes=50 * GB, free_bytes=30 * GB, free_files=0.8),
        ),
        memory_bytes=8 * GB,
        memory_available_bytes=4 * GB,
        cores=2,
        cpu_percent=20.0,
        waiting_percent=1.0,
    ),
    "logs": LogFacts(since=NOW - HOUR, sources=("PM2",)),
    "firebase": FirebaseFacts(credentials="accepted"),
    "authentication": AuthenticationFacts(
        secret="set", secret_changed=False, login="works", token_verifies=True
    ),
    "upstreams": (
        UpstreamFacts(name="Stripe", where="api.stripe.com", state="answers", seconds=0.2),
        UpstreamFacts(name="S3", where="s3.amazonaws.com", state="answers", seconds=0.1),
    ),
    "certificate": CertificateFacts(where="invoice.example.com", ends_at=NOW + 60 * 24 * HOUR, problem=None),
    "clocks": (
        ClockReading(source="application", seconds=0.2, uncertainty=0.1),
        ClockReading(source="Stripe", seconds=-0.4, uncertainty=1.0),
        ClockReading(source="S3", seconds=0.3, uncertainty=1.0),
    ),
}

Parts = dict[str, Any]


def evidence(*changes: Parts) -> Evidence:
    merged = dict(WELL)
    for change in changes:
        merged |= change
    return Evidence(**merged)


def of(part: str, **changed: Any) -> Any:
    """The part as it is when all is well, but for what is changed."""
    return WELL[part].model_copy(update=changed)


def log(name: str, text: str = "as it stands there", **changed: Any) -> LogFacts:
    found = LogSignature(name=name, count=3, first=NOW - 9 * MINUTE, last=NOW - MINUTE, example=text)
    return LogFacts(since=NOW - HOUR, sources=("PM2",), signatures=(found,), last_words=(text,), **changed)


def log_without_times(name: str, text: str) -> LogFacts:
    """What PM2 writes that was not told to write the time."""
    found = LogSignature(name=name, count=3, first=None, last=None, example=text)
    return LogFacts(since=NOW - HOUR, sources=("PM2",), signatures=(found,), last_words=(text,))


def database(state: str, **changed: Any) -> Any:
    return of("database", state=state, is_empty=None, problem=f"It {state}.", **changed)


def upstream(name: str, state: str) -> tuple[UpstreamFacts, ...]:
    return tuple(
        one if one.name != name else one.model_copy(update={"state": state}) for one in WELL["upstreams"]
    )


def clock(seconds: float, *sources: str) -> tuple[ClockReading, ...]:
    return tuple(
        one.model_copy(update={"seconds": seconds}) if one.source in sources else one
        for one in WELL["clocks"]
    )


def database_clock(seconds: float) -> ClockReading:
    return ClockReading(source="the database", seconds=seconds, uncertainty=0.1)


DOWN: Parts = {"health": answers(REFUSED), "port": PortFacts(port=8080, holders=())}
CRASHED = DOWN | {
    "process": process(state="errored", pid=None, given_up=True, exit_code=1, unstable_restarts=16)
}
LOOPS = DOWN | {"process": process(since=NOW - MINUTE / 30, unstable_restarts=7, restarts=9)}
SILENT: Parts = {"health": answers(TIMED_OUT, TIMED_OUT)}
SLOW_ANSWER = GOOD_ANSWER.model_copy(update={"seconds": 4.0})
SLOW: Parts = {"health": answers(SLOW_ANSWER, SLOW_ANSWER)}
SICK: Parts = {"health": answers(BAD_STATUS)}
STRANGER = PortHolder(pid=666, name="nginx", command="nginx: master", ours=False, since=NOW - 20 * MINUTE)
LEFT = PortHolder(
    pid=77, name="node", command="node server.js", ours=False, left_behind=True, since=NOW - 9 * HOUR
)
HOLDER = Session(identity="session 77", who="admin, psql", doing="LOCK TABLE", seconds=400)
WAITING = Blocked(
    session=Session(identity="session 5", who="app, api", doing="SELECT", seconds=12),
    waits_for="users",
    by=(HOLDER,),
)
FULL = (DiskFacts(path="/srv", total_bytes=50 * GB, free_bytes=0, free_files=0.5),)
NO_FILES = (DiskFacts(path="/srv", total_bytes=50 * GB, free_bytes=20 * GB, free_files=0.0),)


@dataclass(frozen=True)
class Fault:
    """What is broken, how it looks, and what the diagnosis must say first."""

    cause: str
    looks: Parts
    named: str
    """What the cause's title must name."""
    verdict: str = "broken"
    certainty: str = "proven"
    consequences: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {
    "stopped by a person": Fault(
        "process stopped", DOWN | {"process": process(state="stopped", pid=None, exit_code=0)}, "as a person"
    ),
    "stopped by a person, and it ended by the signal": Fault(
        "process stopped",
        DOWN | {"process": process(state="stopped", pid=None, exit_code=143)},
        "as a person",
    ),
    "ended by itself": Fault(
        "process stopped", DOWN | {"process": process(state="stopped", pid=None, exit_code=3)}, "exit code 3"
    ),
    "killed": Fault(
        "process stopped", DOWN | {"process": process(state="stopped", pid=None, exit_code=137)}, "was killed"
    ),
    "unknown to its manager": Fault("process stopped", DOWN | {"process": status()}, "invoice-backend"),
    "crash loop": Fault("crash loop", LOOPS, "in a loop"),
    "crash loop of starts that last for seconds, which PM2 does not call unstable": Fault(
        "crash loop",
        DOWN | {"process": process(since=NOW - MINUTE / 20, restarts=9, exit_code=1, restarted_alone=True)},
        "in a loop",
        certainty="likely",
    ),
    "crash loop in between two starts": Fault(
        "crash loop",
        DOWN | {"process": process(state="starting", since=None, restarts=9, restarted_alone=True)},
        "in a loop",
        certainty="likely",
    ),
    "crash loop under a manager that counts restarts only": Fault(
        "crash loop",
        DOWN | {"process": process(since=NOW - MINUTE / 9, unstable_restarts=None, restarts=6)},
        "in a loop",
    ),
    "errored": Fault("process errored", CRASHED, "gave up"),
    "failed once": Fault(
        "process errored",
        DOWN | {"process": process(state="errored", pid=None, exit_code=3)},
        "ended by itself with exit code 3, and PM2 did not start it again",
    ),
    "killed, as a stop that took too long": Fault(
        "process errored", DOWN | {"process": process(state="errored", pid=None, exit_code=137)}, "was killed"
    ),
    "hanging": Fault("hanging", SILENT, "hangs", certainty="likely"),
    "suspended": Fault("hanging", SILENT | {"process": process(kernel_state="suspended")}, "SIGSTOP"),
    "too slow": Fault("hanging", SLOW, "too slowly", certainty="likely"),
    "not listening": Fault("not listening", DOWN, "port 8080", certainty="likely"),
    "just started": Fault(
        "starting", DOWN | {"process": process(since=NOW - MINUTE / 6)}, "starting", certainty="likely"
    ),
    "just restarted by a person, as often before, and it crashed once": Fault(
        "starting",
        DOWN | {"process": process(since=NOW - MINUTE / 6, restarts=9, exit_code=1, restarted_alone=False)},
        "starting",
        certainty="likely",
    ),
    "port taken": Fault(
        "port taken",
        CRASHED | {"port": PortFacts(port=8080, holders=(STRANGER,)), "logs": log("port taken")},
        "nginx (process 666)",
        consequences=("process errored",),
    ),
    "port kept by an old process": Fault(
        "port kept by its own old process",
        CRASHED | {"port": PortFacts(port=8080, holders=(LEFT,))},
        "77",
        consequences=("process errored",),
    ),
    "wrong port": Fault(
        "wrong port",
        DOWN | {"port": PortFacts(port=8090, holders=(OURS,))},
        "port 8090, and is asked at port 8080",
        certainty="likely",
    ),
    "missing variable": Fault(
        "missing variable",
        CRASHED
        | {"environment": of("environment", missing=("ENCRYPTION_KEY",), modified_at=NOW - 10 * MINUTE)},
        "ENCRYPTION_KEY",
        consequences=("process errored",),
    ),
    "malformed variable": Fault(
        "malformed variable",
        LOOPS | {"environment": of("environment", malformed=(Complaint(name="PORT", problem="is no port"),))},
        "PORT",
        consequences=("crash loop",),
    ),
    "env file gone": Fault(
        "env file unreadable",
        CRASHED | {"environment": of("environment", problem="There is no /srv/invoice/.env.")},
        "/srv/invoice/.env",
        consequences=("process errored",),
    ),
    "syntax error": Fault(
        "syntax error",
        CRASHED
        | {
            "application": of(
                "application",
                syntax_errors=(Complaint(name="routes/auth.js", problem="line 3: Unexpected token"),),
                changed_files=("routes/auth.js",),
                changed_at=NOW - 8 * MINUTE,
            )
        },
        "routes/auth.js",
        consequences=("process errored",),
    ),
    "missing dependency": Fault(
        "missing dependency",
        CRASHED
        | {
            "application": of(
                "application", missing_dependencies=(Complaint(name="pg", problem="is not installed"),)
            )
        },
        "pg",
        consequences=("process errored",),
    ),
    "bad permissions": Fault(
        "bad file permissions",
        CRASHED
        | {
            "application": of(
                "application", unreadable=(Complaint(name="server.js", problem="cannot be read"),)
            )
        },
        "server.js",
        consequences=("process errored",),
    ),
    "jwt secret missing": Fault(
        "jwt secret missing",
        CRASHED
        | {
            "environment": of("environment", missing=("JWT_SECRET",)),
            "authentication": of("authentication", secret="not set", login="no answer"),
        },
        "JWT_SECRET",
        consequences=("process errored",),
    ),
    "jwt secret too short": Fault(
        "jwt secret missing",
        CRASHED | {"authentication": of("authentication", secret="too short", login="no answer")},
        "too short",
        consequences=("process errored",),
    ),
    "jwt secret changed": Fault(
        "jwt secret changed",
        {"authentication": of("authentication", secret_changed=True)},
        "JWT_SECRET",
        verdict="degraded",
    ),
    "jwt secret changed, not yet restarted": Fault(
        "jwt secret changed",
        {"authentication": of("authentication", secret_changed=True, token_verifies=False)},
        "next restart",
        verdict="degraded",
    ),
    "login refused": Fault(
        "login broken",
        {"authentication": of("authentication", login="refused", login_problem="It answered 401.")},
        "cannot log in",
        verdict="degraded",
    ),
    "database down": Fault(
        "database down",
        SICK | {"database": database("refuses connections"), "logs": log("database connection failed")},
        "127.0.0.1:27017",
        consequences=("answers with errors",),
    ),
    "database starting": Fault(
        "database down", SICK | {"database": database("is starting or stopping")}, "127.0.0.1:27017"
    ),
    "database without a primary": Fault(
        "database without a primary",
        SICK | {"database": database("has no primary"), "logs": log("database connection failed")},
        "has no primary",
        consequences=("answers with errors",),
    ),
    "database unreachable": Fault(
        "database unreachable",
        SICK | {"database": database("does not answer")},
        "127.0.0.1:27017",
        certainty="likely",
    ),
    "database silent, and the application hangs on it": Fault(
        "database unreachable",
        SILENT | {"database": database("does not answer"), "logs": log("database connection failed")},
        "127.0.0.1:27017",
        consequences=("hanging",),
    ),
    "database host unknown": Fault(
        "database host unknown",
        SICK | {"database": database("unknown host")},
        "127.0.0.1:27017",
        certainty="likely",
    ),
    "database password": Fault(
        "database password refused", CRASHED | {"database": database("refuses the password")}, "MONGODB_URI"
    ),
    "database missing": Fault(
        "database missing", SICK | {"database": database("has no such database")}, "no such database"
    ),
    "database empty": Fault(
        "database missing", SICK | {"database": of("database", is_empty=True)}, "empty", certainty="likely"
    ),
    "database connections": Fault(
        "database connections exhausted",
        SICK | {"database": database("has no connection left")},
        "no connection left",
    ),
    "database connections, seen from a connection": Fault(
        "database connections exhausted",
        SICK
        | {
            "database": of(
                "database",
                connections=Connections(
                    current=100,
                    limit=100,
                    groups=(ConnectionGroup(user="app", application="api", state="idle", number=90),),
                ),
            )
        },
        "no connection left",
        certainty="likely",
    ),
    "database locked": Fault(
        "database locked",
        SILENT | {"database": of("database", sessions=Sessions(blocked=(WAITING,)))},
        "session 77 (admin, psql, LOCK TABLE)",
        consequences=("hanging",),
    ),
    "database refuses": Fault(
        "database refuses",
        SICK | {"database": database("does not allow it")},
        "127.0.0.1:27017",
        certainty="likely",
    ),
    "database url": Fault(
        "database url malformed", CRASHED | {"database": database("malformed url")}, "MONGODB_URI"
    ),
    "database url by its form": Fault(
        "database url malformed",
        CRASHED
        | {"environment": of("environment", malformed=(Complaint(name="MONGODB_URI", problem="is no URL"),))},
        "MONGODB_URI",
    ),
    "database lost by the application": Fault(
        "database connection lost", {"health": answers(ERROR)}, "invoice-backend", certainty="likely"
    ),
    "disk full": Fault("disk full", CRASHED | {"host": of("host", disks=FULL)}, "/srv"),
    "disk full, nobody has noticed": Fault(
        "disk full", {"host": of("host", disks=FULL)}, "/srv", verdict="degraded"
    ),
    "no inodes": Fault("disk full", SICK | {"host": of("host", disks=NO_FILES)}, "0.0 % of its files"),
    "host memory": Fault(
        "host memory exhausted",
        SILENT | {"host": of("host", memory_available_bytes=GB // 100)},
        "10.0 MB of 8.0 GB",
        certainty="likely",
    ),
    "process memory": Fault(
        "memory leak", SILENT | {"process": process(memory_bytes=700 * MIB)}, "leaks", certainty="likely"
    ),
    "process memory, nobody has noticed": Fault(
        "memory leak",
        {"process": process(memory_bytes=700 * MIB)},
        "leaks",
        certainty="likely",
        verdict="degraded",
    ),
    "heap": Fault("memory leak", LOOPS | {"logs": log("out of memory")}, "ran out of memory"),
    "heap, in a log without times": Fault(
        "memory leak",
        LOOPS
        | {"logs": log_without_times("out of memory", "FATAL ERROR: Reached heap limit Allocation failed")},
        "ran out of memory",
        certainty="likely",
        consequences=("crash loop",),
    ),
    "cpu of the host": Fault(
        "cpu saturated",
        SILENT | {"host": of("host", cpu_percent=99.0, waiting_percent=80.0)},
        "99 % of 2 cores",
        certainty="likely",
        consequences=("hanging",),
    ),
    "cpu of the application": Fault(
        "cpu saturated",
        {"health": answers(TIMED_OUT, SLOW_ANSWER, TIMED_OUT), "process": process(cpu_percent=99.0)},
        "itself",
        certainty="likely",
        consequences=("hanging",),
    ),
    "a loop without an end": Fault(
        "hanging",
        SILENT | {"process": process(cpu_percent=99.0)},
        "computes without an end",
        certainty="likely",
    ),
    "a loop without an end where all cores are taken": Fault(
        "hanging",
        SILENT
        | {
            "process": process(cpu_percent=40.0, waiting_percent=60.0),
            "host": of("host", cpu_percent=100.0, waiting_percent=80.0),
        },
        "computes without an end",
        certainty="likely",
    ),
    "firebase refused": Fault(
        "firebase credentials bad",
        {"firebase": FirebaseFacts(credentials="refused", problem="Google refuses the key.")},
        "refused",
        verdict="degraded",
    ),
    "firebase malformed": Fault(
        "firebase credentials bad",
        {"firebase": FirebaseFacts(credentials="malformed")},
        "malformed",
        "degraded",
    ),
    "firebase not set": Fault(
        "firebase credentials bad", {"firebase": FirebaseFacts(credentials="not set")}, "not set", "degraded"
    ),
    "firebase away": Fault(
        "firebase unreachable",
        {"firebase": FirebaseFacts(credentials="unreachable")},
        "Firebase",
        "degraded",
        "likely",
    ),
    "upstream down": Fault(
        "upstream down", {"upstreams": upstream("Stripe", "down")}, "Stripe is", "degraded"
    ),
    "upstream refuses": Fault(
        "upstream refuses the key", {"upstreams": upstream("Stripe", "refuses the key")}, "Stripe", "degraded"
    ),
    "nothing outside answers": Fault(
        "no way out",
        {
            "upstreams": tuple(one.model_copy(update={"state": "down"}) for one in WELL["upstreams"]),
            "firebase": FirebaseFacts(credentials="unreachable"),
        },
        "Nothing outside",
        "degraded",
        "likely",
        consequences=("upstream down", "firebase unreachable"),
    ),
    "public way": Fault(
        "public way broken", {"public_health": answers(REFUSED)}, "users reach it", "degraded", "likely"
    ),
    "one of several processes": Fault(
        "healthy only sometimes",
        {"health": answers(ERROR, BAD_STATUS, GOOD_ANSWER)},
        "2 of 3 answers",
        "degraded",
    ),
    "certificate expired": Fault(
        "certificate expired",
        {
            "certificate": of("certificate", ends_at=NOW - HOUR, problem="It has expired."),
            "public_health": answers(REFUSED.model_copy(update={"failure": "tls"})),
        },
        "invoice.example.com",
        "degraded",
        consequences=("public way broken",),
    ),
    "certificate expired where the health is asked": Fault(
        "certificate expired",
        {
            "certificate": of("certificate", ends_at=NOW - HOUR, problem="It has expired."),
            "health": answers(REFUSED.model_copy(update={"failure": "tls"})),
        },
        "invoice.example.com",
    ),
    "certificate of another name": Fault(
        "certificate refused",
        {"certificate": of("certificate", problem="It is for another name.")},
        "invoice.example.com",
        "degraded",
    ),
    "this host's clock": Fault(
        "clock skew",
        {"clocks": clock(600, "application", "Stripe", "S3")},
        "This host's clock is 10 min slow",
        "degraded",
    ),
    "this host's clock, which is also the application's and the database's": Fault(
        "clock skew",
        {"clocks": clock(600, "Stripe", "S3"), "database": of("database", clock=database_clock(0))},
        "This host's clock is 10 min slow",
        "degraded",
    ),
    "this host's clock, as one outside and the database tell": Fault(
        "clock skew",
        {"clocks": clock(600, "Stripe")[1:2], "database": of("database", clock=database_clock(600))},
        "This host's clock is 10 min slow",
        "degraded",
    ),
    "the application's clock": Fault(
        "clock skew",
        {"clocks": clock(-600, "application")},
        "The clock of application",
        "degraded",
        "likely",
    ),
    "the database's clock": Fault(
        "clock skew",
        {"database": of("database", clock=database_clock(-600))},
        "The clock of the database is wrong",
        "degraded",
        "likely",
    ),
    "the database's clock, with none to compare it with": Fault(
        "clock skew",
        {"clocks": (), "database": of("database", clock=database_clock(-600))},
        "cannot be told",
        "degraded",
        "likely",
    ),
    "only one clock to compare with": Fault(
        "clock skew", {"clocks": clock(600, "Stripe")[1:2]}, "cannot be told", "degraded", "likely"
    ),
}
