"""Runbook rows I18 and P12 to P14: recent errors, from all logs, in one place."""

from datetime import timedelta
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.decisions.log_report import conclude_log_report, find_deafness, make_log_report
from tasks.conclusion import failing_in_one_sentence
from tasks.log_reading import read_logs
from tasks.log_rendering import publish_log_report
from tasks.profiles import load_service
from tasks.records.logs import Level
from tasks.run_context import read_clock


@flow(name="log-report", flow_run_name="{service}, {minutes} min")
@failing_in_one_sentence
def log_report(
    service: str,
    minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 60,
    level: Level = "error",
    containing: str = "",
) -> State[Any]:
    """Show what all logs of a service say, merged by time: what it means, then the newest lines.

    Trigger: by hand, when something is wrong or a user complains.

    Preconditions: the worker's user may read the logs that the profile names.

    Steps: load the profile; read the end of every log, PM2's, the application's, the system's and the
    database's; take every secret out; count what the runbooks know; show it. Fail if no log can be read.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
        minutes: How far to look back.
        level: List lines that are at least so bad.
        containing: List and count only lines with these words, in capitals or not. Write no secret here.
    """
    profile = load_service(service)
    now = read_clock()
    extract = read_logs(profile, now - timedelta(minutes=minutes))
    report = make_log_report(extract, profile, now, level=level, containing=containing)
    publish_log_report(report, profile.zone)
    if deafness := find_deafness(extract):
        return Failed(message=f"{service}: {deafness}")
    return Completed(message=conclude_log_report(report))
