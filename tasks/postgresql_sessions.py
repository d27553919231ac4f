"""What goes on in a PostgreSQL server: who is connected, who waits for whom, what is kept open.

Of a query only its first word is shown, and only if it is one of SQL's: the rest holds values.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg

from tasks.errors import AccessDeniedError
from tasks.records.database_health import Blocked, ConnectionGroup, Session, Sessions

Connection = psycopg.Connection

_MOST_GROUPS = 20
_COMMANDS = re.compile(
    "ALTER|ANALYZE|BEGIN|CALL|CHECKPOINT|CLUSTER|COMMIT|COPY|CREATE|DECLARE|DELETE|DO|DROP|EXECUTE|EXPLAIN"
    "|FETCH|GRANT|INSERT|LISTEN|LOCK|MERGE|NOTIFY|PREPARE|REFRESH|REINDEX|RELEASE|RESET|REVOKE|ROLLBACK|SAVEPOINT"
    "|SELECT|SET|SHOW|START|TRUNCATE|UPDATE|VACUUM|VALUES|WITH"
)
# Without it the lines of another role are there, and all that matters in them is empty.
MAY_SEE_ROLE = """
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') OR pg_has_role(current_user, %s, 'USAGE')
"""
_MAY_SEE_OTHERS = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
# Who does not see others' sessions sees whose they are, but not of which type: the server's own have no user
# or no database.
IS_CLIENT = """
(backend_type = 'client backend' OR backend_type IS NULL AND usename IS NOT NULL AND datname IS NOT NULL)
"""
_GROUPS = f"""
SELECT coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, 'not shown'), count(*)
FROM pg_stat_activity WHERE {IS_CLIENT} AND pid <> pg_backend_pid()
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT %s
"""  # noqa: S608  nothing in it comes from outside
# Of another database only who holds up ours is told: a wait there is no trouble of this service.
_ACTIVITY = """
SELECT pid, usename, application_name, state, upper(substring(ltrim(query) from '^[A-Za-z]+')),
       extract(epoch FROM clock_timestamp() - state_change)::float8,
       extract(epoch FROM clock_timestamp() - xact_start)::float8,
       CASE WHEN wait_event_type = 'Lock' AND datname = current_database() THEN pg_blocking_pids(pid)
            ELSE '{}' END,
       backend_type = 'autovacuum worker'
FROM pg_stat_activity
WHERE backend_type IN ('client backend', 'autovacuum worker') AND pid <> pg_backend_pid()
"""
# ``waitstart`` is there since version 14.
_WAITING = """
SELECT pid, max(CASE WHEN database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     THEN relation::regclass::text END),
       max(extract(epoch FROM clock_timestamp() - (to_jsonb(l) ->> 'waitstart')::timestamptz))::float8
FROM pg_locks l WHERE NOT granted GROUP BY pid
"""
_PREPARED = """
SELECT gid, owner, database, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts ORDER BY prepared
"""
# No vacuum waits for another one, however long that takes.
_OLDEST = """
SELECT age, holder FROM (
    SELECT age(backend_xmin), 'session ' || pid FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
    UNION ALL SELECT age(xmin), 'replication slot ' || slot_name FROM pg_replication_slots
    WHERE xmin IS NOT NULL
    UNION ALL SELECT age(transaction), 'prepared transaction ' || gid FROM pg_prepared_xacts
) AS held (age, holder) ORDER BY age DESC LIMIT 1
"""


@dataclass(frozen=True)
class _Activity:
    """A line of ``pg_stat_activity``."""

    pid: int
    user: str | None
    application: str | None
    state: str | None
    command: str | None
    state_seconds: float | None
    transaction_seconds: float | None
    blockers: list[int]
    is_autovacuum: bool

    def as_session(self, seconds: float | None) -> Session:
        """Return it without its values."""
        known = self.command is not None and _COMMANDS.fullmatch(self.command)
        command = self.command if known else "a command"
        idle = (self.state or "").startswith("idle")
        return Session(
            identity=f"session {self.pid}",
            who=", ".join(filter(None, [self.user, self.application])) or "the server itself",
            doing=f"{self.state} after {command}" if idle else command,
            seconds=max(0.0, seconds or 0.0),
        )


def require_monitor(connection: Connection) -> None:
    """Raise ``AccessDeniedError`` if this user sees of other users' sessions only that they are there."""
    if connection.execute(_MAY_SEE_OTHERS).fetchone() != (True,):
        raise AccessDeniedError("PostgreSQL does not show this user what others do")


def list_groups(connection: Connection) -> tuple[ConnectionGroup, ...]:
    """Return the connections by user, application and state, the largest group first."""
    rows = connection.execute(_GROUPS.encode(), [_MOST_GROUPS])
    return tuple(
        ConnectionGroup(user=user, application=application, state=state, number=number)
        for user, application, state, number in rows
    )


def list_sessions(connection: Connection) -> Sessions:
    """Return who of this database waits for whom, and what is kept open on the server.

    Raise ``AccessDeniedError`` if that is hidden.
    """
    require_monitor(connection)
    activity = {row[0]: _Activity(*row) for row in connection.execute(_ACTIVITY)}
    waiting = {pid: (relation, seconds) for pid, relation, seconds in connection.execute(_WAITING)}
    oldest = connection.execute(_OLDEST).fetchone() or (0, "")
    idle = [found for found in activity.values() if (found.state or "").startswith("idle in transaction")]
    # Autovacuum may take a day, and whoever ends it lets it begin anew.
    in_transaction = [
        found
        for found in activity.values()
        if found.transaction_seconds is not None and not found.is_autovacuum
    ]
    return Sessions(
        blocked=tuple(
            _describe_wait(found, activity, *waiting.get(found.pid, (None, None)))
            for found in activity.values()
            if found.blockers
        ),
        idle_in_transaction=_longest_first(found.as_session(found.state_seconds) for found in idle),
        working=_longest_first(found.as_session(found.transaction_seconds) for found in in_transaction),
        prepared=tuple(
            Session(
                identity=f"prepared transaction {gid}", who=owner, doing=f"in {database}", seconds=seconds
            )
            for gid, owner, database, seconds in connection.execute(_PREPARED)
        ),
        oldest_snapshot=oldest[0],
        oldest_snapshot_holder=oldest[1],
    )


def _describe_wait(
    found: _Activity, activity: Mapping[int, _Activity], relation: str | None, seconds: float | None
) -> Blocked:
    return Blocked(
        session=found.as_session(found.state_seconds if seconds is None else seconds),
        waits_for=f"a lock on {relation}" if relation else "a row's lock",
        by=tuple(_name_blocker(pid, activity) for pid in dict.fromkeys(found.blockers)),
    )


def _name_blocker(pid: int, activity: Mapping[int, _Activity]) -> Session:
    if pid in activity:
        return activity[pid].as_session(activity[pid].transaction_seconds)
    # PostgreSQL's own number for a transaction that was prepared and belongs to no session.
    who = "a prepared transaction" if pid == 0 else "a session that has ended since"
    return Session(identity=f"session {pid}", who=who, doing="holds the lock", seconds=0)


def _longest_first(sessions: Iterable[Session]) -> tuple[Session, ...]:
    return tuple(sorted(sessions, key=lambda session: -session.seconds))
