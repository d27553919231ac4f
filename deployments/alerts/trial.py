"""Send a test alert as a source would, and follow it to the state of the run that it starts."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from deployments.alerts.authentication import sign
from deployments.alerts.configuration import Configured, Source
from deployments.alerts.prefect_runs import PrefectRuns, Run
from tasks.errors import ConfigurationError, RefusedError, UnreachableError

_POST_SECONDS = 15.0
_POLL_SECONDS = 0.25
_ACCEPTED = 202


@dataclass(frozen=True)
class Trial:
    """What to send, as whom, where to, and how long to wait for the run's end."""

    source: str
    url: str
    labels: Mapping[str, str]
    sample: Path | None
    seconds: float


def follow_test_alert(configured: Configured, runs: PrefectRuns, trial: Trial) -> Iterator[str]:
    """Yield a line for each thing that becomes of a test alert, until its run has ended.

    Raise ``ConfigurationError``, ``RefusedError`` or ``UnreachableError`` if it started none.
    """
    source = _find_source(configured, trial.source)
    fingerprint, began = uuid.uuid4().hex[:16], datetime.now(UTC)

    def post(status: str, summary: str) -> list[dict[str, Any]]:
        body = make_alert(fingerprint, began, trial.labels, status, summary)
        return _post(configured, source, trial.url, body)

    if trial.sample:
        kept = _post(configured, source, trial.url, trial.sample.read_bytes())
    else:
        kept = post("firing", "A test alert, sent by hand")
    for alert in kept:
        yield f"{alert['alert']} is kept: {alert['state']}."
        if alert["state"] not in {"received", "started"}:
            raise RefusedError(f"It starts no run: {alert['reason']}.")
        if not trial.sample:
            # Another summary: the same words would have the same signature.
            (again,) = post("firing", "The same test alert, sent again")
            if not again["repeat"]:
                raise RefusedError("The same alert was sent again, and was taken for another one.")
            yield "The same alert is sent again: it is folded into the first."
        yield from _follow(runs, alert["key"], trial.seconds)
    if not trial.sample:
        post("resolved", "The test alert is over")
        yield "The alert is resolved again."


def make_alert(
    fingerprint: str, began: datetime, labels: Mapping[str, str], status: str, summary: str
) -> bytes:
    """Return a post as Alertmanager and Grafana send it."""
    alert = {
        "status": status,
        "labels": dict(labels),
        "annotations": {"summary": summary},
        "startsAt": began.isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }
    return json.dumps({"version": "4", "status": status, "alerts": [alert]}).encode()


def credentials(source: Source, secret: str, body: bytes) -> dict[str, str]:
    """Return the headers by which a source proves itself now."""
    if source.signature is None:
        return {"Authorization": f"Bearer {secret}"}
    if source.signature.timestamp_header is None:
        return {source.signature.header: sign(secret, None, body)}
    now = str(int(time.time()))
    return {source.signature.timestamp_header: now, source.signature.header: sign(secret, now, body)}


def _find_source(configured: Configured, name: str) -> Source:
    sources = {source.name: source for source in configured.receiver.sources}
    if name not in sources:
        raise ConfigurationError(f"There is no source '{name}'; there are {', '.join(sources)}.")
    return sources[name]


def _post(configured: Configured, source: Source, url: str, body: bytes) -> list[dict[str, Any]]:
    headers = credentials(source, configured.secrets[source.name], body)
    place = f"{url.rstrip('/')}/{source.path}"
    try:
        answer = httpx.post(
            place, content=body, headers=headers | {"Content-Type": "application/json"}, timeout=_POST_SECONDS
        )
        said = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise UnreachableError(f"No receiver answers at {place} ({type(error).__name__}).") from None
    if answer.status_code != _ACCEPTED:
        raise RefusedError(f"The receiver says {answer.status_code}: {said.get('error', '')}")
    alerts: list[dict[str, Any]] = said["alerts"]
    return alerts


def _follow(runs: PrefectRuns, key: str, seconds: float) -> Iterator[str]:
    deadline = time.monotonic() + seconds
    last: Run | None = None
    while time.monotonic() < deadline:
        found = runs.find(key)
        if found is not None and found != last:
            yield f"Run {found.name}: {found.state}. {found.message}".strip()
            last = found
        if last is not None and last.is_final:
            return
        time.sleep(_POLL_SECONDS)
    if last is None:
        raise UnreachableError(
            f"No run was started within {seconds:g} s: see the receiver's list for the reason."
        )
    yield f"The run has not ended within {seconds:g} s: is a worker polling its queue?"
