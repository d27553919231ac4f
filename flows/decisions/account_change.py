"""What it takes to let a user in no more, or again; and when that is refused."""

from collections.abc import Iterator
from typing import Final

from tasks.records.accounts import Account, AccountFacts
from tasks.records.figures import say_count
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK: Final = "disable-user"
_TOKENS: Final = (
    "Tokens that were handed out already stay good until they expire, because the application looks at "
    "nothing but their signature; to end them at once, for everybody: rotate-jwt-secret with emergency."
)


class AccountPlan(RunbookPlan):
    """The plan, with whose account it is and what is done to it."""

    email: str
    active: bool
    """What it will be."""
    was_active: bool
    sessions: int
    """Sessions in the database that are ended."""


def plan_account_change(profile: ServiceProfile, facts: AccountFacts, *, enable: bool) -> AccountPlan:
    """Given what is there for an address, return what is done; nothing where it is so already."""
    account = facts.exact[0] if len(facts.exact) == 1 else None
    refusal = _refuse(profile, facts, account, enable=enable)
    was_active = account is not None and account.active
    sessions = 0 if enable or account is None else facts.sessions or 0
    acts = () if refusal or account is None else tuple(_plan(profile, account, sessions, enable=enable))
    return AccountPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=_summarize(facts, account, acts, enable=enable),
        acts=acts,
        rests_on={
            "user": f"{facts.asked} in {facts.where}",
            "role": account.role if account is not None else "none",
            "active": str(was_active).lower(),
        },
        refusal=refusal,
        email=facts.asked,
        active=enable,
        was_active=was_active,
        sessions=sessions,
    )


def _plan(profile: ServiceProfile, account: Account, sessions: int, *, enable: bool) -> Iterator[PlannedAct]:
    field, command = profile.users.active_field, f"start {RUNBOOK} for {account.email}"
    if account.active != enable:
        yield PlannedAct(
            what=f"Set {field} of {account.email} to {str(enable).lower()}",
            why="The application lets the user log in again"
            if enable
            else f"The application refuses the login of a user who is not active. {_TOKENS}",
            how_many="1 user",
            undo=f"{command}, with enable {'off' if enable else 'on'}",
        )
    if sessions:
        yield PlannedAct(
            what="End the user's sessions in the database",
            why="Who has one would stay logged in",
            how_many=say_count(sessions, "session"),
            undo="nothing: the user logs in again, once enabled",
        )


def _refuse(
    profile: ServiceProfile, facts: AccountFacts, account: Account | None, *, enable: bool
) -> str | None:
    if account is None:
        return _say_nobody(facts)
    if enable or not account.active:
        return None
    login = profile.application.login
    if login is not None and account.email == login.user:
        return (
            f"{account.email} is the probe that proves that users can log in: without it every check fails. "
            "Name another user in application.login first."
        )
    if account.is_admin and not facts.other_admins:
        return f"{account.email} is the last active administrator. {_say_way_out()}"
    if account.is_admin and account.organization is not None and not facts.other_admins_of_organization:
        return (
            f"{account.email} is the last active administrator of the organisation {account.organization}. "
            f"{_say_way_out()}"
        )
    return None


def _say_nobody(facts: AccountFacts) -> str:
    if not facts.asked:
        return "No user is named: give the e-mail address."
    if facts.exact:
        return f"More than one user has the address {facts.asked}: which is meant, nobody can tell."
    if facts.alike is not None:
        return f"There is no user {facts.asked}, but {facts.alike}: start it with that, if it is meant."
    return f"There is no user {facts.asked} in {facts.where}."


def _say_way_out() -> str:
    return (
        f"Make another user one first, in the application, or enable one who was: {RUNBOOK} with enable. If "
        "somebody else is in this account now: set it a new password in the application, and end what is "
        "open by rotate-jwt-secret with emergency."
    )


def _summarize(
    facts: AccountFacts, account: Account | None, acts: tuple[PlannedAct, ...], *, enable: bool
) -> str:
    if account is None:
        return f"Nobody can be {'enabled' if enable else 'disabled'}."
    who = f"{facts.asked} ({account.role or 'without a role'})"
    if acts:
        return f"{who} is let in {'again' if enable else 'no more'}."
    return f"{who} is {'active' if enable else 'not active'} already."
