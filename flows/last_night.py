"""What happened last night: one page that a person reads with the first coffee."""

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.last_night import RUNBOOK, conclude, judge_night, look_back, refuse_hours
from tasks.conclusion import failing_in_one_sentence
from tasks.credential_ages import observe_credential_ages
from tasks.errors import RefusedError
from tasks.last_night_rendering import publish_night, write_night
from tasks.night_observing import load_neighbours, observe_night, see
from tasks.profiles import load_service
from tasks.records.last_night import SeenNight
from tasks.records.service import ServiceProfile
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def last_night(service: str, hours: int = 24) -> State[Any]:
    """Say of every scheduled runbook whether it ran, and what else of the night a person must know.

    Trigger: every day at 07:00 in the service's time zone; or by hand.

    Preconditions: none. What cannot be seen is named, and hides nothing else.

    Steps: load the profile, and those of the other services of this host; for each, hold the times at which
    runs were due by Prefect's schedules against the runs, look at the ages of backup, drill, cleanup and
    credentials, at escalations, at alerts that started nothing and at what is half done; show this service's
    page; write the file for all services.

    Rollback: none is needed, nothing of the service is changed.

    Args:
        service: The service's name, as in its profile.
        hours: How far to look back from the time at which this run was due.
    """
    if refusal := refuse_hours(hours):
        raise RefusedError(f"{service}: {refusal}")
    profile, run = load_service(service), observe_run()
    # A page that comes late still begins where the one before ended.
    since, now = look_back(run.due or run.started, hours, profile.zone), run.started
    neighbours, wrong = load_neighbours(profile)
    page, *others = (
        judge_night(each, _observe(each, since, now), since, now) for each in (profile, *neighbours)
    )
    said = conclude(page)
    publish_night(page, said, since, profile.zone)
    write_night(profile, (page, *others, *wrong), since, now)
    return Failed(message=said) if page.bad else Completed(message=said)


def _observe(profile: ServiceProfile, since: datetime, now: datetime) -> SeenNight:
    seen = observe_night(profile, since, now)
    return seen.model_copy(update={"credentials": see(lambda: observe_credential_ages(profile, now))})
