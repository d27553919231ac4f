"""The application's users, whichever database they are in: who administers, and one of them let in or not."""

from typing import Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variable
from tasks.mongodb_users import MongodbUsers
from tasks.postgresql_users import PostgresqlUsers
from tasks.records.accounts import Account, AccountFacts
from tasks.records.service import ServiceProfile
from tasks.retrying import retried


class Users(Protocol):
    """The users as the application's own connection sees them; every method raises errors of ours only."""

    def list_admins(self) -> tuple[Account, ...]:
        """Return everybody with an administrator's role, active or not, by e-mail address."""
        ...

    def find(self, email: str) -> tuple[tuple[Account, ...], str | None]:
        """Given an address, return who has exactly it, and else the first one that differs in capitals."""
        ...

    def set_active(self, email: str, *, active: bool) -> None:
        """Given the one user with this address, let the application let them in, or not."""
        ...

    def count_sessions(self, email: str) -> int | None:
        """Return how many sessions the user has; None where the profile names no place of them."""
        ...

    def end_sessions(self, email: str) -> int:
        """Delete the user's sessions and return how many there were."""
        ...

    def end_all_sessions(self) -> int:
        """Delete everybody's sessions and return how many there were."""
        ...


@retried
def observe_admins(profile: ServiceProfile) -> tuple[Account, ...]:
    """Given a service, return its administrators, active or not; raise if the database cannot tell."""
    return _open(profile).list_admins()


@retried
def observe_account(profile: ServiceProfile, email: str) -> AccountFacts:
    """Given an e-mail address, return whose it is, and who else administers; raise if nobody can tell.

    The probe user is no administrator here: behind it is no person.
    """
    users = _open(profile)
    exact, alike = users.find(email)
    login = profile.application.login
    probe = login.user if login is not None else None
    others = [one for one in users.list_admins() if one.active and one.email not in {email, probe}]
    organization = exact[0].organization if exact else None
    return AccountFacts(
        where=f"{profile.users.source} of the application's database",
        asked=email,
        exact=exact[:2],
        alike=alike,
        other_admins=len(others),
        other_admins_of_organization=sum(one.organization == organization for one in others),
        sessions=users.count_sessions(email) if exact else None,
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def set_account_active(profile: ServiceProfile, email: str, *, active: bool) -> None:
    """Given a user, let the application let them in, or not; raise if it is not exactly one user.

    To do it twice is to do it once.
    """
    _open(profile).set_active(email, active=active)


@task(cache_policy=NO_CACHE, persist_result=False)
def end_account_sessions(profile: ServiceProfile, email: str) -> int:
    """Given a user, delete what the application has of their sessions; return how many there were."""
    return _open(profile).end_sessions(email)


@task(cache_policy=NO_CACHE, persist_result=False)
def end_all_sessions(profile: ServiceProfile) -> int | None:
    """Given a service, delete all sessions of its users; return how many, None if the profile names none."""
    return _open(profile).end_all_sessions() if profile.users.sessions is not None else None


def _open(profile: ServiceProfile) -> Users:
    url = read_variable(profile, profile.database.url_variable)
    kind = MongodbUsers if profile.database.kind == "mongodb" else PostgresqlUsers
    return kind(url, profile.users)
