"""What a delivery changes on disk: new alerts are put down, repeats are counted, the end of one is noted."""

import json
import sqlite3
from datetime import UTC, datetime

from deployments.alerts.incoming import Alert, Decision, Delivery, Kept
from deployments.alerts.refusals import Refusal

_UNDECIDED = {"unmapped", "refused"}


def keep(connection: sqlite3.Connection, delivery: Delivery, now: float) -> tuple[Kept, ...]:
    """Given a delivery, put all of it down and return what became of each; raise ``Refusal`` for a replay."""
    if delivery.signature is not None:
        remembered = connection.execute(
            "INSERT INTO signatures VALUES (?, ?) ON CONFLICT (signature) "
            "DO UPDATE SET expires = excluded.expires WHERE expires < ?",
            (delivery.signature, delivery.signature_expires, now),
        )
        if remembered.rowcount == 0:
            raise Refusal(409, "replayed", "This very post came before.")
    return tuple(
        _keep_alert(connection, delivery.source, alert, decision, now) for alert, decision in delivery.alerts
    )


def forget(connection: sqlite3.Connection, older_than: float, now: float) -> int:
    """Delete alerts of which nothing was heard since, except those that wait; return how many."""
    connection.execute("DELETE FROM signatures WHERE expires < ?", (now,))
    gone = connection.execute(
        "DELETE FROM alerts WHERE last_seen_at < ? AND state != 'received' "
        "AND (state != 'started' OR resolved_at IS NULL OR told_at IS NOT NULL)",
        (older_than,),
    )
    return gone.rowcount


def _keep_alert(
    connection: sqlite3.Connection, source: str, alert: Alert, decision: Decision, now: float
) -> Kept:
    row = _find(connection, alert, now)
    if row is not None:
        return _fold(connection, row, alert, decision, now)
    if not alert.is_firing:
        if alert.over_after is not None:
            return Kept(alert.key, alert.name, "over", is_repeat=False)
        # A late delivery of its beginning must find that it is over.
        decision = Decision("over", reason="it had resolved before it was heard of")
    _insert(connection, source, alert, decision, now)
    return Kept(alert.key, alert.name, decision.state, is_repeat=False, reason=decision.reason)


def _find(connection: sqlite3.Connection, alert: Alert, now: float) -> sqlite3.Row | None:
    """Return the row that this is a repeat or the end of."""
    found = connection.execute("SELECT * FROM alerts WHERE key = ?", (alert.key,)).fetchone()
    if found is None and (alert.over_after is not None or not alert.is_firing):
        # A sender may give the end another beginning than it gave the beginning.
        found = connection.execute(
            "SELECT * FROM alerts WHERE fingerprint = ? AND resolved_at IS NULL AND starts_at <= ? "
            "ORDER BY starts_at DESC LIMIT 1",
            (alert.fingerprint, _say(alert.starts_at)),
        ).fetchone()
        if found is not None and alert.is_firing and alert.over_after is not None:
            is_over = found["last_seen_at"] < now - alert.over_after.total_seconds()
            found = None if is_over else found
    row: sqlite3.Row | None = found
    return row


def _fold(
    connection: sqlite3.Connection, row: sqlite3.Row, alert: Alert, decision: Decision, now: float
) -> Kept:
    connection.execute(
        "UPDATE alerts SET deliveries = deliveries + 1, last_seen_at = ?, "
        "resolved_at = coalesce(resolved_at, ?) WHERE key = ?",
        (now, None if alert.is_firing else now, row["key"]),
    )
    state, reason = row["state"], row["reason"]
    if alert.is_firing and row["resolved_at"] is None and state in _UNDECIDED:
        # The configuration or the deployments may be others by now.
        state, reason = decision.state, decision.reason
        connection.execute(
            "UPDATE alerts SET state = ?, reason = ?, service = ?, runbook = ?, parameters = ?, tries = 0 "
            "WHERE key = ?",
            (state, reason, decision.service, decision.runbook, _dump(decision), row["key"]),
        )
    return Kept(row["key"], row["name"], state, is_repeat=True, reason=reason)


def _insert(
    connection: sqlite3.Connection, source: str, alert: Alert, decision: Decision, now: float
) -> None:
    values = {
        "key": alert.key,
        "fingerprint": alert.fingerprint,
        "starts_at": _say(alert.starts_at),
        "source": source,
        "name": alert.name,
        "labels": json.dumps(dict(alert.labels)),
        "summary": alert.summary,
        "state": decision.state,
        "reason": decision.reason,
        "service": decision.service,
        "runbook": decision.runbook,
        "parameters": _dump(decision),
        "deliveries": 1,
        "received_at": now,
        "last_seen_at": now,
        "resolved_at": None if alert.is_firing else now,
    }
    places = ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO alerts ({', '.join(values)}) VALUES ({places})", values)  # noqa: S608


def _dump(decision: Decision) -> str:
    return json.dumps(dict(decision.parameters or {}))


def _say(moment: datetime) -> str:
    """Return the moment in UTC so that texts are in the order of time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
