"""The application's sessions in its database: who of them is stuck is decided elsewhere, here they are ended.

Only sessions of the application's own user in its own database are seen or ended here: never another
service's, never a backup's, never ours.
"""

from typing import Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.mongodb_termination import MongodbTermination
from tasks.postgresql_termination import PostgresqlTermination
from tasks.records.service import ServiceProfile
from tasks.records.stuck_sessions import DatabaseSessions, Ending, SessionIdentity


class Termination(Protocol):
    """What a database lets us do with the sessions of one of its users."""

    def observe(self) -> DatabaseSessions:
        """Return the application's sessions."""
        ...

    def terminate(self, identity: SessionIdentity) -> Ending:
        """End exactly this session, and return when it is gone or does not go."""
        ...


def _open(profile: ServiceProfile) -> Termination:
    if profile.database.kind == "mongodb":
        return MongodbTermination(profile)
    return PostgresqlTermination(profile)


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_application_sessions(profile: ServiceProfile) -> DatabaseSessions:
    """Given a service, return the sessions that its application has in its database.

    They are seen through ``database.admin_url``, and through the application's own URL where that does not
    work. Raise ``UnreachableError`` or ``AccessDeniedError`` if neither does.
    """
    return _open(profile).observe()


@task(cache_policy=NO_CACHE, persist_result=False)
def terminate_session(profile: ServiceProfile, identity: SessionIdentity) -> Ending:
    """Given a session of the application, end it if it is still the same; say whether it is gone.

    Raise ``AccessDeniedError`` if neither the administrator nor the application's user may.
    """
    return _open(profile).terminate(identity)
