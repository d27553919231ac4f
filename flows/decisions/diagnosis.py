"""From evidence to what is wrong: the rules are held against it, and what they find is ranked.

Never a confident wrong answer. What could not be observed is no evidence for anything, and where nothing
that was found takes a service down that is down, the verdict is "unknown".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from flows.decisions.diagnosis_application import find_repeated
from flows.decisions.diagnosis_reading import (
    Finding,
    Rule,
    find_oldest,
    is_slow,
    known,
    say_health,
    say_last_words,
    say_moment,
    suffers,
)
from flows.decisions.diagnosis_rules import LAYERS, RULES
from flows.decisions.diagnosis_time import find_ending
from flows.decisions.diagnosis_timeline import find_start, make_timeline
from tasks.records.diagnosis import Cause, Certainty, Diagnosis, Verdict
from tasks.records.evidence import Evidence, HealthFacts
from tasks.records.logs import LogFacts
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

Found = tuple[tuple[Rule, Finding], ...]

_CERTAINTIES: tuple[Certainty, ...] = ("proven", "likely", "possible")
# What the order of these tells is when.
_IN_ORDER_OF_TIME = {(HealthFacts, "answers"), (LogFacts, "last_words")}
_PARTS = {
    "public_health": "How the service looks where its users are",
    "process": "What the process manager says",
    "port": "Who listens on the port",
    "environment": "The env file",
    "application": "The application's files",
    "database": "The database",
    "host": "The host's disks, memory and CPU",
    "logs": "The logs",
    "firebase": "Firebase's credentials",
    "authentication": "Whether users can log in",
    "upstreams": "The upstreams",
    "certificate": "The certificate",
    "clocks": "The clocks",
}


def diagnose(evidence: Evidence, profile: ServiceProfile) -> Diagnosis:
    """Given what one triage saw, return what is wrong, ranked; the order of what was seen does not matter."""
    seen = _put_in_order(evidence)
    found = _hold_rules(RULES, seen, profile)
    telling = tuple((rule, finding) for rule, finding in found if _tells(rule, finding, found, seen, profile))
    causes, consequences = _rank(telling, seen, profile)
    breaking = {rule.name for rule, finding in telling if rule.kind == "fault" or finding.hurts}
    verdict = _judge(causes, breaking, seen, profile)
    return Diagnosis(
        service=seen.service,
        at=seen.at,
        verdict=verdict,
        headline=_say_headline(verdict, causes, seen, profile),
        causes=causes,
        consequences=consequences,
        notes=tuple(_list_notes(verdict, found, telling, seen, profile)),
        unobserved=_list_unobserved(seen),
        timeline=make_timeline(seen, profile),
    )


def find_causes(evidence: Evidence, profile: ServiceProfile, names: Iterable[str]) -> tuple[Cause, ...]:
    """Given evidence that may be a part of it, return only these causes, also while the health is good."""
    wanted, seen = set(names), _put_in_order(evidence)
    found = _hold_rules([rule for rule in RULES if rule.name in wanted], seen, profile)
    causes, consequences = _rank(found, seen, profile)
    return (*causes, *consequences)


def _put_in_order(record: Evidence) -> Evidence:
    """Return the same with each tuple sorted, unless its order tells something."""
    return record.model_copy(update=_sort_fields(record))


def _sort_fields(record: BaseModel) -> dict[str, Any]:
    return {
        name: value if (type(record), name) in _IN_ORDER_OF_TIME else _sort_value(value)
        for name, value in record
    }


def _sort_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(sorted((_sort_value(item) for item in value), key=repr))
    return value.model_copy(update=_sort_fields(value)) if isinstance(value, BaseModel) else value


def _hold_rules(rules: Iterable[Rule], evidence: Evidence, profile: ServiceProfile) -> Found:
    read = ((rule, rule.read(evidence, profile)) for rule in rules)
    return tuple((rule, finding) for rule, finding in read if finding is not None)


def _tells(rule: Rule, finding: Finding, found: Found, evidence: Evidence, profile: ServiceProfile) -> bool:
    """Is the finding a cause or a consequence, and not only worth a note?"""
    suffering = suffers(evidence, profile)
    if rule.kind == "impairment" or (rule.kind == "fault" and (suffering or finding.hurts)):
        return True
    others = [other for other, _ in found if other is not rule]
    if rule.kind == "symptom":
        return suffering and any(rule.name in explains for explains in _list_explained(found).values())
    return suffering and rule.kind == "guess" and not any(other.kind == "fault" for other in others)


def _list_explained(found: Found) -> Mapping[str, Sequence[str]]:
    return {rule.name: (*rule.explains, *finding.explains) for rule, finding in found}


def _rank(
    found: Found, evidence: Evidence, profile: ServiceProfile
) -> tuple[tuple[Cause, ...], tuple[Cause, ...]]:
    """Return the roots, and what follows from them."""
    suffering, explained = suffers(evidence, profile), _list_explained(found)

    def order(pair: tuple[Rule, Finding]) -> tuple[Any, ...]:
        rule, finding = pair
        # An impairment is never why the service is down, however certain it is.
        beside = suffering and rule.kind == "impairment" and not finding.hurts
        return beside, _CERTAINTIES.index(finding.certainty), LAYERS.index(rule.layer), rule.name

    ranked = sorted(found, key=order)
    causes = []
    for rule, finding in ranked:
        roots = (other.name for other, _ in ranked if rule.name in explained[other.name])
        because = None if finding.independent else next(roots, None)
        causes.append(_make_cause(rule, finding, because, evidence))
    return (
        tuple(cause for cause in causes if cause.explained_by is None),
        tuple(cause for cause in causes if cause.explained_by is not None),
    )


def _make_cause(rule: Rule, finding: Finding, because: str | None, evidence: Evidence) -> Cause:
    return Cause(
        name=rule.name,
        title=finding.title,
        certainty=finding.certainty,
        evidence=finding.evidence,
        row=rule.row,
        advice=finding.advice or rule.advice,
        remedy=rule.remedy,
        target=finding.target,
        since=find_start(finding.since, evidence),
        explained_by=because,
    )


def _judge(
    causes: Sequence[Cause], breaking: set[str], evidence: Evidence, profile: ServiceProfile
) -> Verdict:
    if not suffers(evidence, profile):
        return "degraded" if causes else "healthy"
    why = [cause for cause in causes if cause.name in breaking and cause.certainty != "possible"]
    return "broken" if why else "unknown"


def _say_headline(
    verdict: Verdict, causes: Sequence[Cause], evidence: Evidence, profile: ServiceProfile
) -> str:
    name, answer = evidence.service, evidence.health.answers[-1]
    if verdict == "healthy":
        return f"{name} is healthy: it answered in {answer.seconds:.2f} s, and nothing is wrong with it."
    titles = " Also: ".join(cause.title for cause in causes)
    if verdict == "degraded":
        return f"{name} answers, but not all is well. {titles}"
    state = "answers too slowly" if answer.problem is None else "is down"
    since = _say_since(causes, evidence, profile)
    if verdict == "broken":
        return f"{name} {state}{since}. {titles}"
    also = f" Found beside: {titles}" if titles else ""
    return f"{name} {state}{since}, and nobody can say why yet: {say_health(evidence)}{also}"


def _say_since(causes: Sequence[Cause], evidence: Evidence, profile: ServiceProfile) -> str:
    since = find_oldest((causes[0].since,)) if causes else None
    if since is not None:
        return f" since {say_moment(since, evidence, profile)}"
    if evidence.last_healthy is not None:
        return f", and was healthy last at {say_moment(evidence.last_healthy, evidence, profile)}"
    return ""


def _list_notes(
    verdict: Verdict, found: Found, telling: Found, evidence: Evidence, profile: ServiceProfile
) -> Iterable[str]:
    told = {rule.name for rule, _ in telling}
    if verdict in {"healthy", "unknown"}:
        yield say_health(evidence)
    if verdict == "unknown":
        if (process := known(evidence.process)) is not None:
            yield f"The process manager says: {process.detail.removesuffix('.')}."
        yield from say_last_words(evidence)
    for rule, finding in found:
        if rule.name not in told and rule.kind == "fault":
            yield f"{finding.title} Nobody suffers from it yet."
    yield from filter(None, (find_ending(evidence, profile), find_repeated(evidence)))
    logs = known(evidence.logs)
    if logs is not None and logs.firebase_started is False:
        yield "The log has no line that Firebase is up since the last start."
    public = known(evidence.public_health)
    if public is not None and public.problem is None and evidence.health.problem is not None:
        yield f"The public address answers all the same: {public.answers[-1].url}."
    if is_slow(evidence, profile) and evidence.health.problem is None:
        yield f"Each answer took longer than {profile.outage.slow_after.total_seconds():g} s."


def _list_unobserved(evidence: Evidence) -> tuple[str, ...]:
    parts = ((said, getattr(evidence, name)) for name, said in _PARTS.items())
    unknown = [f"{said}: {part.why.removesuffix('.')}." for said, part in parts if isinstance(part, Unknown)]
    database, logs = known(evidence.database), known(evidence.logs)
    if database is not None and database.state == "answers":
        inner = {"connections": database.connections, "sessions": database.sessions}
        unknown += [
            f"The database's {name}: {part.why.removesuffix('.')}."
            for name, part in inner.items()
            if isinstance(part, Unknown)
        ]
    if logs is not None:
        unknown += [f"Log {found.name} {found.problem.removesuffix('.')}." for found in logs.unreadable]
    return tuple(unknown)
