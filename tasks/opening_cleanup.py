"""From a service to its database, for cleanup."""

from collections.abc import Generator
from contextlib import closing, contextmanager

from tasks.cleanup_source import CleanupSource
from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.mongodb_cleanup import MongodbCleanup
from tasks.postgresql_cleanup import PostgresqlCleanup
from tasks.records.service import ServiceProfile


@contextmanager
def open_cleanup_source(profile: ServiceProfile) -> Generator[CleanupSource]:
    """Given a service, yield its database; the URLs are read here and go nowhere else.

    Raise ``ConfigurationError`` if the variable is not set or a URL is malformed.
    """
    url = read_variable(profile, profile.database.url_variable)
    admin_url = resolve(profile.database.admin_url)
    if profile.database.kind == "mongodb":
        with closing(MongodbCleanup(url, admin_url)) as source:
            yield source
    else:
        yield PostgresqlCleanup(url, admin_url)
