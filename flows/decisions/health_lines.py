"""What a health check has a line for, which causes belong to it, and how it is said that it is well."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flows.decisions.diagnosis_rules import RULES
from tasks.records.checks import CheckedLine, LineVerdict
from tasks.records.diagnosis import Cause
from tasks.records.evidence import (
    ApplicationFacts,
    AuthenticationFacts,
    CertificateFacts,
    ClockReading,
    DatabaseFacts,
    EnvironmentFacts,
    Evidence,
    FirebaseFacts,
    HealthFacts,
    HostFacts,
    PortFacts,
    UpstreamFacts,
)
from tasks.records.figures import say_bytes, say_count, say_duration
from tasks.records.logs import LogFacts
from tasks.records.observation import Unknown
from tasks.records.process import ProcessStatus

# What is told of a service that runs: it would take it down at its next start, or soon.
FAULTS: Final = tuple(rule.name for rule in RULES if rule.kind == "fault")
_NOT_USED: Final = "The profile has none."


@dataclass(frozen=True)
class Line:
    """A line: the part of the evidence it is about, the causes that belong to it by name or layer."""

    name: str
    row: str
    part: str
    say: Callable[[Any], str]
    causes: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()


def place(cause: str) -> str:
    """Given a cause's name, return the line's that it belongs to; its own where it has none."""
    layer = next((rule.layer for rule in RULES if rule.name == cause), "")
    by_name = (line.name for line in LINES if cause in line.causes)
    by_layer = (line.name for line in LINES if layer in line.layers)
    return next(by_name, None) or next(by_layer, cause)


def sort_by_line(causes: Iterable[Cause]) -> dict[str, list[Cause]]:
    """Return causes by the name of the line that they belong to."""
    by_line: dict[str, list[Cause]] = {}
    for cause in causes:
        by_line.setdefault(place(cause.name), []).append(cause)
    return by_line


def judge_line(
    line: Line,
    wrong: Mapping[str, Sequence[Cause]],
    latent: Mapping[str, Sequence[Cause]],
    evidence: Evidence,
) -> CheckedLine:
    """Return the line, with what is wrong, or else what will be at the next start, or how it is."""
    part = getattr(evidence, line.part)
    verdict: LineVerdict = "ok"
    if line.name in wrong:
        return blame(line.name, "WRONG", wrong[line.name])
    if isinstance(part, Unknown):
        verdict, seen = "not known", f"{part.why.removesuffix('.')}."
    elif part is None or part == ():
        verdict, seen = "-", _NOT_USED
    elif line.name in latent:
        return blame(line.name, "watch", latent[line.name])
    else:
        seen = line.say(part)
    return CheckedLine(name=line.name, row=line.row, verdict=verdict, seen=seen)


def blame(name: str, verdict: LineVerdict, causes: Sequence[Cause]) -> CheckedLine:
    """Return the line that says what these causes say."""
    seen = " ".join(cause.title for cause in causes)
    return CheckedLine(name=name, row=causes[0].row, verdict=verdict, seen=seen)


def _say_public(found: HealthFacts) -> str:
    return f"{found.answers[-1].url} answered in {found.answers[-1].seconds:.2f} s."


def _say_process(found: ProcessStatus) -> str:
    return f"{found.detail.removesuffix('.')}."


def _say_port(found: PortFacts) -> str:
    who = ", ".join(f"{holder.name} ({holder.pid})" for holder in found.holders) or "nobody"
    return f"On port {found.port} listens {who}."


def _say_environment(found: EnvironmentFacts) -> str:
    return f"{found.path} is complete."


def _say_database(found: DatabaseFacts) -> str:
    said = f"{found.where} answered in {found.seconds:.2f} s"
    if isinstance(found.connections, Unknown):
        return f"{said}."
    limit = f" of {found.connections.limit:,}" if found.connections.limit is not None else ""
    return f"{said}; {found.connections.current:,}{limit} connections are taken."


def _say_program(found: ApplicationFacts) -> str:
    return f"{found.directory}: whole, and every file can be read."


def _say_disks(found: HostFacts) -> str:
    return "; ".join(f"{disk.path}: {say_bytes(disk.free_bytes)} free" for disk in found.disks) + "."


def _say_memory(found: HostFacts) -> str:
    return f"{say_bytes(found.memory_available_bytes)} of {say_bytes(found.memory_bytes)} are available."


def _say_processors(found: HostFacts) -> str:
    return f"{found.cpu_percent:.0f} % of {say_count(found.cores, 'core')} are taken."


def _say_login(found: AuthenticationFacts) -> str:
    if found.login == "not probed":
        return "The profile names no probe user; the secret is set."
    return "The probe user's login gave a token."


def _say_firebase(_found: FirebaseFacts) -> str:
    return "The service account's key gets a token."


def _say_upstreams(found: tuple[UpstreamFacts, ...]) -> str:
    return f"{', '.join(one.name for one in found)} answered."


def _say_certificate(found: CertificateFacts) -> str:
    return f"{found.where}: good until {found.ends_at:%Y-%m-%d}." if found.ends_at else f"{found.where}."


def _say_clocks(found: tuple[ClockReading, ...]) -> str:
    farthest = max(found, key=lambda reading: abs(reading.seconds))
    return f"At most {say_duration(abs(farthest.seconds))} apart ({farthest.source})."


def _say_logs(found: LogFacts) -> str:
    return f"In the last hour {say_count(found.errors, 'error')}, {found.slow_requests:,} slow requests."


LINES: tuple[Line, ...] = (
    Line("public address", "I9", "public_health", _say_public, frozenset({"public way broken"})),
    Line(
        "certificate",
        "I9",
        "certificate",
        _say_certificate,
        frozenset({"certificate expired", "certificate refused"}),
    ),
    Line("process", "I12", "process", _say_process, layers=frozenset({"process"})),
    Line("port", "I14", "port", _say_port, frozenset({"wrong port"}), frozenset({"port"})),
    Line(
        "env file",
        "I14",
        "environment",
        _say_environment,
        frozenset({"env file unreadable"}),
        frozenset({"configuration"}),
    ),
    Line("program", "I14", "application", _say_program, layers=frozenset({"files"})),
    Line("database", "I6", "database", _say_database, layers=frozenset({"database"})),
    Line("disks", "I12", "host", _say_disks, frozenset({"disk full"})),
    Line("memory", "I12", "host", _say_memory, frozenset({"host memory exhausted", "memory leak"})),
    Line("processors", "I12", "host", _say_processors, layers=frozenset({"host"})),
    Line(
        "Firebase's credentials",
        "I10",
        "firebase",
        _say_firebase,
        frozenset({"firebase credentials bad", "firebase unreachable"}),
    ),
    Line(
        "logins and tokens",
        "I16",
        "authentication",
        _say_login,
        frozenset({"login broken", "jwt secret changed", "jwt secret missing"}),
    ),
    Line("upstreams", "P19", "upstreams", _say_upstreams, layers=frozenset({"outside"})),
    Line("clocks", "I33", "clocks", _say_clocks, frozenset({"clock skew"})),
    Line("logs", "I12", "logs", _say_logs),
)
