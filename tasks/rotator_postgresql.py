"""PostgreSQL's part of a database password's rotation.

The server is given a SCRAM verifier, never the password: what an ``ALTER ROLE`` says ends in the server's log
where statements are logged, and in the statistics.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import AccessDeniedError
from tasks.postgresql import Address, Parameters, connect, dial, is_password_refused, parse_url
from tasks.postgresql_limits import Limits, limited
from tasks.postgresql_permissions import exercise_permissions, list_lacks, say_lacks
from tasks.postgresql_sessions import MAY_SEE_ROLE
from tasks.records.service import ServiceProfile

_LIMITS: Final = Limits(statement=10, lock=5, silence=15)
_CONNECT_SECONDS: Final = 10
# Who may give the role a password: before version 16 CREATEROLE was enough, for all but superusers.
_MAY_SET: Final = """
SELECT me.rolsuper OR (me.rolcreaterole AND NOT it.rolsuper AND CASE
    WHEN current_setting('server_version_num')::int < 160000 THEN true
    ELSE pg_has_role(me.oid, it.oid, 'USAGE WITH ADMIN OPTION') END)
FROM pg_roles me, pg_roles it WHERE me.rolname = current_user AND it.rolname = %s
"""
_MAY_END: Final = """
SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE') OR pg_has_role(current_user, %s, 'USAGE')
"""
# ALTER ROLE ... PASSWORD leaves the date as it is: a new password ends with the old one.
_ENDS: Final = """
SELECT rolvaliduntil, rolvaliduntil <= now() FROM pg_roles WHERE rolname = %s AND isfinite(rolvaliduntil)
"""
_SESSIONS: Final = """
SELECT coalesce(host(client_addr), 'the server itself')
       || CASE WHEN application_name <> '' THEN ' (' || application_name || ')' ELSE '' END
FROM pg_stat_activity
WHERE usename = %s AND backend_type = 'client backend' AND application_name <> 'runbooks'
ORDER BY 1
"""
_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE usename = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND (%s::interval IS NULL OR backend_start < clock_timestamp() - %s::interval)
"""


_REMEDY: Final = "let the administrator say ALTER ROLE {role} VALID UNTIL 'infinity', or a later date."


class _End(NamedTuple):
    """Until when a role may log in by its password."""

    at: datetime
    is_past: bool


