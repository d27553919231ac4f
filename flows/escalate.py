"""Runbook rows I34 and P22: tell people, level by level, until somebody says that they have it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.escalation import choose_start, list_ladder, sum_up
from flows.decisions.remediation import tell_problem
from flows.escalating import call_everybody, climb
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import AccessDeniedError, RunbookError, SourceError
from tasks.escalation_rendering import publish_ladder
from tasks.escalation_runs import start_again
from tasks.escalations import begin_escalation, name_escalation
from tasks.http_probe import observe_health
from tasks.log_masking import mask
from tasks.profiles import load_service
from tasks.records.escalation import Opening
from tasks.records.service import ServiceProfile
from tasks.run_context import read_clock


@flow(name="escalate", flow_run_name="{service} {level}", on_crashed=[start_again])
@failing_in_one_sentence
def escalate(  # noqa: PLR0913, PLR0917  why people are needed, and whose turn it is
    service: str,
    reason: str = "somebody asked for people",
    cause: str = "",
    severity: str = "",
    escalation: str = "",
    level: str = "",
) -> State[Any]:
    """Tell one level of the ladder, and let the next be told later unless somebody acknowledges.

    Trigger: a triage that needs people, an alert, or a person; and each level's run makes the next one's.

    Preconditions: the profile has contacts and levels. Nothing of the service need work.

    Steps: load the profile; begin an escalation, or join the one that is open; see whether it was
    acknowledged or the service is healthy again; make the next level's run, for when this one's time is over;
    tell everybody of this level, by their first channel that works; show the ladder. A level of which nobody
    could be told gives its turn to the next at once.

    Rollback: what was told cannot be taken back. `acknowledge` ends it.

    Args:
        service: The service's name, as in its profile.
        reason: What is wrong, a sentence for those who are told.
        cause: A cause that outage-triage names; the profile may let it begin at a higher level.
        severity: The severity of an alert; likewise.
        escalation: The id of one that is under way; empty begins one.
        level: The level whose turn it is; empty goes by the time.
    """
    profile = load_service(service)
    healthy = _is_healthy(profile)
    if not escalation:
        level = choose_start(profile.escalation, cause, severity)
        opening = _open(profile, (reason, cause, severity), healthy=healthy)
        try:
            escalation = begin_escalation(profile, opening, level).opening.id
        except RunbookError as error:
            return Failed(message=call_everybody(profile, opening, level, str(error)))
    try:
        climbing = climb(profile, escalation, level, healthy=healthy)
    except (AccessDeniedError, SourceError) as error:
        # The host has lost what it remembered: whose turn it is, and that there is a next one.
        opening = _open(profile, (reason, cause, severity), healthy=healthy)
        return Failed(message=call_everybody(profile, opening, level, str(error)))
    record = climbing.read()
    outcome = sum_up(record, climbing.plan, climbing.reached, profile.zone)
    rows = list_ladder(record, profile.escalation, climbing.plan)
    publish_ladder(record, rows, outcome.said, climbing.problems, profile.zone)
    message = " ".join((f"{service}:", outcome.said, *climbing.problems))
    return Completed(message=message) if outcome.well and not climbing.problems else Failed(message=message)


def _is_healthy(profile: ServiceProfile) -> bool:
    try:
        facts = observe_health(profile)
        # One good answer of several is an ill process' neighbour, or a moment of a crash loop.
        return facts.is_good and tell_problem(profile.outage, facts) is None
    except RunbookError:
        # Whoever cannot say that it is healthy has no reason to keep quiet.
        return False


def _open(profile: ServiceProfile, why: tuple[str, str, str], *, healthy: bool) -> Opening:
    now = read_clock()
    reason, cause, severity = (mask(text, frozenset()) for text in why)
    return Opening(
        id=name_escalation(now),
        service=profile.name,
        at=now,
        reason=reason,
        cause=cause,
        severity=severity,
        was_down=not healthy,
    )
