"""What holds of a diagnosis whatever the evidence is."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.decisions.diagnosis import diagnose
from flows.decisions.log_signature_table import SIGNATURES
from tasks.records.database_health import Blocked, Connections, Session, Sessions
from tasks.records.diagnosis import Diagnosis
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
from tasks.records.observation import Complaint, Record, Unknown
from tasks.records.process import ProcessInstance, ProcessStatus
from tests.decisions.outage_evidence import (
    FAULTS,
    GB,
    GOOD_ANSWER,
    MIB,
    NOW,
    OURS,
    PROFILE,
    WELL,
    Fault,
    answers,
    evidence,
    of,
    process,
)

MOMENTS = st.integers(-10_000, 10_000).map(lambda minutes: NOW + timedelta(minutes=minutes))
NAMES = st.sampled_from(["JWT_SECRET", "MONGODB_URI", "PORT", "ENCRYPTION_KEY", "a", ""])
UNKNOWN = st.just(Unknown(why="nobody could tell"))
COMPLAINTS = st.builds(Complaint, name=NAMES, problem=st.just("is wrong"))
SESSION = st.builds(
    Session, identity=NAMES, who=st.just("app"), doing=st.just("SELECT"), seconds=st.floats(0, 900)
)


def some(strategy: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=most).map(tuple)


SECONDS = st.floats(0, 10)
ANSWER = st.builds(
    HealthAnswer,
    url=st.just("http://x/health"),
    seconds=SECONDS,
    problem=st.none() | st.just("it answered 500"),
    status_code=st.none() | st.sampled_from([200, 500]),
    failure=st.none() | st.sampled_from(["refused", "timed out", "unknown host", "tls", "broken off"]),
    error=st.none() | st.just("Database connection failed"),
)
HEALTH = st.lists(ANSWER, min_size=1, max_size=3).map(lambda given: HealthFacts(answers=tuple(given)))
STATES = st.sampled_from(["online", "starting", "stopping", "stopped", "errored"])
INSTANCE = st.builds(
    ProcessInstance,
    name=NAMES,
    state=STATES,
    pid=st.none() | st.integers(1, 9),
    kernel_state=st.none() | st.sampled_from(["running", "suspended", "zombie", "gone"]),
    since=st.none() | MOMENTS,
    restarts=st.none() | st.integers(0, 30),
    unstable_restarts=st.none() | st.integers(0, 30),
    restarted_alone=st.none() | st.booleans(),
    given_up=st.booleans(),
    exit_code=st.none() | st.sampled_from([0, 1, 130, 137]),
    memory_bytes=st.none() | st.integers(0, 4 * GB),
    cpu_percent=st.none() | st.floats(0, 200),
    waiting_percent=st.none() | st.floats(0, 100),
)
HOLDER = st.builds(
    PortHolder,
    pid=st.integers(1, 9),
    name=NAMES,
    command=NAMES,
    ours=st.booleans(),
    left_behind=st.booleans(),
    since=st.none() | MOMENTS,
)
BLOCKED = st.builds(Blocked, session=SESSION, waits_for=NAMES, by=some(SESSION, 2), lasts=st.booleans())
CLOCK = st.builds(ClockReading, source=NAMES, seconds=st.floats(-1e6, 1e6), uncertainty=st.floats(0, 60))
DATABASE = st.builds(
    DatabaseFacts,
    kind=st.sampled_from(["mongodb", "postgresql"]),
    where=st.just("127.0.0.1:1, x"),
    state=st.sampled_from(DatabaseFacts.model_fields["state"].annotation.__args__),  # type: ignore[union-attr]
    seconds=SECONDS,
    problem=st.none() | st.just("It does not."),
    is_empty=st.none() | st.booleans(),
    clock=st.none() | CLOCK,
    connections=UNKNOWN
    | st.builds(Connections, current=st.integers(0, 100), limit=st.none() | st.integers(0, 100)),
    sessions=UNKNOWN | st.builds(Sessions, blocked=some(BLOCKED), idle_in_transaction=some(SESSION)),
)
DISK = st.builds(
    DiskFacts,
    path=NAMES,
    total_bytes=st.integers(0, GB),
    free_bytes=st.integers(0, GB),
    free_files=st.none() | st.floats(0, 1),
)
HOST = st.builds(
    HostFacts,
    at=MOMENTS,
    disks=some(DISK),
    memory_bytes=st.integers(1, GB),
    memory_available_bytes=st.integers(0, GB),
    cores=st.integers(1, 8),
    cpu_percent=st.floats(0, 100),
    waiting_percent=st.none() | st.floats(0, 100),
    busiest=some(COMPLAINTS),
)
SIGNATURE = st.builds(
    LogSignature,
    name=st.sampled_from([signature.name for signature in SIGNATURES]),
    count=st.integers(1, 99),
    first=st.none() | MOMENTS,
    last=st.none() | MOMENTS,
    example=st.just("a line"),
)
LOGS = st.builds(
    LogFacts,
    since=MOMENTS,
    sources=some(NAMES),
    unreadable=some(COMPLAINTS),
    signatures=st.lists(SIGNATURE, max_size=4, unique_by=lambda found: found.name).map(tuple),
    started_at=st.none() | MOMENTS,
    firebase_started=st.none() | st.booleans(),
    last_words=some(NAMES),
)
ENVIRONMENT = st.builds(
    EnvironmentFacts,
    path=NAMES,
    problem=st.none() | st.just("It is not there."),
    missing=some(NAMES),
    malformed=some(COMPLAINTS),
    repeated=some(NAMES),
    changed=some(NAMES),
    modified_at=st.none() | MOMENTS,
)
APPLICATION = st.builds(
    ApplicationFacts,
    directory=NAMES,
    syntax_errors=some(COMPLAINTS),
    missing_dependencies=some(COMPLAINTS),
    unreadable=some(COMPLAINTS),
    changed_at=st.none() | MOMENTS,
    changed_files=some(NAMES),
)
EVIDENCE = st.builds(
    Evidence,
    service=st.just("invoice"),
    at=st.just(NOW),
    last_healthy=st.none() | MOMENTS,
    health=HEALTH,
    public_health=st.none() | UNKNOWN | HEALTH,
    process=UNKNOWN
    | st.builds(
        ProcessStatus,
        running=st.booleans(),
        stopped=st.booleans(),
        detail=NAMES,
        instances=some(INSTANCE),
    ),
    port=UNKNOWN | st.builds(PortFacts, port=st.integers(1, 65535), holders=some(HOLDER)),
    environment=UNKNOWN | ENVIRONMENT,
    application=UNKNOWN | APPLICATION,
    database=UNKNOWN | DATABASE,
    host=UNKNOWN | HOST,
    logs=UNKNOWN | LOGS,
    firebase=st.none()
    | UNKNOWN
    | st.builds(
        FirebaseFacts,
        credentials=st.sampled_from(["accepted", "refused", "malformed", "not set", "unreachable"]),
    ),
    authentication=UNKNOWN
    | st.builds(
        AuthenticationFacts,
        secret=st.sampled_from(["set", "not set", "too short", "unknown"]),
        secret_changed=st.none() | st.booleans(),
        login=st.sampled_from(["works", "refused", "no answer", "no token", "not probed"]),
        token_verifies=st.none() | st.booleans(),
    ),
    upstreams=UNKNOWN
    | some(
        st.builds(
            UpstreamFacts,
            name=NAMES,
            where=NAMES,
            state=st.sampled_from(["answers", "down", "refuses the key"]),
            seconds=SECONDS,
        )
    ),
    certificate=st.none()
    | UNKNOWN
    | st.builds(
        CertificateFacts,
        where=NAMES,
        ends_at=st.none() | MOMENTS,
        problem=st.none() | st.just("It is for another name."),
    ),
    clocks=UNKNOWN | some(CLOCK, 4),
)
FAULT = st.sampled_from(list(FAULTS.values()))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same with the order of each tuple changed, unless it is an order of time."""
    if isinstance(value, tuple):
        items = [shuffled(item, chance) for item in value]
        chance.shuffle(items)
        return tuple(items)
    if not isinstance(value, Record | ProcessStatus | ProcessInstance):
        return value
    kept = {"answers", "last_words"}
    return value.model_copy(
        update={name: part if name in kept else shuffled(part, chance) for name, part in value}
    )


