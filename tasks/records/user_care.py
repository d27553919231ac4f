"""What a service profile says of its users: where they are, who administers, who is watched logging in."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from tasks.records.section import Section


def _naming_a_user(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
    if "user" not in groups:
        raise ValueError(f"'{pattern}' has no group (?P<user>...), which says who could not log in")
    return pattern


class UserSessions(Section):
    """Sessions or refresh tokens that the application keeps in its database and looks at."""

    source: str = Field(min_length=1, description="Their collection or table", examples=["refreshTokens"])
    user_field: str = Field(
        min_length=1, description="Its field or column that says whose one is", examples=["userId"]
    )
    holds: str = Field(
        min_length=1,
        description="The field or column of the user that stands in it",
        examples=["_id"],
    )


class AuditSource(Section):
    """Where the application writes down who did what. A dot leads into a document, or into a JSON column."""

    source: str = Field(
        default="auditLogs", min_length=1, description="The collection or table", examples=["auditLogs"]
    )
    time_field: str = Field(default="timestamp", description="When it was", examples=["timestamp"])
    action_field: str = Field(default="action", description="What was done", examples=["action"])
    user_field: str | None = Field(
        default="userEmail", description="Who did it, or tried", examples=["userEmail"]
    )
    address_field: str | None = Field(
        default="ipAddress", description="The network address it came from", examples=["details.ip"]
    )
    failed_login: str = Field(
        default="LOGIN_FAILED", description="The action of a login that failed", examples=["LOGIN_FAILED"]
    )
    unauthorized: str = Field(
        default="UNAUTHORIZED_ACCESS",
        description="The action of an access that was refused",
        examples=["UNAUTHORIZED_ACCESS"],
    )


class LoginAlarm(Section):
    """How many failed logins within one period raise an alarm."""

    within: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="The period (ISO 8601 duration)",
        examples=["PT1H"],
    )
    of_one_user: int = Field(default=10, ge=1, description="So many of one user", examples=[10])
    from_one_address: int = Field(default=20, ge=1, description="So many from one address", examples=[20])
    in_all: int = Field(default=100, ge=1, description="So many of everybody together", examples=[100])


class UserCare(Section):
    """The application's users as its database has them."""

    source: str = Field(
        default="users", min_length=1, description="Their collection or table", examples=["users"]
    )
    email_field: str = Field(
        default="email", min_length=1, description="Holds the e-mail address", examples=["email"]
    )
    role_field: str = Field(
        default="role", min_length=1, description="Holds the role, or a list of them", examples=["role"]
    )
    active_field: str = Field(
        default="isActive",
        min_length=1,
        description="True or false; the application lets nobody in for whom it is false",
        examples=["is_active"],
    )
    organization_field: str | None = Field(
        default=None,
        description="Holds the user's organisation, where there are any",
        examples=["organizationId"],
    )
    created_field: str | None = Field(
        default=None, description="Holds when the user was made", examples=["created_at"]
    )
    last_login_field: str | None = Field(
        default=None, description="Holds when the user last logged in", examples=["lastLogin"]
    )
    admin_roles: tuple[str, ...] = Field(
        default=("admin", "ADMIN"), min_length=1, description="Roles of administrators", examples=[["admin"]]
    )
    sessions: UserSessions | None = Field(
        default=None, description="Sessions in the database, where the application has any"
    )
    audit: AuditSource = Field(default=AuditSource(), description="Where it is written who did what")
    failed_login_line: Annotated[str, AfterValidator(_naming_a_user)] = Field(
        default=r"Authentication failed for (?P<user>[^\s\"',;]+)",
        description="What the log says of a failed login: a regular expression, its group `user` says whose",
        examples=[r"login refused: (?P<user>\S+)"],
    )
    alarm: LoginAlarm = Field(default=LoginAlarm(), description="How many failed logins are too many")
