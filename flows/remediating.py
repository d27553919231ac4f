"""What a triage does about the causes it found: plan, ask where it must, act under guard, prove it, or undo.

The guard is asked three times: for the plan, when the service is held, and before each act.
"""

from dataclasses import dataclass, field
from typing import Final

from flows.decisions.drift import find_drift
from flows.decisions.remediation import RUNBOOK, RemedyFacts, plan_remediation, tell_problem
from flows.resetting import reset
from flows.restarting import restart
from flows.triaging import diagnose_now
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.availability import await_healthy_for
from tasks.deliberate_stop import read_stop
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.handing_over import hand_over
from tasks.http_probe import await_health, observe_health
from tasks.journal import Journal
from tasks.kill_switch import read_hold
from tasks.mutation import mutating, read_begun_plan, settling
from tasks.port_freeing import free_port
from tasks.process_manager import observe_application, start_application, stop_application
from tasks.records.diagnosis import Diagnosis
from tasks.records.evidence import HealthFacts
from tasks.records.remediation import Outcome, PastRemedy, Remediated, RemediationPlan, RemedyStep
from tasks.records.service import ServiceProfile
from tasks.remedies import read_remedies, record_remedy
from tasks.run_context import Run, read_clock

_RESTART: Final = "restart"
_HEALTHY_ALREADY: Final = "The service is healthy by now: nothing was done to it."
_FOR_APPROVAL: Final = "A triage knows what to do and waits for your approval in the Prefect UI:"
_FOR_PEOPLE: Final = "People are needed: the report says what for."


@dataclass
class Attempt:
    """A plan under way: which remedies the host has as begun, and what was done, a sentence each."""

    profile: ServiceProfile
    run: Run
    plan: RemediationPlan
    was_down: bool = False
    begun: list[PastRemedy] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def end(self, outcome: Outcome) -> None:
        """Write down how what was begun has ended."""
        for remedy in self.begun:
            record_remedy(self.profile, remedy.model_copy(update={"outcome": outcome}))


def remediate(profile: ServiceProfile, run: Run, diagnosis: Diagnosis, *, dry_run: bool) -> Remediated:
    """Do what may be done about a diagnosis and return what became of it; it raises nothing of its own.

    A run that waits for approval is suspended here and begins anew, with a diagnosis of its own: if that is
    another one than was approved, nothing is done.
    """
    try:
        settled = () if dry_run else settle(profile, run)
        if diagnosis.verdict in {"healthy", "degraded"}:
            return Remediated(outcome="not needed", said="Nothing was done to it.", done=settled)
        facts = _observe(profile, run)
        fresh = plan_remediation(profile, diagnosis, facts)
    except RunbookError as error:
        return Remediated(outcome="refused", said=str(error))
    plan = remember_plan(fresh)
    if plan.steps:
        publish_runbook_plan(plan)
    if facts.problem is None:
        return Remediated(plan=plan, outcome="not needed", said=_HEALTHY_ALREADY, done=settled)
    if (why_not := fresh.refusal or _find_other_causes(plan, fresh)) is not None:
        return Remediated(plan=plan, outcome="refused", said=why_not, done=settled)
    if dry_run:
        return Remediated(plan=plan, outcome="planned", said="Dry run: the plan is shown, nothing was done.")
    return _carry_out(Attempt(profile, run, plan, done=list(settled)))


def settle(profile: ServiceProfile, run: Run) -> tuple[str, ...]:
    """Finish what a killed run began, and return what was done; its remedies count as any others.

    Raise ``RefusedError`` if the kill switch is on: that is an act as well.
    """
    with settling(profile, run, RUNBOOK) as journal:
        if journal is None:
            return ()
        attempt = Attempt(profile, run, read_begun_plan(journal, RemediationPlan))
        steps = [entry.facts for entry in journal.entries if "remedy" in entry.facts]
        attempt.begun = [PastRemedy.model_validate(facts["remedy"]) for facts in steps]
        attempt.was_down = any(facts["was_down"] for facts in steps)
        if not steps:
            journal.close("Nothing was done.")
            return ()
        _refuse_held(attempt)
        return _finish_killed(attempt, journal)


def _observe(profile: ServiceProfile, run: Run) -> RemedyFacts:
    return RemedyFacts(
        problem=tell_problem(profile.outage, observe_health(profile)),
        past=read_remedies(profile),
        now=read_clock(),
        hold=read_hold(profile, run),
        stop=read_stop(profile),
    )


def _find_other_causes(shown: RemediationPlan, fresh: RemediationPlan) -> str | None:
    if shown.fingerprint == fresh.fingerprint:
        return None
    return (
        f"What is wrong is not what was approved: that was {shown.fingerprint}, and it is "
        f"{fresh.fingerprint or 'nothing that is known'}. Nothing was done: start the triage again."
    )


