"""Runs that schedules made for a time in which the sandbox was down: nobody misses them in a demo."""

from datetime import UTC, datetime
from typing import Any

import httpx

from deployments.sandbox.errors import SandboxError

# The server deletes no more than so many at once.
PAGE = 50


def delete_overdue_runs(api: httpx.Client) -> int:
    """Delete the scheduled runs that never began and should have; return how many.

    A worker takes the oldest first: after a night, what somebody asks for would wait for minutes. Runs that
    people or runbooks made stay, and so do those that wait for their next attempt.
    """
    overdue = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
        "start_time": {"is_null_": True},
    }
    deleted = kept = 0
    try:
        while page := _ask(api, "filter", {"flow_runs": overdue, "sort": "ID_DESC", "offset": kept}):
            made_by_schedule = [run["id"] for run in page if run["auto_scheduled"]]
            if made_by_schedule:
                _ask(api, "bulk_delete", {"flow_runs": {"id": {"any_": made_by_schedule}}})
            deleted += len(made_by_schedule)
            kept += len(page) - len(made_by_schedule)
    except httpx.HTTPError as error:
        raise SandboxError(f"The Prefect server did not drop missed runs: {type(error).__name__}.") from error
    return deleted


def _ask(api: httpx.Client, what: str, body: dict[str, Any]) -> Any:
    return api.post(f"/flow_runs/{what}", json={**body, "limit": PAGE}).raise_for_status().json()
