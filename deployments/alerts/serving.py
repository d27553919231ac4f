"""Run the receiver until it is stopped."""

import logging

import uvicorn

from deployments.alerts.application import build_application
from deployments.alerts.authentication import TokenBuckets
from deployments.alerts.configuration import Configured
from deployments.alerts.connections import impatient
from deployments.alerts.dispatcher import Dispatcher
from deployments.alerts.intake import Parts
from deployments.alerts.measures import Measures
from deployments.alerts.prefect_runs import PrefectRuns
from deployments.alerts.store import Store


def serve(configured: Configured) -> None:
    """Serve until a signal comes; raise a ``RunbookError`` if it cannot begin."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    receiver, measures = configured.receiver, Measures()
    with PrefectRuns() as runs:
        store = Store(configured.database)
        limits = receiver.limits
        application = build_application(
            Parts(
                configured,
                store,
                Dispatcher(store, runs, measures, receiver.keep),
                measures,
                TokenBuckets(receiver.sources, limits.posts_per_second, limits.burst),
            )
        )
        uvicorn.run(
            application,
            host=receiver.listen.host,
            port=receiver.listen.port,
            http=impatient(limits.post_seconds, lambda: measures.count_post("unknown", "slow")),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_graceful_shutdown=int(limits.post_seconds) + 1,
        )
