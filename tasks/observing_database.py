"""The application's database in an outage, seen with its own URL: down, silent, or how it refuses.

The states are told apart and never guessed: a connect of our own comes before the driver's, and what no rule
knows is told in the server's words. Nothing here takes longer than five seconds, also on a server that is
stopped.
"""

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variable
from tasks.observing_mongodb import observe_by_mongodb
from tasks.observing_postgresql import observe_by_postgresql
from tasks.records.evidence import DatabaseFacts
from tasks.records.service import ServiceProfile

_SECONDS = 4.8


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_database(profile: ServiceProfile) -> DatabaseFacts:
    """Given a service, return how its database is for the application: one that is down is an answer.

    Who is connected and who blocks whom is asked through ``database.admin_url``, and through the
    application's own where that does not work. Raise ``ConfigurationError`` or ``AccessDeniedError`` if the
    env file has no URL.
    """
    started = time.monotonic()
    url = read_variable(profile, profile.database.url_variable)
    observe = observe_by_mongodb if profile.database.kind == "mongodb" else observe_by_postgresql
    facts = observe(profile, url, _SECONDS)
    return facts.model_copy(update={"seconds": time.monotonic() - started})
