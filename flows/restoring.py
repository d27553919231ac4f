"""What restore-database and corruption-recovery do alike: apply a restore's plan, or put everything back."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flows.decisions.comparison import compare_asleep, compare_restored
from flows.decisions.drift import find_drift
from flows.decisions.refusal import Refusal
from flows.decisions.restore_plan import RestoreFacts, RestorePlan, plan_restore, say_restored
from flows.restore_saving import SAVED, save_if_served
from tasks import backup_sets
from tasks.application_commands import run_application_command
from tasks.artifacts import publish_done
from tasks.errors import DamagedSetError, RefusedError, RunbookError, UnreachableError
from tasks.http_probe import await_health, probe_login
from tasks.journal import Journal, list_open_journals
from tasks.leases import HeldLease
from tasks.mutation import read_begun_plan
from tasks.process_manager import observe_application, start_application, stop_application
from tasks.records.backup import Manifest
from tasks.records.service import ServiceProfile
from tasks.safety_backup import save_what_is_there
from tasks.swapping import SwapServer
from tasks.verification import reread_set


def observe(profile: ServiceProfile, server: SwapServer, set_id: str) -> RestoreFacts:
    """Given a set, read all of it back, and look at what is there now."""
    manifest = backup_sets.read_manifest(profile, set_id)
    findings = reread_set(profile, manifest)
    # Before the databases: whose journal is closed by then has left none behind.
    half_done = list_open_journals(profile)
    return _look(server, manifest, findings, half_done)


def _look(
    server: SwapServer, manifest: Manifest, findings: tuple[str, ...], half_done: tuple[str, ...]
) -> RestoreFacts:
    return RestoreFacts(
        manifest,
        findings,
        server.real,
        server.identify(),
        server.list_databases(),
        half_done,
        server.observe_replication(),
    )


def required(chosen: str | Refusal) -> str:
    """Return the chosen set, or raise the reason why there is none."""
    if isinstance(chosen, Refusal):
        raise RefusedError(chosen.reason)
    return chosen


def apply_restore(
    profile: ServiceProfile, server: SwapServer, plan: RestorePlan, journal: Journal, lease: HeldLease
) -> str:
    """Given the repository's lease, apply exactly the plan, up to the proof; say what was done."""
    manifest = _recheck(profile, server, plan)
    _restore_beside(profile, server, plan, manifest, journal)
    saved = _swap_and_prove(profile, server, plan, manifest, journal, lease)
    return say_restored(plan, manifest, saved, journal.entries[-1].at - _stopped_at(journal))


def finish(
    profile: ServiceProfile, server: SwapServer, plan: RestorePlan, journal: Journal, said: str
) -> None:
    """Drop the old data, show what was done, and leave nothing to finish."""
    drop_old(profile, server, plan)
    publish_done(plan, said, journal.entries, profile.zone)
    journal.close(said)


def put_back(profile: ServiceProfile, server: SwapServer, journal: Journal) -> str:
    """Undo what the journal says, or finish it once the new data was proven; say which, and close it."""
    plan = read_begun_plan(journal, RestorePlan)
    if journal.has("proven"):
        drop_old(profile, server, plan)
        journal.close("The new data had been proven: it stays, and what was left of the old was dropped.")
        return journal.outcome
    stopping = journal.find("stopping")
    if stopping is not None:
        stop_application(profile)
    if journal.has("setting-aside"):
        server.swap_back(plan.beside, plan.aside, journal)
    saved = journal.find(SAVED)
    kept = f" What was written into the restored data is in set {saved.facts['set_id']}." if saved else ""
    again = _start_again(profile, stopping.facts if stopping else None)
    # Only now: the application serves again, whatever becomes of what was restored.
    left = _drop_beside(server, plan) if journal.has("restoring") else ""
    journal.close(f"The data is as it was.{kept}{again}{left}")
    return journal.outcome


def drop_old(profile: ServiceProfile, server: SwapServer, plan: RestorePlan) -> None:
    """Drop the old data: the new is proven, and stays whatever becomes of the old."""
    try:
        server.drop(plan.aside)
    except RunbookError as error:
        raise RunbookError(
            f"{profile.name}: the database {plan.real} is set {plan.set_id} again, live and proven, but the "
            f"old data in {plan.aside} could not be dropped: {error} When that is mended, start "
            f"{plan.runbook} again: it drops the old data and does nothing else."
        ) from error


def _drop_beside(server: SwapServer, plan: RestorePlan) -> str:
    """Drop what was restored; say so if that is refused, for the next restore drops it first of all."""
    try:
        server.drop(plan.beside)
    except RunbookError as error:
        return f" The restored data in {plan.beside} could not be dropped: {error} The next restore drops it."
    return ""


