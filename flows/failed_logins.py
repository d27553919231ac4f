"""Runbook row I25: who fails to log in, from where, and whether somebody tries passwords."""

from datetime import timedelta
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.decisions.failed_logins import CAUSE, find_failed_logins, make_login_report
from tasks.audit_reading import read_audit
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RunbookError
from tasks.failed_login_rendering import publish_logins
from tasks.figure_series import keep_figures, read_figures
from tasks.handing_over import hand_over
from tasks.log_reading import read_logs
from tasks.profiles import load_service
from tasks.records.accounts import Account
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.run_context import observe_run, read_clock
from tasks.users import observe_admins

HISTORY = "failed-logins"


@flow(name="failed-logins", flow_run_name="{service}, {hours} h")
@failing_in_one_sentence
def failed_logins(service: str, hours: Annotated[int, Field(ge=1, le=7 * 24)] = 24) -> State[Any]:
    """Count failed logins by address, user and hour, and call people when there are too many at once.

    Trigger: every hour at a quarter past, or by hand.

    Preconditions: the application's log or its audit log can be read.

    Steps: load the profile; read both; count; show them, users masked; hold what came since the last report
    to the profile's limits; where there is too much, tell people by escalate; keep the number for the next
    report. Fail where there is too much, or neither log can be read.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
        hours: How far to look back.
    """
    profile, run = load_service(service), observe_run()
    now = read_clock()
    since = now - timedelta(hours=hours)
    sources = (
        read_audit(profile, [profile.users.audit.failed_login], since, now),
        find_failed_logins(read_logs(profile, since), profile),
    )
    kept = read_figures(profile, HISTORY, now).get("attempts", ())
    reported = kept[-1][0] if kept else None
    report = make_login_report(profile, sources, _find_admins(profile), (since, now), reported)
    publish_logins(report, profile.zone)
    if not report.read:
        return Failed(message=f"{service}: nothing could be read: {' '.join(report.unread)}")
    keep_figures(profile, HISTORY, now, {"attempts": float(report.total)})
    if report.alarming:
        told = hand_over(profile, run, report.headline, CAUSE)
        return Failed(message=f"{report.headline} {told}")
    return Completed(message=report.headline)


def _find_admins(profile: ServiceProfile) -> tuple[Account, ...] | Unknown:
    try:
        return observe_admins(profile)
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
