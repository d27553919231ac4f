"""Look at a service's store itself: is there what the schedule should have left, young and proven?"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from deployments.watch.complaints import Complaint
from flows.decisions.backup_freshness import judge_freshness
from flows.decisions.missed_backup import judge_schedule, settle_by
from tasks.backup_sets import open_repository
from tasks.errors import RunbookError
from tasks.prefect_runs import list_due
from tasks.records.service import ServiceProfile

# A schedule that has nothing due in so many days is for people to look at.
_LOOKED_BACK: Final = timedelta(days=8)


def look_at_backups(profile: ServiceProfile, now: datetime) -> Iterator[Complaint]:
    """Given a service, yield what its store complains of; a store that does not answer is one of these."""
    try:
        state = open_repository(profile).state(now)
    except RunbookError as error:
        yield Complaint("the store", f"The backups cannot be looked at: {error}")
        return
    until = settle_by(state, profile.backup.late_after, now)
    schedule = {"cron": profile.backup.schedule, "timezone": profile.time_zone}
    due = list_due(schedule, until - _LOOKED_BACK, until)
    for sentence in (
        *judge_schedule(state, due, now),
        *judge_freshness(state, profile.backup.drill_every, now),
    ):
        yield Complaint.of(sentence)
