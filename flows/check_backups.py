"""Runbook row I21: say every morning whether the backups can be relied on. It changes nothing."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.backup_freshness import describe_freshness, judge_freshness
from flows.decisions.missed_backup import judge_schedule, settle_by
from tasks.artifacts import publish_history
from tasks.backup_sets import observe_repository
from tasks.conclusion import failing_in_one_sentence
from tasks.prefect_runs import list_due_backups
from tasks.profiles import load_service
from tasks.run_context import read_clock


@flow(name="check-backups", flow_run_name="{service}")
@failing_in_one_sentence
def check_backups(service: str) -> State[Any]:
    """Fail when a service's backups cannot be relied on, with a sentence for each reason.

    Trigger: every day at 06:00 in the service's time zone, when the nightly backup should long be done; or
    by hand.

    Preconditions: the store answers.

    Steps: load the profile; look at every set; show them; judge the newest set's age and re-read, the newest
    restore drill's age, drills that failed since, and whether the backup that was due last left a set.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile = load_service(service)
    now = read_clock()
    state = observe_repository(profile, now)
    publish_history(profile.name, state.sets, profile.zone, runbook="check-backups")
    complaints = judge_freshness(state, profile.backup.drill_every, now)
    if state.sets:
        due = list_due_backups(profile, settle_by(state, profile.backup.late_after, now))
        complaints += judge_schedule(state, due, now)
    if complaints:
        return Failed(message=f"{service}: {' '.join(complaints)}")
    return Completed(message=describe_freshness(state, now))
