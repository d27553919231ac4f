"""Look at Prefect by its API: does it answer, does a worker poll, and is there a run that died or is stuck?

What the server's automations should have ended is ended here, should they be lost or disabled.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import httpx

from deployments.dead_runs import SILENT, STUCK
from deployments.prefect_api import PrefectApi
from deployments.watch.complaints import Complaint
from tasks.errors import UnreachableError

_PAGE: Final = 200
# Two heartbeats of 30 s and a little.
SILENCE: Final = timedelta(seconds=75)
# A worker polls every few seconds.
_POLLED: Final = timedelta(seconds=90)
# Prefect keeps events for a week by default; a longer run has had a heartbeat since.
_EVER: Final = timedelta(days=1)
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"


class Engine(PrefectApi):
    """Prefect's server, as far as the watch needs it; every request has a time limit."""

    def find_unpolled(self, services: Sequence[str], now: datetime) -> dict[str, Complaint]:
        """Return for each service whose queue no worker asks for work what is wrong.

        Raise ``UnreachableError`` if the server does not answer.
        """
        found = self._post("/work_queues/filter", {"work_queues": {"name": {"any_": list(services)}}})
        polled = {queue["name"]: queue["last_polled"] for queue in found}
        return {
            service: Complaint(
                "the worker",
                f"No worker polls the queue '{service}' of Prefect: nothing of {service} runs until its "
                "worker is started again.",
            )
            for service in services
            if not polled.get(service) or now - datetime.fromisoformat(polled[service]) > _POLLED
        }

    def list_runs(self) -> list[Mapping[str, Any]]:
        """Return all runs that are Running, Pending or Cancelling, oldest first.

        Raise ``UnreachableError`` if the server does not answer.
        """
        states = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
        found: list[Mapping[str, Any]] = []
        while page := self._post(
            "/flow_runs/filter",
            {"flow_runs": states, "limit": _PAGE, "offset": len(found), "sort": "START_TIME_ASC"},
        ):
            found += page
        return found

    def find_alive(self, runs: Sequence[Mapping[str, Any]], since: datetime) -> frozenset[str]:
        """Return the ids of those runs of which there was a heartbeat since a moment.

        Raise ``UnreachableError`` if the server does not answer.
        """
        return frozenset(run["id"] for run in runs if self._count_heartbeats(run["id"], since))

    def end(self, run: Mapping[str, Any], why: str) -> bool:
        """Make a run Crashed unless it has ended by now; tell whether it was made so.

        Of one that was being cancelled Prefect takes no other end than Cancelled.
        """
        kind = "CANCELLED" if run["state_type"] == "CANCELLING" else "CRASHED"
        state = {"type": kind, "name": kind.capitalize(), "message": why}
        said = self._post(f"/flow_runs/{run['id']}/set_state", {"state": state, "force": False})
        return bool(said["status"] == "ACCEPT")

    def expects_heartbeat(self, run: Mapping[str, Any], since: datetime) -> bool:
        """Tell whether a worker started it, and other runs of its service were heard of since a moment.

        Then it should have been heard of as well: it died at its start. Raise ``UnreachableError`` if the
        server does not answer.
        """
        tag = f"prefect.tag.{run['parameters'].get('service', '')}"
        return run["deployment_id"] is not None and self._count({"related": {"id": [tag]}}, since) > 0

    def _count_heartbeats(self, run_id: str, since: datetime) -> int:
        return self._count({"resource": {"id": [f"prefect.flow-run.{run_id}"]}}, since)

    def _count(self, whose: Mapping[str, Any], since: datetime) -> int:
        wanted = {"occurred": {"since": since.isoformat()}, "event": {"name": [_HEARTBEAT]}, **whose}
        return int(self._post("/events/filter", {"filter": wanted, "limit": 1})["total"])

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            return self._client.post(path, json=body).raise_for_status().json()
        except httpx.HTTPStatusError as error:
            raise UnreachableError(f"Prefect's server says {error.response.status_code} to {path}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise UnreachableError(f"Prefect's server does not answer ({type(error).__name__})") from None


def end_stuck(
    engine: Engine, runs: Sequence[Mapping[str, Any]], now: datetime
) -> list[tuple[str, Complaint]]:
    """End what has been Pending for too long; return the service and what to say of each."""
    old = [run for run in runs if run["state_type"] == "PENDING" and _age(run, now) > STUCK]
    why = f"Pending for more than {STUCK.seconds} s: its worker died before the start."
    return [_say(run, "never got going") for run in old if engine.end(run, why)]


def end_silent(
    engine: Engine, runs: Sequence[Mapping[str, Any]], now: datetime
) -> list[tuple[str, Complaint]]:
    """End what should have a heartbeat and has none any more; return the service and what to say of each.

    What never had one and need not, as a run from a shell, cannot be judged and is left alone.
    """
    old = [run for run in runs if run["state_type"] != "PENDING" and _is_old(run, now)]
    silent = _without(old, engine.find_alive(old, now - SILENCE))
    known = engine.find_alive(silent, now - _EVER)
    why = f"No sign of life for more than {SILENCE.seconds} s: flow and worker died."
    return [
        _say(run, "died without a word")
        for run in silent
        if (run["id"] in known or engine.expects_heartbeat(run, now - _EVER)) and engine.end(run, why)
    ]


def _without(runs: Sequence[Mapping[str, Any]], ids: frozenset[str]) -> list[Mapping[str, Any]]:
    return [run for run in runs if run["id"] not in ids]


def _age(run: Mapping[str, Any], now: datetime) -> timedelta:
    return now - datetime.fromisoformat(run["state"]["timestamp"])


def _is_old(run: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether it had time for a heartbeat: the server's doubts are no new beginning."""
    return run["state_name"] == SILENT or _age(run, now) > SILENCE


def _say(run: Mapping[str, Any], what: str) -> tuple[str, Complaint]:
    service = str(run["parameters"].get("service", ""))
    sentence = (
        f"Run '{run['name']}' {what} and was ended: see in Prefect what it was, and start it again if "
        "it is still wanted."
    )
    return service, Complaint(f"run {run['id']}", sentence)
