"""What every rule of the diagnosis is made of, and how it reads evidence."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from flows.decisions import log_signatures
from tasks.records.diagnosis import Certainty
from tasks.records.evidence import Evidence
from tasks.records.figures import say_count, shorten
from tasks.records.logs import LogSignature
from tasks.records.observation import Complaint, Unknown
from tasks.records.outage_care import Remedy
from tasks.records.process import ProcessInstance
from tasks.records.service import ServiceProfile

Part = TypeVar("Part")

# By how near to the root: a cause of two that are equally certain is named first if it lies deeper.
Layer = Literal["host", "files", "configuration", "port", "database", "process", "outside"]
Kind = Literal["fault", "impairment", "symptom", "guess"]

MANAGERS = {"pm2": "PM2", "systemd": "systemd", "windows": "Windows"}
# How a start that failed looks like, whatever it failed by.
FAILS_TO_START = (
    "process errored",
    "crash loop",
    "process stopped",
    "not listening",
    "starting",
    "answers with errors",
    "login broken",
)
# What the log says of a database that the application cannot use.
DATABASE_LINES = (
    "database connection failed",
    "database not connected",
    "database password refused",
    "database missing",
    "database starting",
    "too many connections",
)
# Of one core: Node.js answers on no more than that. Where all are taken, who computes without end gets a
# share and waits for more; who waits most of the time and computes little is only crowded out.
_HUNGRY_PERCENT, _SHARE_PERCENT = 70.0, 25.0
_WAITED_PERCENT = 5.0
_RECENT = timedelta(seconds=60)
_LONGEST_LINE = 200
_MOST_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """What a rule found; ``title`` and ``evidence`` are sentences, the strongest first."""

    title: str
    evidence: tuple[str, ...]
    certainty: Certainty = "proven"
    since: datetime | None = None
    target: str = ""
    advice: str = ""
    """Where it is another one than the rule's."""
    hurts: bool = False
    """Whether users suffer from it whatever the health says; an impairment then takes the service down."""
    independent: bool = False
    """Whether it follows from nothing else, whatever else is found, as a stop by a person."""
    explains: tuple[str, ...] = ()
    """What follows from it beside what the rule says."""


@dataclass(frozen=True)
class Rule:
    """One cause that the diagnosis knows.

    A ``fault`` takes the service down; found while the health is good it is worth a note. An ``impairment``
    takes a part of the service away, and no health check notices. A ``symptom`` is only told with what it
    follows from. A ``guess`` is only told if there is nothing better.
    """

    name: str
    row: str
    layer: Layer
    read: Callable[[Evidence, ServiceProfile], Finding | None]
    proof: str
    """What proves it, for the reference."""
    advice: str
    remedy: Remedy | None = None
    explains: tuple[str, ...] = ()
    kind: Kind = "fault"


def known(part: Part | Unknown | None) -> Part | None:
    """Return what was observed, or None: what is unknown is no evidence."""
    return None if isinstance(part, Unknown) else part


def is_slow(evidence: Evidence, profile: ServiceProfile) -> bool:
    """Did each answer take longer than the profile allows? One slow answer of several is chance."""
    limit = profile.outage.slow_after.total_seconds()
    return all(answer.seconds > limit for answer in evidence.health.answers)


def suffers(evidence: Evidence, profile: ServiceProfile) -> bool:
    """Is the service down, or so slow that it counts as down?"""
    return evidence.health.problem is not None or is_slow(evidence, profile)


def gives_no_answer(evidence: Evidence, profile: ServiceProfile) -> bool:
    """Does somebody take the request and never, or much too late, answer it?"""
    failure = evidence.health.answers[-1].failure
    return failure in {"timed out", "broken off"} or (failure is None and is_slow(evidence, profile))


def say_health(evidence: Evidence) -> str:
    """Return the sentence of how the last question for health was answered."""
    answer = evidence.health.answers[-1]
    said = f"it is healthy, after {answer.seconds:.2f} s" if answer.problem is None else answer.problem
    return f"Asked at {answer.url}: {said}."


def say_moment(moment: datetime, evidence: Evidence, profile: ServiceProfile) -> str:
    """Return a moment as a clock at the service's place shows it, with the day if it was another one."""
    here, now = moment.astimezone(profile.zone), evidence.at.astimezone(profile.zone)
    return f"{here:%H:%M:%S %Z}" if here.date() == now.date() else f"{here:%Y-%m-%d %H:%M %Z}"


def say_names(names: Iterable[str]) -> str:
    """Return names as a list in a sentence, the first five of them."""
    listed = list(names)
    if len(listed) > _MOST_NAMED:
        return f"{', '.join(listed[:_MOST_NAMED])} and {len(listed) - _MOST_NAMED} more"
    return " and ".join(filter(None, (", ".join(listed[:-1]), *listed[-1:])))


