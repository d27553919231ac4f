"""Runbook row I23 backwards: give back what a cleanup took out, byte for byte."""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.archive_restore import (
    RUNBOOK,
    ArchivePlan,
    choose_archive,
    describe_restored,
    is_whole,
    plan_archive_restore,
)
from flows.decisions.drift import find_drift
from flows.decisions.refusal import Refusal
from tasks.approval import approve, remember_plan
from tasks.archive_rendering import publish_archives
from tasks.archive_restoring import compare_archive, insert_part, observe_archives
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError, RunbookError
from tasks.journal import Journal
from tasks.mutation import mutating, settling
from tasks.profiles import load_service
from tasks.records.archive_restore import ArchiveComparison
from tasks.records.service import ServiceProfile
from tasks.run_context import Run, observe_run

INSERTING = "inserting part"


@flow(name=RUNBOOK, flow_run_name="{service}: {rule}, {archive}")
@failing_in_one_sentence
def restore_archive(service: str, rule: str, archive: str = "latest", dry_run: bool = False) -> State[Any]:
    """Give back what a cleanup rule took out: insert what is not there, and change nothing else.

    Trigger: by hand, when something is needed again that audit-log-cleanup took out.

    Preconditions: the store and the database answer; the collection or table is there.

    Steps: list the rule's archives and choose one; read all of it back; compare each entry with what is
    there; show the plan; wait for approval where the profile asks for it; insert what is missing, part by
    part; read the archive and the database again, and compare them to the byte.

    Rollback: none is needed, nothing is overwritten: an entry whose place something else has taken is named
    and left out, and the run fails. A killed run is started again and inserts what is still missing.

    Args:
        service: The service's name, as in its profile.
        rule: The name of the cleanup rule that made the archive.
        archive: "latest", or the id of an archive.
        dry_run: Show the archives and the plan, and stop.
    """
    profile, run = load_service(service), observe_run()
    if not dry_run:
        _settle(profile, run)
    plan = remember_plan(_observe_and_plan(profile, rule, archive))
    publish_runbook_plan(plan)
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    if not plan.acts:
        return _conclude(plan, plan.before, plan.before.examples)
    approve(profile, plan, run)
    with mutating(profile, run, plan) as journal:
        return _apply(profile, plan, journal)


def _observe_and_plan(profile: ServiceProfile, rule: str, wanted: str) -> ArchivePlan:
    """Choose the archive, read it back in full, and compare it with what is there."""
    found = observe_archives(profile, rule)
    chosen = choose_archive(profile, rule, found, wanted)
    if isinstance(chosen, Refusal):
        publish_archives(profile, rule, found, "")
        raise RefusedError(chosen.reason)
    compared = compare_archive(profile, chosen)
    publish_archives(profile, rule, found, chosen.archive_id)
    return plan_archive_restore(profile, chosen, compared)


def _settle(profile: ServiceProfile, run: Run) -> None:
    """Close what a killed run left open: what it inserted is of an archive, and the rest is still missing."""
    with settling(profile, run, RUNBOOK) as journal:
        if journal is not None:
            journal.close("What had been inserted stays; what was missing is inserted by the next run.")


def _apply(profile: ServiceProfile, plan: ArchivePlan, journal: Journal) -> State[Any]:
    """Insert what is missing, part by part, and prove it; a part is in the journal before it is begun."""
    manifest = plan.manifest
    fresh = plan_archive_restore(profile, manifest, compare_archive(profile, manifest))
    if (drift := find_drift(plan, fresh)) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    otherwise: list[str] = []
    try:
        for part in manifest.parts:
            journal.write(INSERTING, number=part.number)
            otherwise += insert_part(profile, manifest, part)
        after = compare_archive(profile, manifest)
    except RunbookError as error:
        said = "What had been inserted by then stays: start restore-archive again, it inserts the rest."
        if len(journal.entries) > 1:
            journal.close(said)
        raise RunbookError(f"{error} {said}") from error
    state = _conclude(plan, after, otherwise)
    publish_done(plan, state.message or "", journal.entries, profile.zone)
    journal.close(state.message or "")
    return state


def _conclude(plan: ArchivePlan, after: ArchiveComparison, otherwise: Sequence[str]) -> State[Any]:
    said = describe_restored(plan, after, otherwise)
    return Completed(message=said) if is_whole(after) else Failed(message=said)
