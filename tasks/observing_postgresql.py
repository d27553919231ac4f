"""The application's PostgreSQL database in an outage: which of all that can be wrong with it is."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import psycopg

from tasks.credentials import resolve
from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError
from tasks.observing_clocks import compare_clock
from tasks.postgresql import Address, Parameters, dial, parse_url
from tasks.postgresql_health import count_connections
from tasks.postgresql_limits import Limits, limited
from tasks.postgresql_refusals import judge_refusal
from tasks.postgresql_sessions import list_sessions
from tasks.reaching import Place, in_background, reach, wait_for
from tasks.records.database_health import Blocked, Connections, Session, Sessions
from tasks.records.evidence import DatabaseFacts
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

View = tuple[Connections | Unknown, Sessions | Unknown]

_REACH_SECONDS = 1.0
# The least that psycopg knows; it counts them for each host anew.
_CONNECT_SECONDS = 2
_MOST_HOSTS = 2
_STATEMENT_SECONDS = 1.0
_LOCK_SECONDS = 0.8
# A read that takes longer is waiting: now is the time to look whom it waits for.
_MOMENT_SECONDS = 0.2
_ENDING_SECONDS = 0.2

_OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg!_t%' ESCAPE '!'"
_IS_EMPTY = f"""
SELECT clock_timestamp(), NOT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'm', 'v') AND {_OURS})
"""  # noqa: S608  nothing in it comes from outside
# One that somebody has locked or waits to lock comes first: new readers queue behind both.
_ONE_TABLE = f"""
SELECT format('%I.%I', n.nspname, c.relname), pg_backend_pid()
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_locks l ON l.relation = c.oid AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE c.relkind IN ('r', 'p') AND {_OURS}
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY l.pid IS NULL, 1 LIMIT 1
"""  # noqa: S608  likewise


def observe_by_postgresql(profile: ServiceProfile, url: str, seconds: float) -> DatabaseFacts:
    """Given the application's URL, return how its database is, within so many seconds."""
    deadline = time.monotonic() + seconds
    try:
        address = parse_url(url)
    except ConfigurationError as error:
        where = f"the URL in {profile.database.url_variable}"
        return DatabaseFacts(
            kind="postgresql", where=where, state="malformed url", seconds=0, problem=str(error)
        )
    may_look = threading.Event()
    looking = in_background(lambda: _look_as_administrator(profile, address.database, may_look, deadline))
    try:
        facts = _observe_as_application(address, may_look, deadline)
    finally:
        may_look.set()
    late = Unknown(why="the server did not answer the administrator in time")
    connections, sessions = wait_for(looking, deadline - time.monotonic(), (late, late))
    return facts.model_copy(
        update={
            "connections": facts.connections if isinstance(connections, Unknown) else connections,
            "sessions": _merge(facts.sessions, sessions),
        }
    )


def _merge(own: Sessions | Unknown, seen: Sessions | Unknown) -> Sessions | Unknown:
    """Return what the administrator saw, and else what the application noticed itself."""
    if isinstance(seen, Unknown) or isinstance(own, Unknown):
        return own if isinstance(seen, Unknown) else seen
    # The administrator sees this observation's own wait when it has just begun, and whom it waits for.
    in_vain = {wait.session.identity for wait in own.blocked if wait.lasts}
    blocked = tuple(
        wait.model_copy(update={"lasts": wait.session.identity in in_vain}) for wait in seen.blocked
    )
    return seen.model_copy(update={"blocked": blocked or own.blocked})


def _narrow(address: Address) -> tuple[Address, DatabaseFacts | None]:
    """Return the address with those of its hosts that accept a connection, or the facts if none does."""
    values = address.parameters.values
    hosts, ports = values.get("host", "").split(","), values.get("port", "5432").split(",")
    if not all(hosts) or any(host.startswith("/") for host in hosts) or "hostaddr" in values:
        # A socket of this host, or already numeric: nothing to resolve, and the driver's own error is exact.
        return address, None
    # One port for all of several hosts is given once.
    together = zip(hosts, ports if len(ports) == len(hosts) else ports * len(hosts), strict=True)
    reached = reach([Place(host, int(port or 5432)) for host, port in together], _REACH_SECONDS)
    if reached.failure is not None:
        state, problem = reached.failure, f"{address}: {reached.problem}"
        return address, DatabaseFacts(
            kind="postgresql", where=str(address), state=state, seconds=0, problem=problem
        )
    found = reached.listening[:_MOST_HOSTS]
    places = {
        "host": ",".join(place.host for place, _ in found),
        "hostaddr": ",".join(numeric for _, numeric in found),
        "port": ",".join(str(place.port) for place, _ in found),
    }
    return replace(address, parameters=Parameters({**values, **places})), None


