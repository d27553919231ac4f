"""The one fork server from which every child of the tests starts: a process has no second one.

It imports Prefect and all flows once, so that each child starts in a fraction of a second.
"""

import multiprocessing
from pathlib import Path

import flows

# What Prefect imports when the first flow runs: every child would, and takes half a second for it.
_LAZY = (
    "anyio._backends._asyncio",
    "fastapi",
    "prefect.concurrency.services",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.telemetry.run_telemetry",
    "prefect.utilities.visualization",
)
_RUNBOOKS = [f"flows.{path.stem}" for path in Path(flows.__file__).parent.glob("[a-z]*.py")]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "tasks.mutation", *_RUNBOOKS, *_LAZY])
