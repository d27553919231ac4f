"""Look at a service's store itself: is there what the schedule should have left, young and proven?"""

from collections.abc import Iterator
from datetime import datetime

from deployments.watch.complaints import Complaint
from flows.decisions.backup_freshness import judge_freshness
from flows.decisions.missed_backup import judge_schedule, settle_by
from tasks.backup_sets import open_repository
from tasks.errors import ConfigurationError, RunbookError
from tasks.prefect_runs import list_due_backups
from tasks.records.service import ServiceProfile


def look_at_backups(profile: ServiceProfile, now: datetime) -> Iterator[Complaint]:
    """Given a service, yield what its store complains of; a store that does not answer is one of these."""
    try:
        state = open_repository(profile).state(now)
    except RunbookError as error:
        yield Complaint("the store", f"The backups cannot be looked at: {error}")
        return
    try:
        due = list_due_backups(profile, settle_by(state, profile.backup.late_after, now))
    except ConfigurationError as error:
        due = ()
        yield Complaint("the schedule", str(error))
    for sentence in (
        *judge_schedule(state, due, now),
        *judge_freshness(state, profile.backup.drill_every, now),
    ):
        yield Complaint.of(sentence)
