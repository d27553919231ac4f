"""Runbook rows I8, I28 and P17: back up a service's database and application files, provably."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.backup_judgement import describe_backup, judge_set, list_good_sets
from flows.decisions.backup_plan import check_drift, plan_backup, plan_retention_around
from flows.decisions.emptied_parts import SETS_TO_COMPARE, find_emptied
from flows.late_starting import start
from tasks import backup_sets
from tasks.artifacts import (
    publish_findings,
    publish_history,
    publish_plan,
    publish_retention,
    publish_saved,
)
from tasks.conclusion import failing_in_one_sentence
from tasks.database_source import DatabaseSource, open_source
from tasks.errors import DamagedSetError, RefusedError, RunbookError
from tasks.leases import HeldLease
from tasks.profiles import load_service
from tasks.records.backup import Manifest, RepositoryState
from tasks.records.plans import BackupOrder, BackupPlan, PlannedPart
from tasks.records.service import ServiceProfile
from tasks.run_context import Run, observe_run, read_clock
from tasks.saving import save_set
from tasks.verification import reread_manifest, reread_set


@flow(name="nightly-backup", flow_run_name="{service}")
@failing_in_one_sentence
def nightly_backup(
    service: str,
    dry_run: bool = False,
    accept_changed_size: bool = False,
    allow_deletes: int | None = None,
) -> State[Any]:
    """Back up a service's database and application files, verify every byte, and apply retention.

    Trigger: every night at 02:00 in the service's time zone, or by hand.

    Preconditions: the database and the store answer, and nobody else works on the service's repository.

    Steps: load the profile; judge whether the run is too late; hold the repository's lease; delete what
    killed runs left unpublished; hold one moment of the database; show the plan; save every part; publish the
    manifest; re-read every byte; delete what retention no longer keeps; conclude.

    Rollback: none is needed. Until the manifest is published there is no new set, and older sets are touched
    only after the new one is verified. What a killed run left behind is collected by the next one.

    Args:
        service: The service's name, as in its profile.
        dry_run: Show the plan and stop: nothing is written, nothing deleted.
        accept_changed_size: Say that a set far from the usual size is right this time.
        allow_deletes: Let retention delete up to so many sets this time, instead of the profile's cap.
    """
    profile = load_service(service)
    run = observe_run()
    lateness, skipped = start(profile, run, profile.backup)
    if skipped is not None:
        return skipped
    order = BackupOrder(
        kind="nightly",
        reason=lateness,
        dry_run=dry_run,
        accept_changed_size=accept_changed_size,
        allow_deletes=allow_deletes,
    )
    return back_up(profile, run, order)


@flow(name="emergency-backup", flow_run_name="{service}: {reason}")
@failing_in_one_sentence
def emergency_backup(service: str, reason: str, dry_run: bool = False) -> State[Any]:
    """Back up a service at once, before something risky, and pin the set so that retention leaves it alone.

    Trigger: by hand.

    Preconditions: the database and the store answer, and nobody else works on the service's repository.

    Steps: as the nightly backup; the set is pinned with the reason before it is published.

    Rollback: as the nightly backup. To let retention have the set later, delete its pin in the repository.

    Args:
        service: The service's name, as in its profile.
        reason: Why the set is kept, such as "before migration 42".
        dry_run: Show the plan and stop: nothing is written, nothing deleted.
    """
    profile = load_service(service)
    return back_up(profile, observe_run(), BackupOrder(kind="emergency", reason=reason, dry_run=dry_run))


def back_up(profile: ServiceProfile, run: Run, order: BackupOrder) -> State[Any]:
    """Carry the order out; the final state's message is one sentence to read aloud."""
    with ExitStack() as held:
        holding = backup_sets.hold_repository(profile, purpose=f"{order.kind} backup", holder=run.name)
        lease = None if order.dry_run else held.enter_context(holding)
        # Whoever waited for the lease begins now: the set's age is that of its data.
        run = run.model_copy(update={"started": read_clock()})
        if lease is not None:
            backup_sets.clear_left_behind(profile, lease)
        history = backup_sets.observe_repository(profile, run.started)
        with open_source(profile, backup_sets.read_newest_manifest(profile, history)) as source:
            plan = _plan(profile, run, order, history, source)
            publish_plan(plan, zone=profile.zone, runbook=f"{order.kind}-backup")
            if plan.refusal is not None:
                raise RefusedError(plan.refusal)
            if lease is None:
                return Completed(message=f"{profile.name}: dry run, the plan is shown and nothing was done.")
            manifest = save_set(profile, source, order, plan.set_id, run.started)
        lease.check()
        backup_sets.publish_set(profile, manifest)
        publish_saved(manifest, runbook=f"{order.kind}-backup")
        _verify(profile, order, manifest, history)
        with _saying_that_it_is_saved(profile):
            kept = _apply_retention(profile, run, order, plan, lease)
    took = (read_clock() - run.started).total_seconds()
    return Completed(message=describe_backup(manifest, len(plan.retention.deletes), kept, seconds=took))


