"""How a MongoDB database is: each figure asked for by itself, within a time limit of its own."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import pymongo

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import AccessDeniedError, RunbookError, SourceError
from tasks.mongodb import Client, connect, database_of, translated
from tasks.mongodb_index_listing import list_collections
from tasks.mongodb_replication import list_delays, read_replica_set
from tasks.records.database_health import (
    Blocked,
    CacheReads,
    Connections,
    DatabaseHealth,
    Disk,
    RelationSize,
    Replication,
    Session,
    Sessions,
)
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

T = TypeVar("T")
Document = Mapping[str, Any]

_SECONDS = 10
# Each of them is asked for by itself.
_SIZES_SECONDS = 60
_NOT_REPLICATED = re.compile(r"not running with --replSet|no replset config", re.IGNORECASE)
_COMMAND = re.compile(r"[A-Za-z_]{1,40}")
# What drivers leave open on purpose, and what has to take its time.
_STANDING = {"hello", "ismaster", "isMaster", "none", "createIndexes"}


@retried
def observe_mongodb(profile: ServiceProfile, now: datetime) -> DatabaseHealth:
    """Given a service, return how its database is; what cannot be observed says why.

    Raise ``UnreachableError`` if the server does not answer at all, and ``AccessDeniedError`` if it refuses
    the user of ``database.admin_url``.
    """
    database = database_of(read_variable(profile, profile.database.url_variable))
    with connect(resolve(profile.database.admin_url)) as client:
        return DatabaseHealth(
            kind="mongodb",
            database=database,
            at=now,
            total_bytes=_observe(lambda: _measure_database(client, database)),
            relations=_observe(lambda: _measure_collections(client, database), _SIZES_SECONDS),
            disk=_observe(lambda: read_disk(client[database].command("dbStats"))),
            connections=_observe(lambda: read_connections(client.admin.command("serverStatus"))),
            sessions=_observe(lambda: list_sessions(client, database)),
            replication=_observe(lambda: _list_replicas(client)),
            cache=_observe(lambda: read_cache(client.admin.command("serverStatus"))),
        )


def _observe(look: Callable[[], T], seconds: float = _SECONDS) -> T | Unknown:
    """Return what is seen, or why nothing is."""
    try:
        with translated("MongoDB"), pymongo.timeout(seconds):
            return look()
    except AccessDeniedError as error:
        return Unknown(
            why=f"{str(error).removesuffix('.')}: give the user of database.admin_url the role "
            "clusterMonitor, and read on the database."
        )
    except RunbookError as error:
        return Unknown(why=str(error))


def _measure_database(client: Client, database: str) -> int:
    stats = client[database].command("dbStats")
    return int(stats["storageSize"] + stats["indexSize"])


def _measure_collections(client: Client, database: str) -> tuple[RelationSize, ...]:
    found = []
    for name in list_collections(client[database]):
        stats = client[database].command("collStats", name)
        found.append(
            RelationSize(
                name=name,
                data_bytes=int(stats["storageSize"]),
                index_bytes=int(stats["totalIndexSize"]),
                # A time series counts its buckets only.
                entries=int(stats["count"]) if "count" in stats else None,
            )
        )
    return tuple(sorted(found, key=lambda size: (-size.total_bytes, size.name)))


def read_disk(stats: Document) -> Disk:
    """Given what ``dbStats`` answers, return the server's disk; raise ``SourceError`` if it is not in it."""
    if "fsTotalSize" not in stats:
        raise SourceError("This server does not say how large its disk is: look at it on the server's host.")
    total, used = int(stats["fsTotalSize"]), int(stats["fsUsedSize"])
    return Disk(total_bytes=total, free_bytes=total - used)


def read_connections(status: Document) -> Connections:
    """Given what ``serverStatus`` answers, return how many are connected and may be."""
    said = status["connections"]
    # A server that keeps count says how many are active; of one that does not, none available is no figure.
    counts = "active" in said or said["available"]
    return Connections(
        current=int(said["current"]), limit=int(said["current"] + said["available"]) if counts else None
    )


def list_sessions(client: Client, database: str, *, own: bool = False) -> Sessions:
    """Return what goes on, of all users or only of this one: that needs no role."""
    query = {"active": True, "$or": [{"secs_running": {"$gte": 1}}, {"waitingForLock": True}]}
    answer = client.admin.command({"currentOp": 1, **({"$ownOps": True} if own else {}), **query})
    return read_sessions(answer, database)


def read_sessions(answer: Document, database: str) -> Sessions:
    """Given what ``currentOp`` answers, return who waits in this database, and who works on the server."""
    running = [(op, session) for op in answer["inprog"] for session in read_operation(op)]
    waiting = [
        Blocked(session=session, waits_for="a lock")
        for op, session in running
        if op.get("waitingForLock") and str(op.get("ns", "")).partition(".")[0] == database
    ]
    if answer.get("fsyncLock"):
        writes = Session(identity="every write", who="everybody", doing="waits", seconds=0)
        waiting.append(Blocked(session=writes, waits_for="db.fsyncUnlock()", lasts=True))
    return Sessions(
        blocked=tuple(waiting),
        working=tuple(sorted((session for _, session in running), key=lambda session: -session.seconds)),
    )


def read_operation(op: Document) -> Iterator[Session]:
    """Given what ``currentOp`` says of an operation, yield it, if a client waits for it; never its values."""
    command = next(iter(op.get("command") or ()), "")
    name = command if op.get("op") in {"command", None} else str(op["op"])
    namespace = str(op.get("ns", ""))
    seconds = float(op.get("secs_running", 0))
    ours_or_internal = namespace.startswith("local.") or not (op.get("client") or op.get("client_s"))
    if not op.get("active") or ours_or_internal or {name, command} & _STANDING:
        return
    if seconds >= 1 or op.get("waitingForLock"):
        users = [str(user.get("user")) for user in op.get("effectiveUsers", ())]
        shown = name if _COMMAND.fullmatch(name) else "a command"
        yield Session(
            identity=f"operation {op.get('opid')}",
            who=", ".join([*users, *filter(None, [op.get("appName")])]) or "somebody",
            doing=f"{shown} on {namespace}" if namespace else shown,
            seconds=seconds,
        )


def _list_replicas(client: Client) -> Replication:
    try:
        with translated("MongoDB"):
            status = client.admin.command("replSetGetStatus")
    except SourceError as error:
        if _NOT_REPLICATED.search(str(error)):
            return Replication()
        raise
    return read_replica_set(status, list_delays(client) if len(status["members"]) > 1 else {})


def read_cache(status: Document) -> CacheReads:
    """Given what ``serverStatus`` answers, return what was read; raise ``SourceError`` if uncounted."""
    cache = status.get("wiredTiger", {}).get("cache", {})
    try:
        return CacheReads(
            wanted=int(cache["pages requested from the cache"]),
            from_disk=int(cache["pages read into cache"]),
        )
    except KeyError:
        raise SourceError("This server does not count what it reads from its cache.") from None
