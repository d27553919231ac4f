"""What the doctor looks at of users: whether the profile says where they and the audit log are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tasks.audit_reading import read_audit
from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.users import observe_admins

# The newest are enough to see whether it can be read.
_SPAN = timedelta(minutes=1)


def examine_users(profile: ServiceProfile) -> Iterator[str]:
    """Yield a sentence for a place of users or of the audit log that is not there, and for roles of nobody.

    A database that does not answer is told of once, by another check.
    """
    care = profile.users
    try:
        admins = observe_admins.fn(profile)
    except ConfigurationError as error:
        yield str(error)
        return
    except (UnreachableError, AccessDeniedError):
        return
    if not admins:
        yield (
            f"nobody in {care.source} has the role {' or '.join(care.admin_roles)}: correct users.role_field "
            "or users.admin_roles."
        )
    now = datetime.now(UTC)
    found = read_audit.fn(profile, [care.audit.failed_login], now - _SPAN, now)
    if isinstance(found, Unknown):
        yield f"{found.why}."