class PostgresqlUsers:
    """The roles of a PostgreSQL server."""

    in_which_form: Final = ", as a SCRAM verifier"
    # PgBouncer waits for 15 s before it tries again a login that the server refused.
    settled_within: Final = 20.0
    tells_sessions_apart: Final = True

    def __init__(self, profile: ServiceProfile) -> None:
        """Given a service, read its URL; raise ``ConfigurationError`` if there is none that is one."""
        self._profile = profile
        self._own = parse_url(read_variable(profile, profile.database.url_variable))
        self.place = str(self._own)

    def refuse(self, user: str, following: str | None) -> str | None:
        """Return why the role's password cannot be rotated, and the way out; None if it can."""
        admin = self._admin()
        for role in filter(None, [following, user]):
            # Before the role itself is asked to log in, which it may not any more.
            if (ends := self._find_end(admin, role)) is not None and ends.is_past:
                return f"{self._say_end(role, ends)} {_REMEDY.format(role=role)}"
        if (refusal := _refuse_managed_elsewhere(self._own)) is not None:
            return refusal
        if admin.user in {user, following}:
            return (
                f"database.admin_url logs in as {admin.user} itself, and would lock the runbooks out: give "
                "them a role of their own that may change its password."
            )
        for role in filter(None, [following, user]):
            if (refusal := self._refuse_role(admin, role)) is not None:
                return refusal
        return self._refuse_lesser(user, following) if following is not None else None

    def warn(self, user: str) -> tuple[str, ...]:
        """Return that the role's password ends before its next rotation is due, if it does."""
        wanted = self._profile.credentials.database_password
        ends = self._find_end(self._admin(), user)
        if ends is None or wanted is None or ends.at > datetime.now(UTC) + wanted.rotate_every:
            return ()
        return (f"{self._say_end(user, ends)} {_REMEDY.format(role=user)}",)

    def set_password(self, user: str, password: str) -> None:
        """Give the role this password, as a verifier that is computed here."""
        with connect(self._admin()) as connection, limited(connection, _LIMITS):
            verifier = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256")
            self._alter(connection, user, sql.Literal(verifier.decode()))

    def end_password(self, user: str) -> None:
        """Leave the role without a password: whatever is given is refused."""
        with connect(self._admin()) as connection, limited(connection, _LIMITS):
            self._alter(connection, user, sql.NULL)

    def accepts(self, url: str) -> bool:
        """Return whether a new connection gets in and is answered."""
        try:
            with (
                connect(parse_url(url)) as connection,
                limited(connection, replace(_LIMITS, of_transaction=True)),
            ):
                connection.execute("SELECT 1")
        except AccessDeniedError:
            return False
        return True

    def exercise(self, url: str, previous: str | None) -> None:
        """Read all that the role may, write what is rolled back; raise if it may less than the previous."""
        exercise_permissions(url, None if previous is None else parse_url(previous).user)

    def list_sessions(self, user: str) -> tuple[str, ...]:
        """Return where the role's sessions come from, in whichever database of the server."""
        with connect(self._admin()) as connection, limited(connection, _LIMITS):
            return tuple(place for (place,) in connection.execute(_SESSIONS, [user]))

    def end_sessions(self, user: str, older_than: timedelta | None) -> None:
        """End the role's sessions, only those opened so long ago if it is given."""
        with connect(self._admin()) as connection, limited(connection, _LIMITS):
            connection.execute(_END_SESSIONS, [user, older_than, older_than])

    def _admin(self) -> Address:
        return parse_url(resolve(self._profile.database.admin_url))

    @staticmethod
    def _find_end(admin: Address, role: str) -> _End | None:
        with connect(admin) as connection, limited(connection, _LIMITS):
            found = connection.execute(_ENDS, [role]).fetchone()
        return _End(*found) if found is not None else None

    def _say_end(self, role: str, ends: _End) -> str:
        moment = f"{ends.at.astimezone(self._profile.zone):%Y-%m-%d %H:%M %Z}"
        return (
            f"{self.place} lets {role} in until {moment} only (VALID UNTIL), which a new password does not "
            "change:"
        )

    def _refuse_role(self, admin: Address, role: str) -> str | None:
        with connect(admin) as connection, limited(connection, _LIMITS):
            there = connection.execute(
                "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [role]
            ).fetchone()
            if there is None:
                return f"{admin} has no role {role}: create it, or correct {self._where_named(role)}."
            if there != (True,):
                return f"the role {role} may not log in at {admin}: ALTER ROLE {role} LOGIN."
            if not _is_true(connection, _MAY_SET, role):
                return (
                    f"{admin.user}, whom database.admin_url names, may not change the password of {role}: it "
                    f"needs CREATEROLE and GRANT {role} TO {admin.user} WITH ADMIN OPTION."
                )
            if not _is_true(connection, MAY_SEE_ROLE, role):
                return (
                    f"{admin.user}, whom database.admin_url names, does not see the sessions of {role}: "
                    f"GRANT pg_read_all_stats TO {admin.user}."
                )
            wanted = self._profile.credentials.database_password
            if wanted is not None and wanted.end_sessions and not _is_true(connection, _MAY_END, role):
                return (
                    f"{admin.user}, whom database.admin_url names, may not end the sessions of {role}: GRANT "
                    f"pg_signal_backend TO {admin.user}, or set credentials.database_password.end_sessions "
                    "to false."
                )
        return None

    def _where_named(self, role: str) -> str:
        if role == self._own.user:
            return f"{self._profile.database.url_variable} or database.admin_url"
        return "credentials.database_password.alternate"

    def _refuse_lesser(self, user: str, following: str) -> str | None:
        try:
            lacks = self._list_lacks(self._own, user, following)
        except AccessDeniedError:
            # The application's own password is dead.
            inside = parse_url(resolve(self._profile.database.admin_url), self._own.database)
            lacks = self._list_lacks(inside, user, following)
        if not lacks:
            return None
        return (
            f"{following} may less than {user} in {self.place}, without {say_lacks(lacks)}: let both be "
            "members of one role that owns everything, and take its place by ALTER ROLE ... SET role."
        )

    @staticmethod
    def _list_lacks(asking: Address, user: str, following: str) -> list[str]:
        with connect(asking, autocommit=False) as connection:
            return list_lacks(connection, user, following)

    @staticmethod
    def _alter(connection: psycopg.Connection, user: str, password: sql.Composable) -> None:
        change = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), password)
        connection.execute(change)


def _is_true(connection: psycopg.Connection, question: LiteralString, role: str) -> bool:
    return connection.execute(question, [role]).fetchone() == (True,)


def _refuse_managed_elsewhere(own: Address) -> str | None:
    """Return why what the server checks is not a password that it keeps; None if it is one."""
    hashed = {"require_auth": "scram-sha-256,md5", **own.parameters.values}
    try:
        dial(replace(own, parameters=Parameters(hashed)), _CONNECT_SECONDS, autocommit=True).close()
    except psycopg.OperationalError as error:
        if is_password_refused(error):
            # It keeps a password, and this one is dead.
            return None
        # What it wants, if not that, only an ordinary connection shows; its errors leave as ours.
        with connect(own) as connection:
            asked = connection.pgconn.used_password
    else:
        return None
    if asked:
        return (
            f"{own} asks {own.user} for the password in clear, as it does where LDAP, PAM, RADIUS or a "
            "cloud's IAM keep it: rotate it there, or let pg_hba.conf say scram-sha-256."
        )
    return (
        f"{own} lets {own.user} in without the URL's password (trust, peer, a certificate or Kerberos in "
        "pg_hba.conf): there is nothing to rotate until it says scram-sha-256."
    )
