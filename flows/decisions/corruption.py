"""Which set a corrupt database goes back to, and what its recovery means to do."""

from datetime import datetime, timedelta

from flows.decisions.refusal import Refusal
from flows.decisions.restore_plan import RestorePlan
from tasks.records.backup import RepositoryState, SetSummary
from tasks.records.runbook_plan import PlannedAct


def choose_set_before(state: RepositoryState, damaged_since: datetime | None) -> str | Refusal:
    """Given when the damage began, or None if nobody knows, return the newest verified set from before it.

    It was complete by then: what was read after the damage may have it, also as of a moment before.

    A set that failed a drill is none to go back to, whatever else it passed.
    """
    sound = [
        found
        for found in state.sets
        if found.kind != "safety"
        and found.reread_passed
        and found.drill_passed is not False
        and (damaged_since is None or _ended(found) < damaged_since)
    ]
    if sound:
        return max(sound, key=lambda found: (found.created_at, found.set_id)).set_id
    when = "" if damaged_since is None else f" from before {damaged_since:%Y-%m-%d %H:%M %Z}"
    return Refusal(
        f"{state.service} has no verified set{when}. Look at its sets with a dry run of restore-database, "
        "and name one there."
    )


def _ended(found: SetSummary) -> datetime:
    return found.created_at + timedelta(seconds=found.seconds)


def plan_recovery(plan: RestorePlan, process: str) -> RestorePlan:
    """Given the plan of the restore, put the examination before it."""
    examination = PlannedAct(
        what=f"Stop {process} and examine every collection or table of {plan.real}",
        why="Nobody writes into damaged data; and where nothing is damaged, nothing is restored",
        undo=f"Start {process}",
    )
    return plan.model_copy(
        update={
            "summary": f"Examine {plan.real}. If it is damaged: {plan.summary}",
            "acts": (examination, *plan.acts),
        }
    )
