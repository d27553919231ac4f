"""The alert receiver's file, read where it runs on this host: which alerts started nothing, and why."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import UnreachableError
from tasks.log_masking import mask
from tasks.records.figures import shorten
from tasks.records.last_night import SeenAlert
from tasks.records.service import ServiceProfile

_SECONDS: Final = 5.0
_LONGEST: Final = 200
# A run is created within a second; what waits for longer waits for a Prefect server.
_WAITING: Final = timedelta(minutes=2)
_STATES: Final[Mapping[str, Literal["waiting", "unmapped", "refused"]]] = {
    "received": "waiting",
    "unmapped": "unmapped",
    "refused": "refused",
}
# What waits is shown for as long as it waits.
_WANTED: Final = """
SELECT name, state, reason, service, labels, last_seen_at FROM alerts
WHERE (state IN ('unmapped', 'refused') AND last_seen_at >= ?) OR (state = 'received' AND received_at < ?)
ORDER BY last_seen_at
"""


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_alerts(
    profile: ServiceProfile, services: Sequence[str], since: datetime
) -> tuple[SeenAlert, ...]:
    """Given a service and the names of all, return the alerts since then of which nothing was started.

    Those that name none of the services are everybody's. Raise ``UnreachableError`` if the profile names the
    receiver's file and it cannot be read.
    """
    path = profile.escalation.receiver_file
    if path is None:
        return ()
    groups: defaultdict[tuple[str, str], list[sqlite3.Row]] = defaultdict(list)
    for row in _read(path, since):
        if _name_service(row) == profile.name or _name_service(row) not in services:
            groups[row["name"], row["state"]].append(row)
    return tuple(_describe(name, state, rows) for (name, state), rows in groups.items())


def _read(path: Path, since: datetime) -> list[sqlite3.Row]:
    now = datetime.now(UTC)
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_SECONDS)
        ) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(_WANTED, (since.timestamp(), (now - _WAITING).timestamp())).fetchall()
    except sqlite3.Error as error:
        raise UnreachableError(
            f"The alert receiver's file {path} cannot be read ({error}): correct escalation.receiver_file, "
            "or leave it out where the receiver is on another host."
        ) from None


def _name_service(row: sqlite3.Row) -> str:
    labels: dict[str, Any] = json.loads(row["labels"])
    return row["service"] or str(labels.get("service", ""))


def _describe(name: str, state: str, rows: Sequence[sqlite3.Row]) -> SeenAlert:
    newest = rows[-1]
    return SeenAlert(
        name=shorten(name, _LONGEST),
        state=_STATES[state],
        reason=shorten(mask(newest["reason"], frozenset()), _LONGEST),
        count=len(rows),
        last_seen=datetime.fromtimestamp(newest["last_seen_at"], UTC),
    )