def _plan(
    profile: ServiceProfile, run: Run, order: BackupOrder, history: RepositoryState, source: DatabaseSource
) -> BackupPlan:
    set_id = backup_sets.name_set(profile, order.kind, run.started)
    application = PlannedPart(str(profile.application.directory), "application", None, None)
    retention = plan_retention_around(profile, order, history, set_id, run.started)
    parts = (*source.parts, application)
    return plan_backup(profile, parts, retention, set_id, source.consistency.explanation, order.reason)


def _verify(
    profile: ServiceProfile, order: BackupOrder, manifest: Manifest, history: RepositoryState
) -> None:
    """Prove what was published from outside, by reading it all back; raise if anything is wrong with it."""
    began = read_clock()
    findings = (
        *judge_set(
            manifest, history.sets, profile.backup.size_factor, accept_changed_size=order.accept_changed_size
        ),
        *(() if order.accept_changed_size else _find_emptied(profile, manifest, history)),
        *reread_manifest(manifest, backup_sets.locate_set(profile, manifest.set_id)),
        *reread_set(profile, manifest),
    )
    backup_sets.record_verdict(profile, manifest, "reread", findings, began)
    if findings:
        publish_findings(profile.name, manifest.set_id, findings, runbook=f"{order.kind}-backup")
        raise DamagedSetError(
            f"{profile.name}: set {manifest.set_id} is not good, nothing was deleted. " + " ".join(findings)
        )


def _find_emptied(profile: ServiceProfile, manifest: Manifest, history: RepositoryState) -> tuple[str, ...]:
    good = list_good_sets(manifest.set_id, history.sets)[:SETS_TO_COMPARE]
    before = [backup_sets.read_manifest(profile, found.set_id) for found in good]
    return find_emptied(manifest, before, [rule.source for rule in profile.cleanup.rules if rule.may_empty])


@contextmanager
def _saying_that_it_is_saved(profile: ServiceProfile) -> Generator[None]:
    """Say of what fails in the block that tonight's backup is good: only old sets are left that should go."""
    try:
        yield
    except RunbookError as error:
        how = "was refused" if isinstance(error, RefusedError) else "did not end"
        said = f"{profile.name}: saved and verified, but retention {how}. {error}"
        raise type(error)(said) from error


def _apply_retention(
    profile: ServiceProfile, run: Run, order: BackupOrder, plan: BackupPlan, lease: HeldLease
) -> int:
    """Delete exactly what the plan showed, or nothing; return how many sets are kept."""
    state = backup_sets.observe_repository(profile, read_clock())
    fresh = plan_retention_around(profile, order, state, plan.set_id, run.started)
    refusal = plan.retention.refusal or check_drift(plan.retention, fresh)
    if refusal is not None:
        publish_retention(plan.retention, applied=False, zone=profile.zone)
        raise RefusedError(refusal)
    for set_id in plan.retention.deletes:
        lease.check()
        backup_sets.delete_set(profile, set_id)
    for set_id in fresh.collect:
        lease.check()
        backup_sets.collect_unfinished(profile, set_id)
    backup_sets.discard_unfinished_writes(profile, read_clock())
    if order.kind == "nightly":
        publish_retention(fresh, applied=True, zone=profile.zone)
    remaining = tuple(found for found in state.sets if found.set_id not in plan.retention.deletes)
    publish_history(profile.name, remaining, profile.zone)
    return len(remaining)