def _start_again(profile: ServiceProfile, stopping: dict[str, Any] | None) -> str:
    """Bring the application back to what it was; an outage that was there before is not a failure to undo."""
    if stopping is None:
        return ""
    if not stopping["was_running"]:
        return " The application was stopped before, and is."
    start_application(profile)
    try:
        await_health(profile)
    except UnreachableError as error:
        return f" The application was started and is not healthy: {error}"
    return " The application runs and is healthy."


def _recheck(profile: ServiceProfile, server: SwapServer, plan: RestorePlan) -> Manifest:
    """Raise if what the plan rests on has changed since it was shown; return the set's manifest."""
    manifest = backup_sets.read_manifest(profile, plan.set_id)
    # What the set holds was read back before the plan was shown, and is again while it is restored.
    # Nobody else is under way: the service is held.
    facts = _look(server, manifest, (), ())
    fresh = plan_restore(profile, facts, "" if plan.saves_first else profile.name, plan.runbook)
    if (drift := find_drift(plan, fresh)) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    return manifest


def _restore_beside(
    profile: ServiceProfile, server: SwapServer, plan: RestorePlan, manifest: Manifest, journal: Journal
) -> None:
    journal.write("restoring", beside=plan.beside)
    for leftover in plan.leftovers:
        server.drop(leftover)
    server.restore_beside(plan.beside, manifest, backup_sets.locate_set(profile, plan.set_id))
    _require_same(plan.beside, manifest, compare_asleep(manifest, server.observe(plan.beside)))


def _swap_and_prove(  # noqa: PLR0913, PLR0917  all that a swap rests on
    profile: ServiceProfile,
    server: SwapServer,
    plan: RestorePlan,
    manifest: Manifest,
    journal: Journal,
    lease: HeldLease,
) -> str:
    """Return the id of the set that what was there before went into, or an empty text."""
    if not journal.has("stopping"):
        journal.write("stopping", was_running=not observe_application(profile).stopped)
    stop_application(profile)
    saved = _save_first(profile, plan, journal, lease) if plan.saves_first else ""
    lease.check()
    server.swap_in(plan.beside, plan.aside, journal)
    moved = server.observe_moved(manifest, backup_sets.locate_set(profile, plan.set_id))
    if moved is not None:
        _require_same(plan.real, manifest, compare_restored(manifest, moved))
    run_application_command(profile, profile.application.migrate_command, "migrate the database")
    # From here on users may write into it: after a kill it is saved, or proven, and not just undone.
    journal.write("starting")
    start_application(profile)
    await_health(profile)
    if (problem := probe_login(profile)) is not None:
        raise RefusedError(f"{profile.name}: the application runs with the restored data, but {problem}")
    journal.write("proven")
    return saved


def _save_first(profile: ServiceProfile, plan: RestorePlan, journal: Journal, lease: HeldLease) -> str:
    journal.write("saving")
    try:
        return save_what_is_there(profile, f"before {plan.runbook} to {plan.set_id}", lease).set_id
    except RunbookError as error:
        raise RefusedError(
            f"{profile.name}: what is there now cannot be saved. {error} To restore all the same, and lose "
            f"it, type {profile.name} in nothing_to_save."
        ) from error


def _require_same(database: str, manifest: Manifest, differences: tuple[str, ...]) -> None:
    if differences:
        raise DamagedSetError(f"{database} is not what set {manifest.set_id} holds. {' '.join(differences)}")


def _stopped_at(journal: Journal) -> datetime:
    stopping = journal.find("stopping")
    return stopping.at if stopping else journal.entries[-1].at


@contextmanager
def putting_back(
    profile: ServiceProfile, server: SwapServer, journal: Journal, lease: HeldLease
) -> Generator[None]:
    """Put everything back if the block fails, and say so; a killed run leaves that to the next one.

    What users may have written into the restored data is saved first, unless somebody cancels the run:
    Prefect waits half a minute for that.
    """
    try:
        yield
    except RunbookError as failure:
        try:
            save_if_served(profile, journal, lease)
            outcome = put_back(profile, server, journal)
        except RunbookError as error:
            raise RunbookError(
                f"{failure} Putting things back failed as well: {error} When that is mended, start "
                f"{journal.runbook} again: it puts that right first."
            ) from failure
        raise type(failure)(f"{failure} {outcome}") from failure
    except BaseException:
        put_back(profile, server, journal)
        raise


@contextmanager
def holding_set(
    profile: ServiceProfile, server: SwapServer, plan: RestorePlan, journal: Journal, lease: HeldLease
) -> Generator[None]:
    """Hold the plan's set while the block applies it, and put everything back if either fails."""
    with (
        putting_back(profile, server, journal, lease),
        backup_sets.hold_set(profile, plan.set_id, purpose=plan.runbook, holder=lease.lease.holder),
    ):
        yield
