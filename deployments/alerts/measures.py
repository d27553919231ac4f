"""What the receiver counts, and how Prometheus reads it."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator

_PREFIX = "alert_receiver"
_STATES = ("received", "started", "unmapped", "refused", "over")


class Measures:
    """Counters since the start; several threads count."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._lock = threading.Lock()
        self._posts: Counter[tuple[str, str]] = Counter()
        self._alerts: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        # Empty while Prefect answers.
        self.prefect_trouble = ""

    def count_post(self, source: str, outcome: str) -> None:
        """Count a post of a source, or of somebody unknown, by what became of it."""
        with self._lock:
            self._posts[source, outcome] += 1

    def count_alert(self, kind: str) -> None:
        """Count an alert of a post: new or repeat."""
        with self._lock:
            self._alerts[kind] += 1

    def count_run(self, outcome: str) -> None:
        """Count what the dispatcher did: started, refused, told."""
        with self._lock:
            self._runs[outcome] += 1

    def reached_prefect(self) -> None:
        """Note that Prefect answered."""
        self.prefect_trouble = ""

    def lost_prefect(self, trouble: str) -> None:
        """Note that Prefect did not answer."""
        with self._lock:
            self._runs["failed"] += 1
            self.prefect_trouble = trouble

    def render(self, rows: sqlite3.Connection, commits: int, now: float) -> str:
        """Return the text that Prometheus reads."""
        with self._lock:
            posts, alerts, runs = self._posts.copy(), self._alerts.copy(), self._runs.copy()
            is_reached = not self.prefect_trouble
        lines = [
            *_family("posts_total", "counter", "Posts by source and outcome"),
            *(
                f'{_PREFIX}_posts_total{{source="{source}",outcome="{outcome}"}} {count}'
                for (source, outcome), count in sorted(posts.items())
            ),
            *_family("alerts_total", "counter", "Alerts in accepted posts: new or repeat"),
            *_by("alerts_total", "kind", {kind: alerts[kind] for kind in ("new", "repeat")}),
            *_family("runs_total", "counter", "What was done with Prefect"),
            *_by(
                "runs_total",
                "outcome",
                {outcome: runs[outcome] for outcome in ("started", "told", "refused", "failed")},
            ),
            *_family("alerts", "gauge", "Alerts on disk by state"),
            *_by("alerts", "state", count_states(rows)),
            *_family("oldest_waiting_seconds", "gauge", "How long the oldest alert waits for its run"),
            f"{_PREFIX}_oldest_waiting_seconds {oldest_waiting(rows, now):.3f}",
            *_family("commits_total", "counter", "Transactions that were synced to the disk"),
            f"{_PREFIX}_commits_total {commits}",
            *_family("prefect_reached", "gauge", "1 while Prefect's server answers"),
            f"{_PREFIX}_prefect_reached {int(is_reached)}",
        ]
        return "\n".join(lines) + "\n"


def count_states(rows: sqlite3.Connection) -> dict[str, int]:
    """Return how many alerts are in each state."""
    found = dict(rows.execute("SELECT state, count(*) FROM alerts GROUP BY state").fetchall())
    return {state: found.get(state, 0) for state in _STATES}


def oldest_waiting(rows: sqlite3.Connection, now: float) -> float:
    """Return for how many seconds the oldest alert waits for its run, 0 if none does."""
    (oldest,) = rows.execute("SELECT min(received_at) FROM alerts WHERE state = 'received'").fetchone()
    return 0.0 if oldest is None else max(0.0, now - oldest)


def _family(name: str, kind: str, description: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {description}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"


def _by(name: str, label: str, counts: dict[str, int]) -> Iterator[str]:
    for value, count in counts.items():
        yield f'{_PREFIX}_{name}{{{label}="{value}"}} {count}'