def names(found: Diagnosis) -> set[str]:
    return {cause.name for cause in (*found.causes, *found.consequences)}


@QUICK
@given(EVIDENCE)
def test_every_cause_has_evidence_and_advice_and_what_follows_has_a_cause(seen: Evidence) -> None:
    found = diagnose(seen, PROFILE)
    for cause in (*found.causes, *found.consequences):
        assert cause.evidence
        assert all(sentence.rstrip() for sentence in cause.evidence)
        assert cause.advice
        assert cause.title.endswith(".")
        assert cause.since is None or cause.since <= seen.at
    assert all(cause.explained_by is None for cause in found.causes)
    assert all(cause.explained_by in names(found) for cause in found.consequences)
    assert found.causes or not found.consequences
    assert "\n" not in found.headline


@QUICK
@given(EVIDENCE)
def test_a_service_that_is_down_is_never_called_well_and_one_without_a_cause_never_broken(
    seen: Evidence,
) -> None:
    found = diagnose(seen, PROFILE)
    if seen.health.problem is not None:
        assert found.verdict in {"broken", "unknown"}
    if found.verdict in {"broken", "degraded"}:
        assert found.causes
    if found.verdict == "healthy":
        assert found.causes == ()


@QUICK
@given(EVIDENCE, st.randoms(use_true_random=False))
def test_the_order_in_which_things_were_seen_does_not_matter(seen: Evidence, chance: random.Random) -> None:
    assert diagnose(shuffled(seen, chance), PROFILE) == diagnose(seen, PROFILE)


