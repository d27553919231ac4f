"""What users may have written into restored data is saved in a pinned set before the old data returns."""

from contextlib import AbstractContextManager, nullcontext

from prefect.logging import get_run_logger

from flows.decisions.restore_plan import RestorePlan
from tasks.errors import RefusedError, RunbookError
from tasks.http_probe import observe_health
from tasks.journal import Journal
from tasks.leases import HeldLease
from tasks.mutation import read_begun_plan
from tasks.process_manager import start_application, stop_application
from tasks.records.service import ServiceProfile
from tasks.safety_backup import save_what_is_there

SAVED = "saved-before-putting-back"


def save_if_served(profile: ServiceProfile, journal: Journal, lease: HeldLease) -> None:
    """Given a restore that failed, save what users may have written since the application was started.

    Where nobody listens on its port nobody could, and the old data returns the sooner. Raise as ``save_new``.
    """
    if not journal.has("starting") or journal.has("proven"):
        return
    if all(answer.failure == "refused" for answer in observe_health(profile).answers):
        return
    plan = read_begun_plan(journal, RestorePlan)
    stop_application(profile)
    save_new(profile, plan, journal, nullcontext(lease), running=True, needed=plan.saves_first)


def save_new(  # noqa: PLR0913  what is saved, and what becomes of the application if it cannot be
    profile: ServiceProfile,
    plan: RestorePlan,
    journal: Journal,
    repository: AbstractContextManager[HeldLease],
    *,
    running: bool,
    needed: bool,
) -> None:
    """Save what was written into the restored data; raise ``RefusedError`` if that is needed and fails."""
    try:
        with repository as lease:
            reason = f"before the restore of {plan.set_id} is undone"
            saved = save_what_is_there(profile, reason, lease).set_id
    except RunbookError as error:
        if not needed:
            get_run_logger().warning("What was written since the restore is not saved: %s", error)
            return
        if running:
            start_application(profile)
        raise RefusedError(
            f"{profile.name}: {plan.runbook} left {plan.real} with restored data, and what was "
            f"written into it since cannot be saved. {error} Nothing was put back"
            f"{', and the application is started again' if running else ''}. Mend that and start "
            f"{plan.runbook} again; to put the old data back all the same, and lose what was written, type "
            f"{profile.name} in nothing_to_save."
        ) from error
    journal.write(SAVED, set_id=saved)
