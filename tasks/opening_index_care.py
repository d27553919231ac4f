"""The care of indexes, whichever server the service's database is on."""

from typing import Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variable
from tasks.mongodb_index_care import MongodbIndexCare
from tasks.postgresql_index_care import PostgresqlIndexCare
from tasks.records.index_care import CareAct, IndexCareFacts, IndexUseFacts
from tasks.records.indexes import IndexFacts
from tasks.records.service import ServiceProfile
from tasks.retrying import retried


class IndexCareServer(Protocol):
    """A database as the care of indexes needs it. Every method raises only errors of ours."""

    def observe_use(self) -> IndexUseFacts:
        """Return every index with its uses, and whether the server counts them."""
        ...

    def observe(self) -> IndexCareFacts:
        """Return all that care is decided by."""
        ...

    def apply(self, act: CareAct) -> None:
        """Do an act; it is safe to repeat, and waits for no lock longer than a minute."""
        ...

    def list_invalid(self) -> tuple[IndexFacts, ...]:
        """Return the indexes that are not valid: what did not come to its end may have left them."""
        ...

    def end_own_work(self) -> None:
        """End what a killed run's session still does on the server."""
        ...


def open_index_care(profile: ServiceProfile) -> IndexCareServer:
    """Given a service, return its database for an administrator; nothing is opened yet."""
    url = read_variable(profile, profile.database.url_variable)
    if profile.database.kind == "mongodb":
        return MongodbIndexCare(profile.database.admin_url, url)
    return PostgresqlIndexCare(profile.database.admin_url, url)


@retried
def observe_index_use(profile: ServiceProfile) -> IndexUseFacts:
    """Given a service, return its indexes and their uses; raise ``UnreachableError`` without an answer."""
    return open_index_care(profile).observe_use()


@retried
def observe_index_care(profile: ServiceProfile) -> IndexCareFacts:
    """Given a service, return what care is decided by; raise ``UnreachableError`` without an answer."""
    return open_index_care(profile).observe()


@retried
def list_invalid_indexes(profile: ServiceProfile) -> tuple[IndexFacts, ...]:
    """Given a service, return its invalid indexes; raise ``UnreachableError`` without an answer."""
    return open_index_care(profile).list_invalid()


@task(task_run_name="{act.kind} {act.key}", cache_policy=NO_CACHE, persist_result=False)
def take_care(profile: ServiceProfile, act: CareAct) -> None:
    """Given an act, do it; raise ``RunbookError`` where that cannot be done now."""
    open_index_care(profile).apply(act)


@retried
def end_own_work(profile: ServiceProfile) -> None:
    """Given a service, end what a killed run's session still does; raise ``UnreachableError`` if it stays."""
    open_index_care(profile).end_own_work()
