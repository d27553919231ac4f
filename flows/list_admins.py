"""Runbook row I27: who administers, and who does since the last look."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.admins import choose_before, judge_admins, remember
from tasks.admin_rendering import publish_admins
from tasks.conclusion import failing_in_one_sentence
from tasks.known_admins import keep_known_admins, read_known_admins
from tasks.profiles import load_service
from tasks.run_context import read_clock
from tasks.users import observe_admins


@flow(name="list-admins", flow_run_name="{service}")
@failing_in_one_sentence
def list_admins(service: str) -> State[Any]:
    """List who administers a service, and say who is new; fail when nobody can administer.

    Trigger: every day at 06:40 in the service's time zone, or by hand.

    Preconditions: the database answers the application's own user.

    Steps: load the profile; read who has an administrator's role; compare with the look before; show them;
    keep on the host who they are, for the next look.

    Rollback: none is needed, nothing of the service is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile = load_service(service)
    now = read_clock()
    admins = observe_admins(profile)
    before = choose_before(read_known_admins(profile), now)
    login = profile.application.login
    report = judge_admins(service, admins, before, login.user if login is not None else None, now)
    publish_admins(report, profile.zone)
    keep_known_admins(profile, remember(admins, now), before)
    if report.findings:
        return Failed(message=f"{report.headline} {report.findings[0]}")
    return Completed(message=report.headline)
