"""Which runbooks wait for a person: a section of the service profile."""

from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tasks.records.section import Section

# The runbooks that ask where the profile says so; a test holds this to the flows.
ASKING: Final = (
    "audit-log-cleanup",
    "control-service",
    "corruption-recovery",
    "disable-user",
    "ensure-indexes",
    "install-service-unit",
    "optimize-indexes",
    "outage-triage",
    "reset-connections",
    "restart-service",
    "restore-application",
    "restore-archive",
    "restore-database",
    "rotate-database-password",
    "rotate-jwt-secret",
    "rotate-s3-credentials",
    "rotate-sendgrid-key",
    "rotate-stripe-keys",
    "security-incident",
)


def _asking(name: str) -> str:
    if name not in ASKING:
        alike = get_close_matches(name, ASKING, n=1)
        hint = f" (did you mean {alike[0]}?)" if alike else ""
        raise ValueError(f"'{name}' is no runbook that can wait{hint}; those that can: {', '.join(ASKING)}")
    return name


class Approval(Section):
    """Which runbooks wait for a person before they change anything."""

    required_for: tuple[Annotated[str, AfterValidator(_asking)], ...] = Field(
        default=(),
        description="Names of runbooks that show their plan and wait",
        examples=[["restore-database", "restore-application"]],
    )
    expires_after: timedelta = Field(
        default=timedelta(hours=1),
        description="No answer for so long is a no (ISO 8601 duration)",
        examples=["PT1H"],
    )
