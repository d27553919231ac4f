"""Runbook rows I21, I22, P20: which queries are slow, what they do, and which index would help them."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.decisions.query_shapes import RUNBOOK, choose_threshold, describe_rehearsal, describe_report
from flows.late_starting import skip_late
from flows.profiling import watch_mongodb
from flows.query_window import Watched, Window
from flows.statement_watching import watch_postgresql
from tasks.artifacts import Progress
from tasks.conclusion import failing_in_one_sentence
from tasks.opening_indexes import open_index_server
from tasks.profiles import load_service
from tasks.query_rendering import publish_queries
from tasks.records.service import ServiceProfile
from tasks.records.slow_queries import QueryReport, QueryShape
from tasks.run_context import Run, observe_run


@flow(name=RUNBOOK, flow_run_name="{service}: {minutes} min")
@failing_in_one_sentence
def profile_queries(
    service: str,
    minutes: Annotated[float, Field(gt=0, le=60)] = 10,
    milliseconds: Annotated[int, Field(ge=1)] | None = None,
    dry_run: bool = False,
) -> State[Any]:
    """Watch a service's database for some minutes and say which queries are slow, and why.

    Trigger: Mondays at 10:00 in the service's time zone, when its users are at work; or by hand, when the
    application is slow.

    Preconditions: the administrator's URL of the profile may profile, and read what other users do.

    Steps: put back what a killed run left on; MongoDB: turn the profiler on for what takes longer than the
    threshold, follow what it writes down, and put level, threshold and sampling rate back; PostgreSQL: read
    its counts before and after, or look at what is at work; group by shape, without any literal; explain the
    worst; name the indexes that would help and are not there.

    Rollback: the profiler is put back whatever happens; after a kill, by the next run or by profiler-guard.

    Args:
        service: The service's name, as in its profile.
        minutes: For how long the queries are watched, up to an hour.
        milliseconds: A query that takes longer is slow; without it, what the profile says.
        dry_run: Say what would be done and stop.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    threshold = choose_threshold(profile.queries, milliseconds)
    if dry_run:
        return Completed(message=describe_rehearsal(service, profile.database.kind, minutes, threshold))
    window = Window(minutes * 60, threshold, Progress(RUNBOOK, service))
    window.progress.start(f"Queries of {service} over {threshold:,} ms are watched.")
    report = _watch(profile, run, window)
    publish_queries(report)
    return Completed(message=describe_report(report))


def _watch(profile: ServiceProfile, run: Run, window: Window) -> QueryReport:
    existing = open_index_server(profile).list_indexes()
    watched: Watched
    shapes: tuple[QueryShape, ...]
    if profile.database.kind == "mongodb":
        watched = watch_mongodb(profile, run, window)
        shapes = watched.collector.shapes(existing)
    else:
        watched, shapes = watch_postgresql(profile, window, existing)
    return QueryReport(
        service=profile.name,
        kind=profile.database.kind,
        seconds=window.seconds,
        slow_milliseconds=window.slow_milliseconds,
        how=watched.how,
        notes=(*watched.notes, *watched.collector.describe_beyond()),
        shapes=shapes,
        proof=watched.proof,
    )
