"""What the dispatcher has to do, as it stands on disk, and what it has done."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

_AT_ONCE = 100


@dataclass(frozen=True)
class Pending:
    """An alert that waits for its run."""

    key: str
    name: str
    service: str
    runbook: str
    parameters: Mapping[str, JsonValue]


@dataclass(frozen=True)
class Untold:
    """A run that does not know yet that its alert has resolved."""

    key: str
    name: str
    run_id: str
    resolved_at: float


def find_pending(connection: sqlite3.Connection) -> list[Pending]:
    """Return the alerts that wait for a run: those that were tried least often first, then the oldest."""
    rows = connection.execute(
        "SELECT key, name, service, runbook, parameters FROM alerts WHERE state = 'received' "
        "ORDER BY tries, received_at LIMIT ?",
        (_AT_ONCE,),
    )
    return [Pending(**{**row, "parameters": json.loads(row["parameters"])}) for row in map(dict, rows)]


def find_untold(connection: sqlite3.Connection) -> list[Untold]:
    """Return the runs that are still to be told of their alert's end."""
    rows = connection.execute(
        "SELECT key, name, run_id, resolved_at FROM alerts WHERE state = 'started' "
        "AND resolved_at IS NOT NULL AND told_at IS NULL ORDER BY resolved_at LIMIT ?",
        (_AT_ONCE,),
    )
    return [Untold(**row) for row in map(dict, rows)]


def note_started(connection: sqlite3.Connection, key: str, run_id: str, run_name: str, now: float) -> None:
    """Put down which run works on the alert."""
    connection.execute(
        "UPDATE alerts SET state = 'started', reason = '', run_id = ?, run_name = ?, started_at = ? "
        "WHERE key = ?",
        (run_id, run_name, now, key),
    )


def note_refused(connection: sqlite3.Connection, key: str, reason: str) -> None:
    """Put down that Prefect will not start this, and why."""
    connection.execute("UPDATE alerts SET state = 'refused', reason = ? WHERE key = ?", (reason, key))


def note_tried(connection: sqlite3.Connection, key: str, reason: str) -> None:
    """Put down why it waits, and let the others go first the next time."""
    connection.execute("UPDATE alerts SET tries = tries + 1, reason = ? WHERE key = ?", (reason, key))


def note_told(connection: sqlite3.Connection, key: str, now: float) -> None:
    """Put down that the run knows."""
    connection.execute("UPDATE alerts SET told_at = ? WHERE key = ?", (now, key))
