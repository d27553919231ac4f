"""What a person sees of the receiver: what waits, what is unmapped or refused, what was started last."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from deployments.alerts.incoming import LINK_SOURCE
from deployments.alerts.measures import count_states

_LONGEST: Final = 160
_AT_MOST: Final = 50
_SECTIONS: Final = (
    ("Waiting for a run", "state = 'received'"),
    ("Unmapped: write a route for them, or silence them where they come from", "state = 'unmapped'"),
    ("Refused", "state = 'refused'"),
    ("Acknowledged by a link", f"source = '{LINK_SOURCE}'"),
    ("Started and still firing", f"state = 'started' AND resolved_at IS NULL AND source != '{LINK_SOURCE}'"),
    ("Started and resolved", "state = 'started' AND resolved_at IS NOT NULL"),
)


def render_overview(rows: sqlite3.Connection, trouble: str = "", *, labels: bool = False) -> str:
    """Return the alerts as text, with their labels if wanted; ``trouble`` is what Prefect's server has."""
    counts = ", ".join(f"{count} {state}" for state, count in count_states(rows).items())
    head = ["Alert receiver", f"Alerts on disk: {counts}."]
    if trouble:
        head.append(f"Runs cannot be started now: {trouble}.")
    sections = (line for title, where in _SECTIONS for line in _section(rows, title, where, labels=labels))
    return "\n".join([*head, *sections]) + "\n"


def _section(rows: sqlite3.Connection, title: str, where: str, *, labels: bool) -> Iterator[str]:
    found = rows.execute(
        f"SELECT * FROM alerts WHERE {where} ORDER BY last_seen_at DESC LIMIT ?",  # noqa: S608  ours
        (_AT_MOST,),
    ).fetchall()
    if not found:
        return
    yield ""
    yield f"{title}:"
    for row in found:
        yield f"  {_line(row)}"
        if labels:
            yield f"    {_plain(', '.join(f'{k}={v}' for k, v in json.loads(row['labels']).items()))}"


def _line(row: sqlite3.Row) -> str:
    moment = datetime.fromtimestamp(row["received_at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = f"{row['runbook']}/{row['service']}" if row["service"] else row["runbook"]
    parts = [
        f"{moment}  {row['name']}",
        f"from {row['source']}, {row['deliveries']} deliveries",
        what,
        f"run {row['run_name']}" if row["run_name"] else "",
        row["reason"],
    ]
    return _plain("; ".join(part for part in parts if part))


def _plain(text: str) -> str:
    """Return one line without what would steer a terminal: senders choose names and labels."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
