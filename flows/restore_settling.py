"""What a killed restore of a database left: finished where the application works with it, else put back.

Between the start of the application and the proof there may be hours, and users write in them. So what is
there is proven then rather than undone; and what must be undone is saved first.
"""

from prefect.logging import get_run_logger

from flows.decisions.restore_plan import RestorePlan
from flows.restore_saving import SAVED, save_new
from flows.restoring import put_back
from tasks.backup_sets import hold_repository
from tasks.errors import RunbookError
from tasks.http_probe import await_health, probe_login
from tasks.journal import Journal
from tasks.mutation import read_begun_plan, refuse_half_done, settling
from tasks.process_manager import observe_application, stop_application
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.swapping import open_swap_server

# From the first of these on, what users write goes into something else than the old data.
_MOVED = ("left-in-place", "copied", "moved-in")


def settle(
    profile: ServiceProfile, run: Run, runbook: str, *, nothing_to_save: str = "", dry_run: bool = False
) -> str:
    """Finish or undo what a killed run of this runbook left; a dry run is refused until that is done.

    Where it was finished, return the sentence that says so, which ends this run: to restore once more would
    throw away what users wrote since. Return an empty text where nothing is left of it.

    What users may have written into the restored data is saved before the old data returns. Raise
    ``RefusedError`` if it cannot be, unless ``nothing_to_save`` is the service's name.
    """
    if dry_run:
        refuse_half_done(profile, runbook)
        return ""
    with settling(profile, run, runbook) as journal:
        if journal is None:
            return ""
        plan = read_begun_plan(journal, RestorePlan)
        if any(map(journal.has, _MOVED)) and not (journal.has("proven") or journal.has("put-back")):
            needed = nothing_to_save != profile.name
            _prove_or_save(profile, run, plan, journal, needed=needed)
        finished = journal.has("proven")
        put_back(profile, open_swap_server(profile), journal)
    if not finished:
        return ""
    return (
        f"{profile.name}: a killed {runbook} is finished: the database {plan.real} is set {plan.set_id}, "
        "live and proven. Nothing else was done; start it again to restore once more."
    )


def _prove_or_save(
    profile: ServiceProfile, run: Run, plan: RestorePlan, journal: Journal, *, needed: bool
) -> None:
    """Write down that the application works with the restored data, or save what may be new there."""
    running = not observe_application(profile).stopped
    if running and journal.has("starting") and not journal.has("moving-out") and _is_proven(profile):
        journal.write("proven")
    # A host that starts anew may start the application before the run would have, amid a swap as well.
    elif running or (journal.has("starting") and not journal.has(SAVED)):
        stop_application(profile)
        repository = hold_repository(profile, purpose=plan.runbook, holder=run.name)
        save_new(profile, plan, journal, repository, running=running, needed=needed)


def _is_proven(profile: ServiceProfile) -> bool:
    try:
        await_health(profile)
        problem = probe_login(profile)
    except RunbookError as error:
        problem = str(error)
    if problem is not None:
        get_run_logger().warning("The restored data is not proven, the old data returns: %s", problem)
    return problem is None