@QUICK
@given(
    seconds=st.lists(st.floats(0.001, 1.9), min_size=1, max_size=3),
    cpu=st.floats(0, 100),
    own_cpu=st.floats(0, 200),
    waiting=st.floats(0, 100),
    free_memory=st.integers(0, 8 * GB),
    own_memory=st.integers(0, 512 * MIB),
    free_disk=st.integers(GB, 40 * GB),
    restarts=st.integers(0, 500),
    connections=st.integers(0, 100),
    wait=st.floats(0, 29),
    skew=st.floats(-29, 29),
    # A disk that is nearly full, and a line that it was: that is more than noise.
    noise=st.sampled_from([found.name for found in SIGNATURES if found.name != "disk full"]),
    started=MOMENTS,
    days=st.integers(1, 400),
    hidden=st.sets(st.sampled_from(["process", "port", "database", "host", "logs", "upstreams", "clocks"])),
)
def test_a_healthy_service_never_has_a_cause(**given: Any) -> None:
    session = Session(identity="session 5", who="app", doing="SELECT", seconds=given["wait"])
    found = diagnose(
        evidence(
            {
                "health": answers(*(GOOD_ANSWER.model_copy(update={"seconds": s}) for s in given["seconds"])),
                "process": process(
                    cpu_percent=given["own_cpu"],
                    memory_bytes=given["own_memory"],
                    restarts=given["restarts"],
                    since=min(given["started"], NOW),
                ),
                "port": PortFacts(port=8080, holders=(OURS,)),
                "host": of(
                    "host",
                    cpu_percent=given["cpu"],
                    waiting_percent=given["waiting"],
                    memory_available_bytes=given["free_memory"],
                    disks=(DiskFacts(path="/", total_bytes=100 * GB, free_bytes=given["free_disk"]),),
                ),
                "database": of(
                    "database",
                    connections=Connections(current=given["connections"], limit=100),
                    sessions=Sessions(blocked=(Blocked(session=session, waits_for="users"),)),
                ),
                "logs": LogFacts(
                    since=NOW,
                    sources=("PM2",),
                    signatures=(
                        LogSignature(name=given["noise"], count=9, first=NOW, last=NOW, example="a line"),
                    ),
                    started_at=given["started"],
                ),
                "clocks": (ClockReading(source="S3", seconds=given["skew"], uncertainty=0.5),),
                "certificate": of("certificate", ends_at=NOW + timedelta(days=given["days"])),
            },
            dict.fromkeys(given["hidden"], Unknown(why="it hangs")),
        ),
        PROFILE,
    )
    assert (found.verdict, found.causes, found.consequences) == ("healthy", (), ())
    assert len(found.unobserved) == len(given["hidden"])


@QUICK
@given(FAULT, FAULT)
def test_a_second_fault_in_another_place_takes_no_cause_away(one: Fault, other: Fault) -> None:
    same = one.looks.keys() | {"health", "process", "port"}
    # The application has lost its database only if that answers everybody else.
    same |= {"database"} if one.cause == "database connection lost" else set()
    looks = {name: part for name, part in other.looks.items() if name not in same}
    both = diagnose(evidence(one.looks, looks), PROFILE)
    assert one.cause in names(both)


@QUICK
@given(FAULT, st.sets(st.sampled_from(sorted(WELL.keys() - {"service", "at", "last_healthy", "health"}))))
def test_what_is_unknown_hides_no_cause_that_is_seen_elsewhere(fault: Fault, hidden: set[str]) -> None:
    hidden -= fault.looks.keys()
    # What these two rest on is also what well-being in another part says.
    hidden -= {"database"} if fault.cause == "database connection lost" else set()
    hidden -= {"process", "port"} if fault.cause in {"hanging", "not listening", "wrong port"} else set()
    hidden -= {"clocks"}
    found = diagnose(
        evidence(fault.looks, dict.fromkeys(hidden, Unknown(why="there was no answer within 6 s"))), PROFILE
    )
    assert fault.cause in names(found)
    assert sum("there was no answer within 6 s" in sentence for sentence in found.unobserved) == len(hidden)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_gets_worse_stays_a_cause(fault: Fault) -> None:
    worse = evidence(
        fault.looks,
        {
            "health": fault.looks.get("health", WELL["health"]),
            "clocks": fault.looks.get("clocks", WELL["clocks"]),
            "firebase": fault.looks.get("firebase", FirebaseFacts(credentials="refused")),
            "upstreams": fault.looks.get("upstreams", ()),
            "certificate": fault.looks.get(
                "certificate", of("certificate", problem="It is for another name.")
            ),
            "host": fault.looks.get("host", of("host", cpu_percent=100.0, memory_available_bytes=0)),
        },
    )
    assert fault.cause in names(diagnose(worse, PROFILE))