def _carry_out(attempt: Attempt) -> Remediated:
    profile, run, plan = attempt.profile, attempt.run, attempt.plan
    try:
        if run.deployed and (plan.needs_approval or RUNBOOK in profile.approval.required_for):
            hand_over(profile, run, f"{_FOR_APPROVAL} {plan.summary}", plan.steps[0].cause)
        approve(profile, plan, run, always=plan.needs_approval)
        with mutating(profile, run, plan) as journal:
            if not _is_still_so(attempt):
                journal.close(_HEALTHY_ALREADY)
                return Remediated(plan=plan, outcome="not needed", said=_HEALTHY_ALREADY)
            said = _apply(attempt, journal)
    except RunbookError as error:
        outcome = "handed over" if attempt.begun else "refused"
        return Remediated(plan=plan, outcome=outcome, said=str(error), done=tuple(attempt.done))
    return Remediated(plan=plan, outcome="healthy again", said=said, done=tuple(attempt.done))


def _is_still_so(attempt: Attempt) -> bool:
    """Ask all over again, now that nobody else changes the service; return whether it still needs help.

    Raise ``RefusedError`` if anything that the plan rests on is otherwise, as after another triage.
    """
    profile, run = attempt.profile, attempt.run
    facts = _observe(profile, run)
    if facts.problem is None:
        return False
    fresh = plan_remediation(profile, diagnose_now(profile), facts)
    if (drift := find_drift(attempt.plan, fresh)) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    attempt.was_down = not any(
        instance.state in {"online", "starting"} for instance in observe_application(profile).instances
    )
    return True


def _apply(attempt: Attempt, journal: Journal) -> str:
    profile = attempt.profile
    try:
        for step in attempt.plan.steps:
            _refuse_held(attempt)
            if tell_problem(profile.outage, observe_health(profile)) is None:
                break
            _do(attempt, step, journal)
        await_health(profile)
        _refuse_slow(profile, await_healthy_for(profile))
    except RunbookError as error:
        raise RunbookError(f"{error} {_undo_after_failure(attempt, journal)} {_FOR_PEOPLE}") from error
    except BaseException:
        _undo(attempt, journal)
        raise
    return _conclude(attempt, journal)


def _refuse_slow(profile: ServiceProfile, facts: HealthFacts) -> None:
    """An application that answers as slowly as before is not healthy again."""
    if (problem := tell_problem(profile.outage, facts)) is not None:
        raise UnreachableError(f"{profile.name}: what was done did not help: {problem}.")


def _refuse_held(attempt: Attempt) -> None:
    if (reason := read_hold(attempt.profile, attempt.run).reason) is not None:
        raise RefusedError(f"{attempt.profile.name}: the kill switch is on: {reason.rstrip('.')}.")


def _do(attempt: Attempt, step: RemedyStep, journal: Journal) -> None:
    profile = attempt.profile
    remedy = PastRemedy(
        at=read_clock(),
        run=attempt.run.name,
        remedy=step.remedy,
        fingerprint=attempt.plan.fingerprint,
        outcome="begun",
    )
    record_remedy(profile, remedy)
    attempt.begun.append(remedy)
    facts = {"target": step.target, "was_down": attempt.was_down, "remedy": remedy.model_dump(mode="json")}
    journal.write(step.remedy, **facts)
    attempt.done.append(_act(profile, step, journal))


def _act(profile: ServiceProfile, step: RemedyStep, journal: Journal) -> str:
    match step.remedy:
        case "free-port":
            return free_port(profile, step.target)
        case "reset-connections":
            return reset(profile, step.target, journal)
        case "restart":
            return f"{profile.application.process_name} was {restart(profile, journal).in_words}."


def _conclude(attempt: Attempt, journal: Journal) -> str:
    profile = attempt.profile
    seconds = profile.outage.healthy_for.total_seconds()
    said = f"{profile.name} is healthy again, and stayed so for {seconds:.0f} s."
    attempt.end("healthy again")
    publish_done(attempt.plan, said, journal.entries, profile.zone)
    journal.close(said)
    return said


def _finish_killed(attempt: Attempt, journal: Journal) -> tuple[str, ...]:
    try:
        if journal.has(_RESTART):
            start_application(attempt.profile)
        await_health(attempt.profile)
        await_healthy_for(attempt.profile)
    except RunbookError as error:
        return (f"What a killed run began was put right first: {error} {_undo(attempt, journal)}",)
    return (f"What a killed run began was finished first: {_conclude(attempt, journal)}",)


def _undo_after_failure(attempt: Attempt, journal: Journal) -> str:
    try:
        return _undo(attempt, journal)
    except RunbookError as error:
        return f"That could not be undone: {error} Start {RUNBOOK} again: it does that first."


def _undo(attempt: Attempt, journal: Journal) -> str:
    """Leave the application as it was found, stopped or started, and return in words how it is now."""
    if not attempt.begun:
        return "Nothing was done."
    name = attempt.profile.application.process_name
    outcome: Outcome = "not healthy"
    said = "What was done cannot be undone."
    if journal.has(_RESTART) and attempt.was_down:
        stop_application(attempt.profile)
        outcome, said = "undone", f"{name} is stopped again, as it was found, rather than left crashing."
    elif journal.has(_RESTART):
        start_application(attempt.profile)
        said = f"{name} was restarted and is left running."
    attempt.end(outcome)
    journal.close(said)
    return said
