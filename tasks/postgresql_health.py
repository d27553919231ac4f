"""How a PostgreSQL database is: each figure asked for by itself, within a time limit of its own."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import psutil
import psycopg

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import AccessDeniedError, RunbookError, SourceError
from tasks.postgresql import Address, connect, parse_url
from tasks.postgresql_limits import Limits, limited
from tasks.postgresql_sessions import IS_CLIENT, list_groups, list_sessions, require_monitor
from tasks.records.database_health import (
    CacheReads,
    Connections,
    DatabaseHealth,
    Disk,
    RelationSize,
    Replica,
    Replication,
    ReplicationSlot,
    Troubles,
)
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

T = TypeVar("T")
Connection = psycopg.Connection

_SECONDS = 10
# Even to ask for a table's size one queues behind whoever waits to alter it.
_LOCK_SECONDS = 1
# A server that does not even say that the time is over.
_SILENT_SECONDS = 5
_SAME_MOMENT_SECONDS = 5
_FOLLOWING = {"streaming", "catchup"}

_RELATIONS = """
SELECT CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END,
       -- NULL of a table that is being dropped.
       coalesce(pg_table_size(c.oid), 0), coalesce(pg_indexes_size(c.oid), 0),
       CASE WHEN c.reltuples < 0 THEN NULLIF(pg_stat_get_live_tuples(c.oid), 0) ELSE c.reltuples END::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
"""
_LIMIT = f"""
SELECT (SELECT count(*) FROM pg_stat_activity WHERE {IS_CLIENT}),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int
"""  # noqa: S608  nothing in it comes from outside
_HERE = """
SELECT current_setting('data_directory'), pg_backend_pid(), extract(epoch FROM backend_start)::float8
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_WRITTEN = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
_REPLICAS = f"""
SELECT coalesce(nullif(application_name, ''), client_addr::text, 'a replica'), state,
       CASE WHEN replay_lsn >= {_WRITTEN} THEN 0 ELSE extract(epoch FROM replay_lag) END::float8
FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY 1
"""  # noqa: S608  likewise
_SLOTS = f"""
SELECT slot_name, active, greatest(coalesce(pg_wal_lsn_diff({_WRITTEN}, restart_lsn), 0), 0)::bigint,
       coalesce(to_jsonb(s) ->> 'wal_status' = 'lost', false)
FROM pg_replication_slots s ORDER BY 1
"""  # noqa: S608  likewise
_COUNTED = """
SELECT blks_hit + blks_read, blks_read, deadlocks, temp_bytes
FROM pg_stat_database WHERE datname = current_database()
"""


@retried
def observe_postgresql(profile: ServiceProfile, now: datetime) -> DatabaseHealth:
    """Given a service, return how its database is; what cannot be observed says why.

    Raise ``UnreachableError`` if the server does not answer at all, and ``AccessDeniedError`` if it refuses
    the user of ``database.admin_url``.
    """
    database = parse_url(read_variable(profile, profile.database.url_variable)).database
    address = parse_url(resolve(profile.database.admin_url), database)
    with _open(address) as connection:
        connection.execute("SELECT 1")
    return DatabaseHealth(
        kind="postgresql",
        database=database,
        at=now,
        total_bytes=_observe(address, _measure_database),
        relations=_observe(address, _measure_tables),
        disk=_observe(address, _measure_disk),
        connections=_observe(address, count_connections),
        sessions=_observe(address, list_sessions),
        replication=_observe(address, _list_replicas),
        cache=_observe(address, _count_reads),
        troubles=_observe(address, _count_troubles),
    )


def _observe(address: Address, look: Callable[[Connection], T]) -> T | Unknown:
    """Return what is seen, or why nothing is; by a connection of its own, so that none holds up another."""
    try:
        with _open(address) as connection:
            return look(connection)
    except AccessDeniedError as error:
        return Unknown(
            why=f"{str(error).removesuffix('.')}: give the user of database.admin_url the role pg_monitor."
        )
    except RunbookError as error:
        return Unknown(why=str(error))


@contextmanager
def _open(address: Address) -> Generator[Connection]:
    limits = Limits(statement=_SECONDS, lock=_LOCK_SECONDS, silence=_SECONDS + _SILENT_SECONDS)
    with connect(address) as connection, limited(connection, limits):
        yield connection


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query.encode()).fetchone()
    if row is None:
        raise SourceError("The server's statistics have no line for this.")
    return row


def _measure_database(connection: Connection) -> int:
    return int(_one(connection, "SELECT pg_database_size(current_database())")[0])


def _measure_tables(connection: Connection) -> tuple[RelationSize, ...]:
    found = (
        RelationSize(name=name, data_bytes=data, index_bytes=indexes, entries=entries)
        for name, data, indexes, entries in connection.execute(_RELATIONS.encode())
    )
    return tuple(sorted(found, key=lambda size: (-size.total_bytes, size.name)))


def _measure_disk(connection: Connection) -> Disk:
    """SQL does not know the disk: the data directory's is asked, where it is this host's."""
    folder, process, started = _one(connection, _HERE)
    if not _is_here(process, started):
        raise SourceError(
            "The server is not on this host, and SQL does not say how large its disk is: run this report's "
            "worker there, or look at the disk on that host."
        )
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise SourceError(
            f"The worker cannot look at the data directory {folder} ({error.strerror}): let its user search "
            "the folders above it."
        ) from None
    size = found.f_frsize
    # What only root may still use is as good as used.
    used = (found.f_blocks - found.f_bfree) * size
    free = found.f_bavail * size
    return Disk(total_bytes=used + free, free_bytes=free)


def _is_here(process: int, started: float) -> bool:
    """Whether the server's process for our connection is one of this host: same number, same start."""
    try:
        found = psutil.Process(process)
        return abs(found.create_time() - started) < _SAME_MOMENT_SECONDS
    except psutil.Error:
        return False


def count_connections(connection: Connection) -> Connections:
    """Return how many clients are connected and may be, by user, application and state."""
    current, limit = _one(connection, _LIMIT)
    return Connections(current=current, limit=limit, groups=list_groups(connection))


def _list_replicas(connection: Connection) -> Replication:
    require_monitor(connection)
    return Replication(
        replicas=tuple(
            Replica(name=name, state=state, healthy=state in _FOLLOWING, lag_seconds=lag)
            for name, state, lag in connection.execute(_REPLICAS.encode())
        ),
        slots=tuple(
            ReplicationSlot(name=name, active=active, held_bytes=held, lost=lost)
            for name, active, held, lost in connection.execute(_SLOTS.encode())
        ),
    )


def _count_reads(connection: Connection) -> CacheReads:
    wanted, from_disk, *_ = _one(connection, _COUNTED)
    return CacheReads(wanted=wanted, from_disk=from_disk)


def _count_troubles(connection: Connection) -> Troubles:
    *_, deadlocks, size = _one(connection, _COUNTED)
    return Troubles(deadlocks=deadlocks, temporary_bytes=size)
