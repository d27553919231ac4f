"""Runbook rows I12, I32, P15 and P21: the key figures, kept, drawn, and watched for a leak."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.metrics import conclude_metrics, make_metrics_report, select_metrics
from flows.late_starting import skip_replaced
from flows.measuring import measure
from tasks.conclusion import failing_in_one_sentence
from tasks.figure_series import keep_figures, read_figures
from tasks.metrics_rendering import publish_metrics
from tasks.profiles import load_service
from tasks.run_context import observe_run, read_clock


@flow(name="collect-metrics", flow_run_name="{service}")
@failing_in_one_sentence
def collect_metrics(service: str) -> State[Any]:
    """Measure a service and keep the figures; say what is worth watching, and fail only if nothing is seen.

    Trigger: every quarter of an hour; or by hand.

    Preconditions: none. What cannot be measured is named, and hides nothing else.

    Steps: load the profile; measure everything at once: response time, processes, database connections,
    clients, error lines and slow requests of the last hour, the host; compare with what was measured before;
    show figures and pictures of the last day and month; keep the figures.

    Rollback: none is needed, nothing of the service is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_replaced(profile, run)) is not None:
        return skipped
    now = read_clock()
    metrics = measure(profile, now)
    history = read_figures(profile, "metrics", now)
    report = make_metrics_report(metrics, history, profile)
    publish_metrics(report, profile.zone)
    figures = select_metrics(metrics)
    if not figures:
        return Failed(message=f"{service}: nothing could be measured: see the artifact for why.")
    keep_figures(profile, "metrics", now, figures)
    return Completed(message=conclude_metrics(report))
