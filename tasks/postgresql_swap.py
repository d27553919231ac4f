"""Let a restored PostgreSQL database take the real one's place, and give the place back.

Names are all that changes hands, in one transaction, so there are always exactly the old databases or exactly
the new ones. Which database is which, after a kill too, its oid says: it stays through a rename.
"""

from collections.abc import Iterable, Sequence

import psycopg
from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import sql

from tasks.credentials import resolve
from tasks.errors import RefusedError
from tasks.journal import Journal
from tasks.postgresql import connect_away_from
from tasks.records.section import Reference

SETTING_ASIDE, MOVED_IN = "setting-aside", "moved-in"
MOVING_OUT, PUT_BACK = "moving-out", "put-back"
_ATTEMPTS = 3


@task(cache_policy=NO_CACHE, persist_result=False)
def swap_in(admin_url: Reference, real: str, beside: str, aside: str, journal: Journal) -> None:
    """Given a restored database, let it take the real one's name, and the real one the name ``aside``.

    The application is stopped. Done again after a kill, it finishes; what it could not finish, ``swap_back``
    undoes. Where there is no real database, none is set aside. Raise ``RefusedError`` if there is nothing to
    move in, if ``aside`` is taken, or if sessions do not go away.
    """
    with connect_away_from(resolve(admin_url), {real, beside, aside}) as connection:
        found = _find(connection, real, beside, aside)
        if beside in found:
            if real in found and aside in found:
                raise RefusedError(
                    f"There is a database {aside} already: somebody set one aside before. See what it is and "
                    "drop or rename it."
                )
            journal.write(SETTING_ASIDE, new=found[beside], old=found.get(real))
            moves = [(real, aside)] if real in found else []
            _rename(connection, [*moves, (beside, real)])
        elif _is_moved_in(journal, found.get(real)):
            # A way back that was killed left the doors closed.
            _allow_connections(connection, found, allowed=True)
        else:
            raise RefusedError(
                f"There is no database {beside} to take the place of {real}: restore it again."
            )
        journal.write(MOVED_IN)


@task(cache_policy=NO_CACHE, persist_result=False)
def swap_back(admin_url: Reference, real: str, beside: str, aside: str, journal: Journal) -> None:
    """Given wherever ``swap_in`` got to, give the real database its name back, and let it take connections.

    The application is stopped. If there was no real database before, there is none after. Raise
    ``RefusedError`` if the one that was set aside is gone, or if sessions do not go away.
    """
    with connect_away_from(resolve(admin_url), {real, beside, aside}) as connection:
        found = _find(connection, real, beside, aside)
        journal.write(MOVING_OUT)
        if _is_moved_in(journal, found.get(real)):
            old = _began_with(journal, "old")
            if old is not None and old != found.get(aside):
                raise RefusedError(
                    f"The database that was set aside as {aside} is not there any more: what is in {real} is "
                    "the restored one; nothing was changed."
                )
            _rename(connection, [(real, beside), *([(aside, real)] if old is not None else [])])
        else:
            _allow_connections(connection, found, allowed=True)
        journal.write(PUT_BACK)


def _find(connection: psycopg.Connection, *names: str) -> dict[str, int]:
    query = "SELECT datname, oid::bigint FROM pg_database WHERE datname = ANY(%s)"
    return {str(name): int(oid) for name, oid in connection.execute(query, (list(names),)).fetchall()}


def _is_moved_in(journal: Journal, oid: int | None) -> bool:
    return oid is not None and oid == _began_with(journal, "new")


def _began_with(journal: Journal, which: str) -> int | None:
    entry = journal.find(SETTING_ASIDE)
    return entry.facts[which] if entry else None


def _rename(connection: psycopg.Connection, moves: Sequence[tuple[str, str]]) -> None:
    before, after = [old for old, _ in moves], [new for _, new in moves]
    _allow_connections(connection, before, allowed=False)
    for _ in range(_ATTEMPTS):
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
            (before,),
        )
        try:
            with connection.transaction():
                for old, new in moves:
                    query = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                    connection.execute(query.format(sql.Identifier(old), sql.Identifier(new)))
                _allow_connections(connection, after, allowed=True)
        except psycopg.errors.ObjectInUse:
            # Somebody was just let in when the door closed, or is slow to leave.
            continue
        return
    raise RefusedError(
        f"Sessions of {' or '.join(before)} do not go away: see pg_stat_activity and pg_prepared_xacts, end "
        "them, and start again."
    )


def _allow_connections(connection: psycopg.Connection, databases: Iterable[str], *, allowed: bool) -> None:
    for database in databases:
        query = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(query.format(sql.Identifier(database), sql.Literal(allowed)))
