"""Runbook rows I21 and I29 in part: prove that a backup set restores, without touching the real database."""

from contextlib import ExitStack
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.comparison import compare_restored
from flows.decisions.drill_plan import (
    choose_set,
    is_scratch_database,
    name_scratch_database,
    refuse_long_names,
    refuse_other_kind,
    refuse_scratch_name,
)
from flows.late_starting import skip_late
from flows.restoring import required
from tasks import backup_sets
from tasks.artifacts import publish_drill
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import DamagedSetError, RefusedError
from tasks.leases import HeldLease
from tasks.profiles import load_service
from tasks.records.backup import Manifest
from tasks.records.service import ServiceProfile
from tasks.run_context import observe_run, read_clock
from tasks.scratch_database import ScratchServer, open_scratch_server
from tasks.verification import reread_set


@flow(name="restore-drill", flow_run_name="{service}: {wanted_set}")
@failing_in_one_sentence
def restore_drill(service: str, wanted_set: str = "latest", dry_run: bool = False) -> State[Any]:
    """Restore a backup set into a scratch database beside the real one, compare it, and drop it again.

    Trigger: monthly, or by hand.

    Preconditions: the profile's administrator may create databases on the service's server, which has room
    for a second copy.

    Steps: load the profile; wait for another drill of the service; choose the set; hold a lease on it, so
    that retention leaves it alone; drop what a killed drill left; re-read every object; restore; compare
    counts, hashes, indexes and definitions with the manifest; record the verdict beside the set; drop the
    scratch database; conclude.

    Rollback: the scratch database is dropped however the drill ends; after a kill, by the next drill. The
    real database is never written to.

    Args:
        service: The service's name, as in its profile.
        wanted_set: "latest", "latest-verified", or the id of a set.
        dry_run: Say which set would be restored where, and stop.
    """
    profile = load_service(service)
    run = observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    server = open_scratch_server(profile)
    leases: list[HeldLease] = []
    with ExitStack() as held:
        if not dry_run:
            holding = backup_sets.hold_drills(profile, purpose="restore drill", holder=run.name)
            leases.append(held.enter_context(holding))
        set_id = required(choose_set(backup_sets.observe_repository(profile, read_clock()), wanted_set))
        scratch = name_scratch_database(service, set_id)
        if (refusal := refuse_scratch_name(scratch, server.real_database)) is not None:
            raise RefusedError(refusal.reason)
        if not dry_run:
            holding = backup_sets.hold_set(profile, set_id, purpose="restore drill", holder=run.name)
            leases.append(held.enter_context(holding))
        manifest = backup_sets.read_manifest(profile, set_id)
        refusal = refuse_other_kind(manifest, profile.database.kind) or refuse_long_names(scratch, manifest)
        if refusal is not None:
            raise RefusedError(refusal.reason)
        if dry_run:
            plan = f"set {set_id} would be restored into {scratch}"
            return Completed(message=f"{service}: dry run, {plan}; nothing was done.")
        _drop_leftovers(profile, server)
        differences = reread_set(profile, manifest)
        began = read_clock()
        if not differences:
            differences = _restore_and_compare(profile, server, scratch, manifest)
        seconds = (read_clock() - began).total_seconds()
        for lease in leases:
            # Whoever took one over may have dropped the scratch database, or deleted the set: no damage.
            lease.check()
        verdict = backup_sets.record_verdict(profile, manifest, "drill", differences, run.started)
    publish_drill(manifest, verdict, seconds, differences)
    if differences:
        raise DamagedSetError(f"{service}: set {set_id} failed its restore drill. {' '.join(differences)}")
    return Completed(
        message=f"{service}: set {set_id} was restored in {seconds:.0f} s and is what was saved: "
        f"{manifest.parts} collections or tables, {manifest.entries:,} documents or rows."
    )


def _drop_leftovers(profile: ServiceProfile, server: ScratchServer) -> None:
    """Drop what killed drills of this service left: their names are the fence around everything else."""
    for name in server.list_databases():
        if is_scratch_database(name, profile.name) and name != server.real_database:
            server.drop(name)


def _restore_and_compare(
    profile: ServiceProfile, server: ScratchServer, scratch: str, manifest: Manifest
) -> tuple[str, ...]:
    location = backup_sets.locate_set(profile, manifest.set_id)
    try:
        server.restore(scratch, manifest, location)
        return compare_restored(manifest, server.observe(scratch, manifest, location))
    except DamagedSetError as error:
        return (str(error),)
    finally:
        server.drop(scratch)
