"""What disabling or enabling a user does around its plan: observe, apply, prove, settle."""

from flows.decisions.account_change import RUNBOOK, AccountPlan, plan_account_change
from flows.decisions.drift import find_drift
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.http_probe import probe_login
from tasks.journal import Journal
from tasks.mutation import read_begun_plan, refuse_half_done, settling
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.users import end_account_sessions, observe_account, set_account_active

CHANGING = "changing the account"
ENDING = "ending sessions"


def observe_and_plan(profile: ServiceProfile, user: str, *, enable: bool) -> AccountPlan:
    """Look at the account and at who else administers, and plan."""
    return plan_account_change(profile, observe_account(profile, user), enable=enable)


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Do to its end what a killed run began: each of its acts may be done twice."""
    if dry_run:
        refuse_half_done(profile, RUNBOOK)
        return
    with settling(profile, run, RUNBOOK) as journal:
        if journal is not None:
            plan = read_begun_plan(journal, AccountPlan)
            if journal.has(CHANGING) or journal.has(ENDING):
                journal.close(apply_and_prove(profile, plan, journal))
            else:
                journal.close("Nothing was changed.")


def refuse_drift(profile: ServiceProfile, plan: AccountPlan) -> None:
    """Raise ``RefusedError`` if the account is not what the plan rests on, or nobody else administers now."""
    fresh = observe_and_plan(profile, plan.email, enable=plan.active)
    if (drift := find_drift(plan, fresh)) is not None:
        raise RefusedError(f"{profile.name}: {drift}")


def apply_and_prove(profile: ServiceProfile, plan: AccountPlan, journal: Journal) -> str:
    """Do it, prove it, and return what is so now.

    A failure leaves what was done: half of a disabled user is better than none. The next run does the rest.
    """
    try:
        ended = _apply(profile, plan, journal)
        return _prove(profile, plan, ended)
    except RunbookError as error:
        journal.close(f"It failed: {error}")
        raise


def _apply(profile: ServiceProfile, plan: AccountPlan, journal: Journal) -> int:
    if plan.was_active != plan.active:
        journal.write(CHANGING, active=plan.active)
        set_account_active(profile, plan.email, active=plan.active)
    if not plan.active and profile.users.sessions is not None:
        # After the change: who is refused opens no other one.
        journal.write(ENDING)
        return end_account_sessions(profile, plan.email)
    return 0


def _prove(profile: ServiceProfile, plan: AccountPlan, ended: int) -> str:
    """Read the account back, and see that others still log in; return what is so now."""
    facts = observe_account(profile, plan.email)
    if [one.active for one in facts.exact] != [plan.active]:
        raise UnreachableError(
            f"{profile.name}: {plan.email} was {_say_what(plan)}, but what the application reads says "
            "otherwise: look at who else writes it, and start again."
        )
    if facts.sessions and not plan.active:
        raise UnreachableError(
            f"{profile.name}: {plan.email} is disabled, and has {say_count(facts.sessions, 'session')} "
            "again: start again."
        )
    sessions = f", {say_count(ended, 'session')} ended" if ended else ""
    said = f"{plan.email} is {_say_what(plan)}{sessions}; read back by the application's own connection"
    if (problem := probe_login(profile)) is not None:
        raise UnreachableError(
            f"{profile.name}: {said}. But it was not proven that others can log in: {problem}"
        )
    return f"{said}{', and the probe user logs in' if profile.application.login else ''}."


def _say_what(plan: AccountPlan) -> str:
    return "enabled" if plan.active else "disabled"
