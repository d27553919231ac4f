"""The application's users in PostgreSQL, by the application's own connection."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from tasks.errors import ConfigurationError
from tasks.postgresql_application import Columns, connect_as_application
from tasks.records.accounts import Account
from tasks.records.user_care import UserCare


class PostgresqlUsers:
    """The table of users that a profile names."""

    def __init__(self, url: str, care: UserCare) -> None:
        """Take the application's URL and what the profile says of its users."""
        self._url, self._care = url, care

    def list_admins(self) -> tuple[Account, ...]:
        """Return everybody with an administrator's role, active or not, by e-mail address."""
        care = self._care
        with connect_as_application(self._url) as connection:
            columns = Columns(connection, care.source, "users")
            role = sql.SQL("{}::text = ANY(%s)").format(columns.expression(care.role_field))
            return self._read(connection, columns, role, list(care.admin_roles))

    def find(self, email: str) -> tuple[tuple[Account, ...], str | None]:
        """Given an address, return who has exactly it, and else the first one that differs in capitals."""
        care = self._care
        with connect_as_application(self._url) as connection:
            columns = Columns(connection, care.source, "users")
            field = columns.expression(care.email_field)
            exact = self._read(connection, columns, sql.SQL("{} = %s").format(field), email)
            if exact:
                return exact, None
            same = sql.SQL("lower({}::text) = lower(%s)").format(field)
            alike = self._read(connection, columns, same, email)
            return (), alike[0].email if alike else None

    def set_active(self, email: str, *, active: bool) -> None:
        """Given the one user with this address, let the application let them in, or not.

        Raise ``ConfigurationError`` if it is not exactly one: then nothing is changed.
        """
        care = self._care
        update = sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s")
        with connect_as_application(self._url) as connection, connection.transaction():
            columns = Columns(connection, care.source, "users")
            names = (care.active_field, care.email_field)
            fields = (columns.expression(name) for name in names)
            wanted = update.format(sql.Identifier(care.source), *fields)
            changed = connection.execute(wanted, [active, email]).rowcount
            if changed != 1:
                raise ConfigurationError(
                    f"{changed} rows of {care.source} have that e-mail address, not one: nothing was changed."
                )

    def count_sessions(self, email: str) -> int | None:
        """Return how many sessions the user has; None where the profile names no place of them."""
        if self._care.sessions is None:
            return None
        with connect_as_application(self._url) as connection:
            query = sql.SQL("SELECT count(*) FROM {}").format(self._of_user(connection))
            found = connection.execute(query, [email]).fetchone()
        return int(found[0]) if found else 0

    def end_sessions(self, email: str) -> int:
        """Delete the user's sessions and return how many there were."""
        if self._care.sessions is None:
            return 0
        with connect_as_application(self._url) as connection:
            query = sql.SQL("DELETE FROM {}").format(self._of_user(connection))
            return connection.execute(query, [email]).rowcount

    def end_all_sessions(self) -> int:
        """Delete everybody's sessions and return how many there were."""
        if self._care.sessions is None:
            return 0
        with connect_as_application(self._url) as connection:
            Columns(connection, self._care.sessions.source, "users.sessions")
            source = sql.Identifier(self._care.sessions.source)
            return connection.execute(sql.SQL("DELETE FROM {}").format(source)).rowcount

    def _of_user(self, connection: psycopg.Connection) -> sql.Composed:
        """Return the table of sessions with the condition that one is the user's."""
        care, sessions = self._care, self._care.sessions
        if sessions is None:
            raise ConfigurationError("The profile has no users.sessions.")
        users = Columns(connection, care.source, "users")
        theirs = Columns(connection, sessions.source, "users.sessions")
        return sql.SQL("{} WHERE {}::text IN (SELECT {}::text FROM {} WHERE {} = %s)").format(
            sql.Identifier(sessions.source),
            theirs.expression(sessions.user_field),
            users.expression(sessions.holds),
            sql.Identifier(care.source),
            users.expression(care.email_field),
        )

    def _read(
        self, connection: psycopg.Connection, columns: Columns, condition: sql.Composable, value: object
    ) -> tuple[Account, ...]:
        care = self._care
        if columns.types.get(care.active_field, "boolean") != "boolean":
            raise ConfigurationError(
                f"The column {care.active_field} of {care.source} is no boolean: correct users.active_field "
                "in the profile."
            )
        email, role, active, organization, created, last_login = (
            columns.expression(name)
            for name in (
                care.email_field,
                care.role_field,
                care.active_field,
                care.organization_field,
                care.created_field,
                care.last_login_field,
            )
        )
        query = sql.SQL(
            "SELECT {}, {}::text, {}, {}::text, {}::timestamptz, {}::timestamptz FROM {} WHERE {} ORDER BY 1"
        ).format(
            *(email, role, active, organization, created, last_login), sql.Identifier(care.source), condition
        )
        return tuple(self._tell(row) for row in connection.execute(query, [value]).fetchall())

    def _tell(self, row: Sequence[Any]) -> Account:
        email, role, active, organization, created, last_login = row
        return Account(
            email=str(email),
            role=role or "",
            # The application's own column may be empty, and an empty one lets nobody in.
            active=bool(active),
            is_admin=role in self._care.admin_roles,
            organization=organization,
            created=_aware(created),
            last_login=_aware(last_login),
        )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment is not None else None
