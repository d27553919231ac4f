"""Runbook rows I20, I21 and P20: how the database is, what grows, and what to do before it hurts."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.database_health import conclude, find_blindness, make_report, select_figures
from flows.late_starting import skip_late
from tasks.conclusion import failing_in_one_sentence
from tasks.figure_series import keep_figures, read_figures
from tasks.health_rendering import publish_database
from tasks.mongodb_health import observe_mongodb
from tasks.postgresql_health import observe_postgresql
from tasks.profiles import load_service
from tasks.run_context import observe_run, read_clock


@flow(name="database-report", flow_run_name="{service}")
@failing_in_one_sentence
def database_report(service: str) -> State[Any]:
    """Report how a service's database is, and fail when something of it cannot wait.

    Trigger: every day at 06:15 in the service's time zone; or by hand.

    Preconditions: the database answers, and the user of ``database.admin_url`` may read its statistics
    (``clusterMonitor`` in MongoDB, ``pg_monitor`` in PostgreSQL).

    Steps: load the profile; observe sizes, disk, connections, sessions, replicas, cache and counters, each
    within a time limit of its own; compare them with earlier reports; hold them to their limits; show them;
    keep the figures for the next report.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    now = read_clock()
    observe = observe_mongodb if profile.database.kind == "mongodb" else observe_postgresql
    health = observe(profile, now)
    history = read_figures(profile, "database", now)
    report = make_report(service, health, history)
    publish_database(report, profile.zone)
    if blindness := find_blindness(health):
        return Failed(message=f"{service}: nothing of the database could be observed: {blindness}")
    keep_figures(profile, "database", now, select_figures(health))
    if report.level == "act":
        return Failed(message=conclude(report))
    return Completed(message=conclude(report))