def say_complaints(complaints: Iterable[Complaint]) -> str:
    """Return complaints as one sentence."""
    return f"{say_names(shorten(f'{found.name} {found.problem}') for found in complaints)}."


def find_signature(evidence: Evidence, name: str) -> LogSignature | None:
    """Return what the log says of one meaning since the application last started in full, or None.

    Lines without a time may be of last month: they only count as the last words of a process that crashes.
    Raise ``KeyError`` if the table of signatures has none of that name.
    """
    meaning, logs = log_signatures.find_signature(name), known(evidence.logs)
    if logs is None:
        return None
    found = next((signature for signature in logs.signatures if signature.name == meaning.name), None)
    if found is not None and found.last is None:
        said = logs.last_words[-1] if logs.last_words else ""
        crashes = any(_crashes(instance, evidence) for instance in list_instances(evidence))
        return found if crashes and meaning.pattern.search(said) else None
    if found is None or (found.last and logs.started_at and found.last < logs.started_at):
        return None
    return found


def is_young(instance: ProcessInstance, evidence: Evidence) -> bool:
    """Was it started within the last minute, for all that is known?"""
    return instance.since is None or evidence.at - instance.since < _RECENT


def _crashes(instance: ProcessInstance, evidence: Evidence) -> bool:
    """Did it end by itself a moment ago, or for good?"""
    return instance.state == "errored" or bool(
        is_young(instance, evidence) and (instance.restarted_alone or instance.unstable_restarts)
    )


def proves(evidence: Evidence, *names: str) -> bool:
    """Does the log say one of these meanings, and when?"""
    found = (find_signature(evidence, name) for name in names)
    return any(signature is not None and signature.last is not None for signature in found)


def say_signatures(evidence: Evidence, profile: ServiceProfile, *names: str) -> tuple[str, ...]:
    """Return a sentence for each of these meanings that the log has."""
    found = filter(None, (find_signature(evidence, name) for name in names))
    return tuple(_say_signature(signature, evidence, profile) for signature in found)


def _say_signature(signature: LogSignature, evidence: Evidence, profile: ServiceProfile) -> str:
    last = f", last at {say_moment(signature.last, evidence, profile)}" if signature.last else ""
    times = say_count(signature.count, "time")
    return f'The log says {times}{last}: "{shorten(signature.example, _LONGEST_LINE)}".'


def find_first_line(evidence: Evidence, *names: str) -> datetime | None:
    """Return since when the log says something of these meanings."""
    found = (find_signature(evidence, name) for name in names)
    return find_oldest(signature.first for signature in found if signature is not None)


def say_last_words(evidence: Evidence) -> tuple[str, ...]:
    """Return the last error line of the log as a sentence, where there is one."""
    logs = known(evidence.logs)
    if logs is None or not logs.last_words:
        return ()
    return (f'Its last words in the log: "{shorten(logs.last_words[-1], _LONGEST_LINE)}".',)


def list_instances(evidence: Evidence) -> tuple[ProcessInstance, ...]:
    """Return the application's processes, as far as they are known."""
    process = known(evidence.process)
    return process.instances if process is not None else ()


def find_hungry(evidence: Evidence) -> tuple[ProcessInstance, ...]:
    """Return the application's processes that keep a core busy, or take what they can get of one."""
    return tuple(one for one in list_instances(evidence) if _is_hungry(one))


def _is_hungry(instance: ProcessInstance) -> bool:
    taken, waited = instance.cpu_percent or 0.0, instance.waiting_percent or 0.0
    return taken >= _SHARE_PERCENT and taken + waited >= _HUNGRY_PERCENT


def say_hunger(instance: ProcessInstance) -> str:
    """Return the sentence of how much of a core a process takes, and of how much it would take."""
    waited = instance.waiting_percent or 0.0
    more = f", and waited for one {waited:.0f} % of the time" if waited >= _WAITED_PERCENT else ""
    return f"Process {instance.name} takes {instance.cpu_percent or 0.0:.0f} % of a core{more}."


def find_oldest(moments: Iterable[datetime | None]) -> datetime | None:
    """Return the earliest of those that are known."""
    return min((moment for moment in moments if moment is not None), default=None)


def say_changed(evidence: Evidence, *names: str) -> tuple[str, ...]:
    """Return the sentence that these variables changed since the service was healthy last, if one did."""
    environment = known(evidence.environment)
    changed = [name for name in names if environment is not None and name in environment.changed]
    return (f"{say_names(changed)} changed since the service was healthy last.",) if changed else ()
