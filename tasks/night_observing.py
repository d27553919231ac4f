"""See what happened to the services of this host; what cannot be seen of one hides nothing of the others."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.alert_file import observe_alerts
from tasks.backup_sets import observe_repository
from tasks.errors import RunbookError
from tasks.escalation_runs import observe_going_on
from tasks.escalations import list_escalations
from tasks.journal import list_open_journals
from tasks.prefect_runs import observe_runs
from tasks.profiles import list_services, read_profile, services_folder
from tasks.records.last_night import NightLine, NightPage, SeenNight
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

_Seen = TypeVar("_Seen")


@task(cache_policy=NO_CACHE, persist_result=False)
def load_neighbours(profile: ServiceProfile) -> tuple[tuple[ServiceProfile, ...], tuple[NightPage, ...]]:
    """Given a service, return the others that this host runs, and a page for each profile that is wrong.

    Those are of this host of which it keeps something; profiles may be the same on all hosts.
    """
    folder = services_folder()
    neighbours, wrong = [], []
    for name in list_services(folder):
        if name == profile.name:
            continue
        try:
            neighbour = read_profile(folder / f"{name}.yaml")
        except RunbookError as error:
            line = NightLine(level="bad", what="profile", how="not usable", said=str(error))
            wrong.append(NightPage(service=name, title=name, lines=(line,)))
            continue
        if (neighbour.state_directory / name).is_dir():
            neighbours.append(neighbour)
    return tuple(neighbours), tuple(wrong)


def observe_night(profile: ServiceProfile, since: datetime, now: datetime) -> SeenNight:
    """Given a service and since when, return all that can be seen of its hours."""
    return SeenNight(
        runs=see(lambda: observe_runs(profile, since, now)),
        repository=see(lambda: observe_repository(profile, now)),
        escalations=see(lambda: list_escalations(profile)),
        going_on=see(lambda: observe_going_on(profile)),
        alerts=see(lambda: observe_alerts(profile, list_services(services_folder()), since)),
        half_done=see(lambda: list_open_journals(profile)),
    )


def see(look: Callable[[], _Seen]) -> _Seen | Unknown:
    """Return what is seen, or why it cannot be."""
    try:
        return look()
    except RunbookError as error:
        return Unknown(why=str(error))
