"""A scheduled run that starts late does what the profile says: after an outage all of them start at once."""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.decisions.lateness import judge_lateness
from tasks.records.service import ServiceProfile
from tasks.run_context import Run


def skip_late(profile: ServiceProfile, run: Run) -> State[Any] | None:
    """Given a run at its start, return how it ends if it is late and the profile skips late ones."""
    began = run.first_started or run.started
    lateness = judge_lateness(run.due, began, profile.runs.late_after, profile.runs.when_late)
    if lateness.verdict != "skip":
        return None
    return Cancelled(name="Skipped", message=f"{profile.name}: {lateness.sentence}")
