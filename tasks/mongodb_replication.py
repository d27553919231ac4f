"""How far the replicas of a MongoDB server are behind."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from tasks.errors import AccessDeniedError
from tasks.mongodb import Client, connect
from tasks.records.database_health import Replica, Replication

Document = Mapping[str, Any]

_PRIMARY: Final = 1
_SECONDARY: Final = 2
_ARBITER: Final = 7


def measure_lag(client: Client, admin_url: str) -> float:
    """Given the application's client and an administrator's URL, return the slowest replica's lag in seconds.

    It is 0 where there is none, and behind mongos, which does not know; what a member is behind on purpose
    does not count. Raise ``AccessDeniedError`` if the administrator may not ask.
    """
    hello = client.admin.command("hello")
    if len([*hello.get("hosts", ()), *hello.get("passives", ())]) <= 1:
        return 0.0
    try:
        with connect(admin_url) as administrator:
            status = administrator.admin.command("replSetGetStatus")
            delays = list_delays(administrator)
    except AccessDeniedError as error:
        raise AccessDeniedError(
            f"{error} To see how far replicas are behind, give the user of database.admin_url the role "
            "clusterMonitor."
        ) from error
    return find_lag(status, delays)


def find_lag(status: Document, delays: Mapping[str, float]) -> float:
    """Given what ``replSetGetStatus`` answers and who is behind on purpose, return the slowest one's lag."""
    replicas = read_replica_set(status, delays).replicas
    return max((one.lag_seconds or 0.0 for one in replicas), default=0.0)


def list_delays(client: Client) -> dict[str, float]:
    """Return the members that are behind on purpose, and by how many seconds."""
    config = client.admin.command("replSetGetConfig")["config"]
    # Servers before 5.0 call it otherwise.
    delays = (
        (one["host"], one.get("secondaryDelaySecs", one.get("slaveDelay"))) for one in config["members"]
    )
    return {host: float(seconds) for host, seconds in delays if seconds}


def read_replica_set(status: Document, delays: Mapping[str, float]) -> Replication:
    """Given what ``replSetGetStatus`` answers and who is behind on purpose, return who follows."""
    members = status["members"]
    newest = max((member["optimeDate"] for member in members if member["state"] == _PRIMARY), default=None)
    return Replication(
        has_primary=newest is not None,
        replicas=tuple(
            Replica(
                name=member["name"],
                state=member["stateStr"],
                healthy=bool(member["health"]) and member["state"] in {_SECONDARY, _ARBITER},
                lag_seconds=_lag(newest, member, delays.get(member["name"], 0.0)),
            )
            for member in members
            if member["state"] != _PRIMARY
        ),
    )


def _lag(newest: datetime | None, member: Document, on_purpose: float) -> float | None:
    if newest is None or member["state"] != _SECONDARY or "optimeDate" not in member:
        return None
    return float(max(0.0, (newest - member["optimeDate"]).total_seconds() - on_purpose))
