"""The application's sessions in PostgreSQL, and the end of one of them."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import psycopg

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import AccessDeniedError, RunbookError
from tasks.postgresql import Address, connect, parse_url
from tasks.postgresql_limits import Limits, limited
from tasks.postgresql_sessions import MAY_SEE_ROLE
from tasks.records.service import ServiceProfile
from tasks.records.stuck_sessions import (
    ApplicationSession,
    Blocker,
    DatabaseSessions,
    Ending,
    SessionIdentity,
)

T = TypeVar("T")
Connection = psycopg.Connection

_LIMITS = Limits(statement=5, lock=1, silence=8)
_GONE_SECONDS = 5.0
_POLL_SECONDS = 0.05
# Ours, and the programs that back up and restore.
_LEFT_ALONE = re.compile("runbooks|pg_(dump|dumpall|restore|basebackup|receivewal|recvlogical)")

# ``waitstart`` is there since version 14.
_SESSIONS = """
SELECT pid, backend_start, coalesce(usename, ''), datname IS NOT DISTINCT FROM current_database(),
       coalesce(application_name, ''), coalesce(client_addr::text || ':' || client_port, ''),
       coalesce(state, 'not shown'),
       extract(epoch FROM clock_timestamp() - state_change)::float8,
       CASE WHEN wait_event_type = 'Lock' THEN extract(epoch FROM clock_timestamp() - coalesce(
           (SELECT min((to_jsonb(l) ->> 'waitstart')::timestamptz) FROM pg_locks l
            WHERE l.pid = a.pid AND NOT l.granted), state_change))::float8 END,
       CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END,
       coalesce(query, '')
FROM pg_stat_activity a WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid
"""
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = %s AND backend_start = %s AND usename = %s AND datname = current_database()
  AND pid <> pg_backend_pid()
"""
_IS_THERE = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s AND backend_start = %s)"


class PostgresqlTermination:
    """The sessions of the application's user in the application's database."""

    def __init__(self, profile: ServiceProfile) -> None:
        """Given a service, read its URL; raise ``ConfigurationError`` if there is none."""
        self._profile = profile
        self._own = parse_url(read_variable(profile, profile.database.url_variable))

    def observe(self) -> DatabaseSessions:
        """Return the application's sessions, and who keeps whom waiting."""
        return self._ask(self._list)

    def terminate(self, identity: SessionIdentity) -> Ending:
        """End exactly this session, and return when it is gone or does not go."""
        return self._ask(lambda connection: self._end(connection, identity))

    def _ask(self, act: Callable[[Connection], T]) -> T:
        """Do it as the administrator, or as the application's own user where that does not work."""
        try:
            admin = parse_url(resolve(self._profile.database.admin_url), self._own.database)
            return self._ask_at(admin, act)
        except RunbookError as refused:
            try:
                return self._ask_at(self._own, act)
            except RunbookError:
                raise refused from None

    def _ask_at(self, address: Address, act: Callable[[Connection], T]) -> T:
        with connect(address) as connection, limited(connection, _LIMITS):
            if connection.execute(MAY_SEE_ROLE, [self._own.user]).fetchone() != (True,):
                raise AccessDeniedError(
                    f"{address} does not show this user what the application does: give the user of "
                    "database.admin_url the roles pg_read_all_stats and pg_signal_backend."
                )
            return act(connection)

    def _list(self, connection: Connection) -> DatabaseSessions:
        at = connection.execute("SELECT clock_timestamp()").fetchone()
        lines = [_Line(*row) for row in connection.execute(_SESSIONS)]
        return DatabaseSessions(
            at=at[0] if at is not None else datetime.now(UTC),
            where=str(self._own),
            sessions=tuple(line.as_session() for line in lines if self._is_ours(line)),
            blockers=_list_blockers(lines),
        )

    def _is_ours(self, line: "_Line") -> bool:
        same = line.user == self._own.user and line.same_database
        return same and _LEFT_ALONE.fullmatch(line.application) is None

    def _end(self, connection: Connection, identity: SessionIdentity) -> Ending:
        exactly = [int(identity.number), identity.since]
        sent = connection.execute(_TERMINATE, [*exactly, self._own.user]).fetchone()
        if sent is None:
            return "over"
        deadline = time.monotonic() + _GONE_SECONDS
        while connection.execute(_IS_THERE, exactly).fetchone() == (True,):
            if time.monotonic() > deadline:
                return "left"
            time.sleep(_POLL_SECONDS)
        return "gone"


@dataclass(frozen=True)
class _Line:
    """A line of ``pg_stat_activity``."""

    pid: int
    opened: datetime
    user: str
    same_database: bool
    application: str
    client: str
    state: str
    seconds: float | None
    waiting: float | None
    blockers: list[int]
    query: str = field(repr=False)

    @property
    def who(self) -> str:
        return ", ".join(filter(None, [self.user, self.application]))

    def as_session(self) -> ApplicationSession:
        return ApplicationSession(
            identity=SessionIdentity(
                kind="session", number=str(self.pid), since=self.opened, client=self.client
            ),
            who=self.who,
            state=self.state,
            seconds=max(0.0, self.seconds or 0.0),
            waiting_seconds=self.waiting,
            blocked_by=tuple(str(pid) for pid in dict.fromkeys(self.blockers)),
            statement=self.query,
        )


def _list_blockers(lines: Sequence[_Line]) -> tuple[Blocker, ...]:
    """Return for whom others wait; one that is in no line is a prepared transaction, or the server itself."""
    known = {line.pid: line.who for line in lines}
    longest: dict[int, float] = {}
    for line in lines:
        for pid in line.blockers:
            longest[pid] = max(longest.get(pid, 0.0), line.waiting or 0.0)
    return tuple(
        Blocker(number=str(pid), who=known.get(pid, "no client's session"), longest_wait=seconds)
        for pid, seconds in sorted(longest.items())
    )
