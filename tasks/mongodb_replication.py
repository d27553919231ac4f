"""How far the replicas of a MongoDB server are behind."""

from typing import Any, Final

from tasks.errors import AccessDeniedError
from tasks.mongodb import Client, connect

_PRIMARY: Final = 1
_SECONDARY: Final = 2


def measure_lag(client: Client, admin_url: str) -> float:
    """Given the application's client and an administrator's URL, return the slowest replica's lag in seconds.

    It is 0 where there is none, and behind mongos, which does not know. Raise ``AccessDeniedError`` if the
    administrator may not ask.
    """
    hello = client.admin.command("hello")
    if len([*hello.get("hosts", ()), *hello.get("passives", ())]) <= 1:
        return 0.0
    try:
        with connect(admin_url) as administrator:
            members = administrator.admin.command("replSetGetStatus")["members"]
    except AccessDeniedError as error:
        raise AccessDeniedError(
            f"{error} To see how far replicas are behind, give the user of database.admin_url the role "
            "clusterMonitor."
        ) from error
    return find_lag(members)


def find_lag(members: list[dict[str, Any]]) -> float:
    """Given the members of a replica set as ``replSetGetStatus`` has them, return the slowest one's lag."""
    moments = {
        state: [m["optimeDate"] for m in members if m["state"] == state] for state in (_PRIMARY, _SECONDARY)
    }
    if not moments[_PRIMARY] or not moments[_SECONDARY]:
        return 0.0
    behind = max(moments[_PRIMARY]) - min(moments[_SECONDARY])
    return float(max(0.0, behind.total_seconds()))
