"""Causes in what goes on in the database: no connection is left, or somebody keeps a lock."""

from flows.decisions.diagnosis_database import FOLLOWS, say_answer
from flows.decisions.diagnosis_reading import Finding, Rule, known, say_health, suffers
from tasks.records.database_health import Blocked, Connections, Sessions
from tasks.records.evidence import Evidence
from tasks.records.figures import say_count, say_duration
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

# Shorter waits come and go in every database: two that change one row.
_SHORTEST_WAIT_SECONDS = 2.0
# One like this, and somebody waits in front of a screen.
_LONG_WAIT_SECONDS = 30.0


def read_exhausted(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is there no connection left?"""
    database = known(evidence.database)
    if database is None:
        return None
    connections, sessions = known(database.connections), known(database.sessions)
    full = connections is not None and connections.limit is not None and _is_full(connections)
    if database.state != "has no connection left" and not full:
        return None
    taken = (_say_taken(connections),) if connections is not None else ()
    said = say_answer(database, evidence, profile) if database.state != "answers" else ()
    return Finding(
        f"{database.where} has no connection left.",
        (*said, *taken),
        certainty="proven" if said else "likely",
        target=_name_idle(sessions),
        hurts=bool(said),
    )


def read_locked(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Do sessions wait for a lock that somebody does not give back?"""
    database = known(evidence.database)
    sessions = known(database.sessions) if database is not None else None
    waits = sessions.blocked if sessions is not None else ()
    blocked = [wait for wait in waits if wait.lasts or wait.session.seconds >= _SHORTEST_WAIT_SECONDS]
    if database is None or not blocked:
        return None
    longest = max(wait.session.seconds for wait in blocked)
    holders = {one.identity: one for wait in blocked for one in wait.by}
    waiting = {wait.session.identity for wait in blocked}
    roots = [one for identity, one in sorted(holders.items()) if identity not in waiting]
    who = ", ".join(f"{one.identity} ({one.who}, {one.doing})" for one in roots)
    return Finding(
        f"{database.where} is locked by {who or 'a session that the server does not name'}.",
        (*(_say_wait(wait) for wait in blocked[:3]), say_health(evidence)),
        certainty="proven" if suffers(evidence, profile) and roots else "likely",
        target=", ".join(one.identity for one in roots),
        hurts=longest >= _LONG_WAIT_SECONDS,
    )


def _is_full(connections: Connections) -> bool:
    return connections.limit is not None and connections.current >= connections.limit


def _say_taken(connections: Connections) -> str:
    limit = f" of {connections.limit}" if connections.limit is not None else ""
    largest = max(connections.groups, key=lambda group: (group.number, group.user, group.state), default=None)
    most = (
        f", {largest.number} of them {largest.user} ({largest.application}, {largest.state})"
        if largest is not None
        else ""
    )
    return f"{say_count(connections.current, 'connection')}{limit} are taken{most}."


def _name_idle(sessions: Sessions | Unknown | None) -> str:
    found = known(sessions)
    return ", ".join(one.identity for one in found.idle_in_transaction) if found is not None else ""


def _say_wait(wait: Blocked) -> str:
    by = ", ".join(f"{one.identity} ({one.who}, {one.doing})" for one in wait.by)
    held = f", held by {by}" if by else ""
    session = wait.session
    return (
        f"{session.identity.capitalize()} ({session.who}, {session.doing}) has waited "
        f"{say_duration(session.seconds)} for {wait.waits_for}{held}."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "database connections exhausted",
        "I15",
        "database",
        read_exhausted,
        proof="the server answers that it has no connection left",
        advice="See who holds them in database-report, end what is stuck, then lower that pool.",
        remedy="reset-connections",
        explains=FOLLOWS,
    ),
    Rule(
        "database locked",
        "I15",
        "database",
        read_locked,
        proof="sessions of this database wait for a lock for seconds, and the server says who holds it",
        advice="Let the session that holds the lock end its transaction, or end that session.",
        remedy="reset-connections",
        explains=FOLLOWS,
    ),
)
