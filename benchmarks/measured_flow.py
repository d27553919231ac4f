"""Run one nightly backup in this process and print when it was published and when it ended, in seconds."""

import json
import sys
import time

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterName,
)
from prefect.client.schemas.objects import FlowRun

from flows.nightly_backup import nightly_backup

_PATIENCE_SECONDS = 30.0


def main(service: str) -> None:
    state = nightly_backup(service, accept_changed_size=True, return_state=True)
    if not state.is_completed():
        sys.exit(f"The backup ended {state.name}: {state.message}")
    with get_client(sync_client=True) as client:
        run_id = state.state_details.flow_run_id
        if run_id is None:
            sys.exit("Prefect does not know the run.")
        run = client.read_flow_run(run_id)
        published = _seconds_until_published(client, run)
    sys.stdout.write(json.dumps({"published": published, "verified": run.total_run_time.total_seconds()}))


def _seconds_until_published(client: SyncPrefectClient, run: FlowRun) -> float:
    """Return when the manifest stood, counted from the flow's start; Prefect records it a moment later."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
            task_run_filter=TaskRunFilter(name=TaskRunFilterName(like_="publish_set")),
        )
        if found and found[0].end_time and run.start_time:
            return (found[0].end_time - run.start_time).total_seconds()
        time.sleep(0.2)
    sys.exit("Prefect never recorded that the set was published.")


if __name__ == "__main__":
    main(sys.argv[1])