def _observe_as_application(address: Address, may_look: threading.Event, deadline: float) -> DatabaseFacts:
    narrowed, facts = _narrow(address)
    if facts is not None:
        return facts
    try:
        with dial(narrowed, _CONNECT_SECONDS, autocommit=False) as connection:
            return _ask(connection, str(address), may_look, deadline)
    except psycopg.Error as error:
        state, problem = judge_refusal(str(address), error)
        return DatabaseFacts(kind="postgresql", where=str(address), state=state, seconds=0, problem=problem)


def _ask(
    connection: psycopg.Connection, where: str, may_look: threading.Event, deadline: float
) -> DatabaseFacts:
    """Ask for the time and for a row, as the application does: in one transaction, for the pooler's sake."""
    limits = Limits(_STATEMENT_SECONDS, _LOCK_SECONDS, _remaining(deadline), of_transaction=True)
    with limited(connection, limits):
        began, started = datetime.now(UTC), time.monotonic()
        ((now, is_empty),) = connection.execute(_IS_EMPTY.encode())
        took = time.monotonic() - started
        facts = DatabaseFacts(
            kind="postgresql",
            where=where,
            state="answers",
            seconds=0,
            is_empty=is_empty,
            clock=compare_clock("the database", now, began, took),
            connections=count_connections(connection),
            sessions=_list_sessions(connection),
        )
        table, pid = connection.execute(_ONE_TABLE.encode()).fetchone() or (None, None)
        return facts if table is None else _read_a_row(connection, table, pid, facts, may_look)


def _read_a_row(
    connection: psycopg.Connection, table: str, pid: int, facts: DatabaseFacts, may_look: threading.Event
) -> DatabaseFacts:
    waiting = threading.Timer(_MOMENT_SECONDS, may_look.set)
    waiting.start()
    try:
        # The server quoted the name.
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1".encode())  # noqa: S608
    except psycopg.errors.LockNotAvailable:
        own = Sessions() if isinstance(facts.sessions, Unknown) else facts.sessions
        blocked = (*own.blocked, _say_waiting(table, pid))
        return facts.model_copy(update={"sessions": own.model_copy(update={"blocked": blocked})})
    except psycopg.errors.QueryCanceled:
        problem = f"{facts.where} answers, but to read one row of {table} takes longer than a second."
        return facts.model_copy(update={"state": "does not answer", "problem": problem})
    finally:
        waiting.cancel()
    return facts


def _list_sessions(connection: psycopg.Connection) -> Sessions | Unknown:
    try:
        return list_sessions(connection)
    except AccessDeniedError as error:
        return Unknown(why=f"{error}: give the user of database.admin_url the role pg_monitor")


def _unknown(why: str) -> View:
    unknown = Unknown(why=why.removesuffix("."))
    return unknown, unknown


def _remaining(deadline: float) -> float:
    """Return how long is left, less what it takes to end."""
    return max(0.1, deadline - time.monotonic() - _ENDING_SECONDS)


def _say_waiting(table: str, pid: int) -> Blocked:
    session = Session(
        identity=f"session {pid}", who="this observation's own", doing="SELECT", seconds=_LOCK_SECONDS
    )
    return Blocked(session=session, waits_for=f"a lock on {table}", lasts=True)


def _look_as_administrator(
    profile: ServiceProfile, database: str, may_look: threading.Event, deadline: float
) -> View:
    """Return connections and sessions as the user of ``database.admin_url`` sees them, or why it does not."""
    try:
        address, facts = _narrow(parse_url(resolve(profile.database.admin_url), database))
    except RunbookError as error:
        return _unknown(str(error))
    if facts is not None:
        return _unknown(str(facts.problem))
    try:
        with dial(address, _CONNECT_SECONDS, autocommit=True) as connection:
            limits = Limits(_STATEMENT_SECONDS, _LOCK_SECONDS, _remaining(deadline))
            with limited(connection, limits):
                connections = count_connections(connection)
                may_look.wait(_remaining(deadline))
                return connections, _list_sessions(connection)
    except psycopg.Error as error:
        return _unknown(judge_refusal(str(address), error)[1])
