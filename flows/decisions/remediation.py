"""Which remedies an outage gets, in which order, and why none: the guard in front of every act of a triage.

A remedy is for a root cause. It is planned only where nothing that we cannot remedy keeps the service down as
well: a restart helps neither against a missing variable nor against a full disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flows.decisions.diagnosis_rules import RULES
from tasks.records.diagnosis import Cause, Diagnosis
from tasks.records.evidence import HealthFacts
from tasks.records.figures import say_count
from tasks.records.outage_care import Outage, Remedy
from tasks.records.remediation import DeliberateStop, Hold, PastRemedy, RemediationPlan, RemedyStep
from tasks.records.runbook_plan import PlannedAct
from tasks.records.service import ServiceProfile

RUNBOOK: Final = "outage-triage"
BUDGET_WINDOW: Final = timedelta(hours=1)
# So long the same evidence gets no second remedy, unless the first one made the service healthy.
SAME_EVIDENCE_WINDOW: Final = timedelta(hours=24)
# A restart comes last: it needs the port and the sessions that the others give back.
_ORDER: Final[tuple[Remedy, ...]] = ("free-port", "reset-connections", "restart")
# Causes without a remedy of ours beside which a remedy for another one still brings the service back. A cause
# that is added is none of these until somebody says so.
_HARMLESS: Final = {rule.name for rule in RULES if rule.kind == "impairment"} | {"cpu saturated"}


@dataclass(frozen=True, slots=True)
class RemedyFacts:
    """What a plan is made of beside the diagnosis: how the service is now, the past, what people said."""

    problem: str | None
    past: Sequence[PastRemedy]
    now: datetime
    hold: Hold
    stop: DeliberateStop | None = None


def plan_remediation(profile: ServiceProfile, diagnosis: Diagnosis, facts: RemedyFacts) -> RemediationPlan:
    """Given a diagnosis, return what may be done about it; its ``refusal`` says why nothing is done."""
    steps = () if _list_obstacles(diagnosis) else _choose_steps(diagnosis)
    return RemediationPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=_summarize(profile, diagnosis, facts, steps),
        acts=tuple(_describe(profile, diagnosis, step) for step in steps),
        rests_on={f"{step.remedy} against {step.cause}": step.target or "found" for step in steps},
        refusal=next(_list_refusals(profile, diagnosis, facts, steps), None),
        fingerprint=_fingerprint(diagnosis),
        steps=steps,
        needs_approval=_needs_approval(profile.outage, diagnosis, facts, steps),
    )


def tell_problem(outage: Outage, health: HealthFacts) -> str | None:
    """Given how the service looks from outside, return what is wrong, slowness included, or None."""
    fastest = min(answer.seconds for answer in health.answers)
    if health.problem is None and fastest > outage.slow_after.total_seconds():
        return f"none of its answers took less than {fastest:.1f} s"
    return health.problem


def _fingerprint(diagnosis: Diagnosis) -> str:
    """Return what makes two diagnoses the same: a CPU that is busy now and then is no other outage."""
    telling = tuple(cause for cause in diagnosis.causes if cause.name not in _HARMLESS)
    return diagnosis.model_copy(update={"causes": telling}).fingerprint


def _list_obstacles(diagnosis: Diagnosis) -> list[Cause]:
    """Return the causes that keep the service down whatever we do."""
    return [
        cause
        for cause in diagnosis.causes
        if cause.remedy is None and cause.certainty != "possible" and cause.name not in _HARMLESS
    ]


def _choose_steps(diagnosis: Diagnosis) -> tuple[RemedyStep, ...]:
    steps: dict[tuple[Remedy, str], RemedyStep] = {}
    for cause in diagnosis.causes:
        if cause.remedy is not None:
            step = RemedyStep(remedy=cause.remedy, cause=cause.name, target=cause.target)
            # One restart is enough, whatever it is for.
            key = (step.remedy, "" if step.remedy == "restart" else step.target)
            steps.setdefault(key, step)
    freed = next((step for step in steps.values() if step.remedy == "free-port"), None)
    if freed is not None:
        # What could not have its port has given up, or is about to.
        steps.setdefault(("restart", ""), RemedyStep(remedy="restart", cause=freed.cause, target=""))
    return tuple(sorted(steps.values(), key=lambda step: _ORDER.index(step.remedy)))


def _needs_approval(
    outage: Outage, diagnosis: Diagnosis, facts: RemedyFacts, steps: Sequence[RemedyStep]
) -> bool:
    guesses = {cause.name for cause in diagnosis.causes if cause.certainty == "possible"}
    return not facts.hold.asked or any(
        step.remedy not in outage.remedies or step.cause in guesses for step in steps
    )


def _list_refusals(
    profile: ServiceProfile, diagnosis: Diagnosis, facts: RemedyFacts, steps: Sequence[RemedyStep]
) -> Iterator[str]:
    if facts.problem is None:
        yield "The service is healthy, and nothing is done to a healthy service."
    if diagnosis.verdict in {"healthy", "unknown"}:
        yield f"The verdict is {diagnosis.verdict}: nothing is done without a cause that is known."
    if obstacles := _list_obstacles(diagnosis):
        yield f"None of our remedies helps against this: {obstacles[0].title.rstrip('.')}. People are needed."
    if not steps:
        yield "No cause that was found has a remedy of ours: people are needed."
    if facts.hold.reason is not None:
        yield f"The kill switch is on: {facts.hold.reason.rstrip('.')}. Nothing is done until it is off."
    if facts.stop is not None:
        yield (
            f"It was stopped on purpose at {_say(profile, facts.stop.at)} by {facts.stop.by}: start it with "
            "control-service when that is over."
        )
    if (repeated := _find_repeated(_fingerprint(diagnosis), facts)) is not None:
        yield (
            f"A {repeated.remedy} was done for the same evidence at {_say(profile, repeated.at)} and did not "
            "help: people are needed."
        )
    if (spent := _find_overspent(profile, facts, len(steps))) is not None:
        yield spent


def _find_repeated(fingerprint: str, facts: RemedyFacts) -> PastRemedy | None:
    return next(
        (
            remedy
            for remedy in reversed(facts.past)
            if remedy.fingerprint == fingerprint
            and remedy.outcome != "healthy again"
            and _is_within(remedy, facts.now, SAME_EVIDENCE_WINDOW)
        ),
        None,
    )


def _find_overspent(profile: ServiceProfile, facts: RemedyFacts, needed: int) -> str | None:
    allowed = profile.outage.remedies_per_hour
    if needed > allowed:
        return (
            f"{say_count(needed, 'remedy', 'remedies')} would be needed, and the profile allows {allowed} an "
            "hour: people are needed."
        )
    spent = sorted(remedy.at for remedy in facts.past if _is_within(remedy, facts.now, BUDGET_WINDOW))
    if (too_many := len(spent) + needed - allowed) <= 0:
        return None
    possible = spent[too_many - 1] + BUDGET_WINDOW
    return (
        f"{len(spent)} of the {allowed} remedies that the profile allows an hour were done already: people "
        f"are needed. The next is possible at {_say(profile, possible)}."
    )


def _is_within(remedy: PastRemedy, now: datetime, window: timedelta) -> bool:
    """Tell whether it counts; one of the future does, or a clock that goes back would give budget back."""
    return remedy.at > now - window


def _say(profile: ServiceProfile, at: datetime) -> str:
    return f"{at.astimezone(profile.zone):%Y-%m-%d %H:%M:%S %Z}"


def _summarize(
    profile: ServiceProfile, diagnosis: Diagnosis, facts: RemedyFacts, steps: Sequence[RemedyStep]
) -> str:
    named = ", then ".join(step.remedy for step in steps) or "nothing is done"
    switch = "" if facts.hold.asked else " No server can be asked here whether the kill switch is on."
    return f"{profile.name}: {named}. {diagnosis.headline}{switch}"


def _describe(profile: ServiceProfile, diagnosis: Diagnosis, step: RemedyStep) -> PlannedAct:
    name = profile.application.process_name
    what, undo = {
        "free-port": (
            f"End what is left of {name} on its port: {step.target}",
            "nothing, it was the application's own and served nobody",
        ),
        "reset-connections": (
            f"Terminate the application's stuck sessions: {step.target}",
            "nothing, the application opens new ones",
        ),
        "restart": (
            f"Restart {name}",
            "it is stopped again if it did not run before and does not become healthy",
        ),
    }[step.remedy]
    titles = (cause.title for cause in diagnosis.causes if cause.name == step.cause)
    return PlannedAct(what=what, why=next(titles).rstrip("."), undo=undo)
