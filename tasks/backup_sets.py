"""The repository of backup sets as tasks: observe, publish, pin, delete, and the lease around it all."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

from prefect.logging import get_run_logger

from tasks.backup_layout import Layout
from tasks.backup_manifest import hash_manifest
from tasks.backup_repository import BackupRepository
from tasks.errors import RunbookError, StoreFullError
from tasks.leases import HeldLease, hold_lease
from tasks.opening_stores import open_store
from tasks.records.backup import Manifest, RepositoryState, Verification
from tasks.records.service import ServiceProfile
from tasks.retrying import retried
from tasks.set_folder import SetLocation

# Long enough for a backup that is under way to end, short enough for somebody to notice in the morning.
_LONGEST_WAIT = timedelta(hours=2)
_UNFINISHED_WRITE_GRACE = timedelta(hours=24)


def open_repository(profile: ServiceProfile) -> BackupRepository:
    """Given a service, return its repository of backup sets."""
    return BackupRepository(open_store(profile.backup.destination), profile.name)


def name_set(profile: ServiceProfile, kind: str, now: datetime) -> str:
    """Given what makes a set and when, return an id that no other set has; ids sort by time."""
    return open_repository(profile).new_set_id(kind, now)


def locate_set(profile: ServiceProfile, set_id: str) -> SetLocation:
    """Given a service and a set, return where the set's objects lie."""
    folder = Layout(profile.name).set_folder(set_id).removesuffix("/")
    return SetLocation(destination=profile.backup.destination, folder=folder)


@contextmanager
def hold_repository(profile: ServiceProfile, *, purpose: str, holder: str) -> Generator[HeldLease]:
    """Hold the lease that keeps two backups, and retention, of one service apart, across hosts."""
    with _wait_and_hold(profile, "repository", purpose, holder) as lease:
        yield lease


@contextmanager
def hold_drills(profile: ServiceProfile, *, purpose: str, holder: str) -> Generator[HeldLease]:
    """Hold the lease that keeps two drills of one service apart: each drops the databases that it finds."""
    with _wait_and_hold(profile, "drills", purpose, holder) as lease:
        yield lease


@contextmanager
def _wait_and_hold(profile: ServiceProfile, name: str, purpose: str, holder: str) -> Generator[HeldLease]:
    """Hold a lease; who waits for it sees in the run's log whom for."""
    with hold_lease(
        open_store(profile.backup.destination),
        profile.name,
        name,
        purpose=purpose,
        holder=holder,
        wait=_LONGEST_WAIT,
        on_wait=get_run_logger().warning,
    ) as lease:
        yield lease


@contextmanager
def hold_set(profile: ServiceProfile, set_id: str, *, purpose: str, holder: str) -> Generator[HeldLease]:
    """Hold the lease that keeps retention away from one set."""
    store = open_store(profile.backup.destination)
    with hold_lease(store, profile.name, f"set-{set_id}", purpose=purpose, holder=holder) as lease:
        yield lease


@retried
def observe_repository(profile: ServiceProfile, now: datetime) -> RepositoryState:
    """Given a service, return every set that its repository holds and what is unfinished there."""
    return open_repository(profile).state(now)


@retried
def read_manifest(profile: ServiceProfile, set_id: str) -> Manifest:
    """Given a set, return its manifest; raise ``DamagedSetError`` if it is none."""
    return open_repository(profile).read_manifest(set_id)


def read_newest_manifest(profile: ServiceProfile, state: RepositoryState) -> Manifest | None:
    """Given what the repository holds, return the newest set's manifest, or None if there is no set."""
    if not state.sets:
        return None
    return read_manifest(profile, max(state.sets, key=lambda found: found.created_at).set_id)


@retried
def publish_set(profile: ServiceProfile, manifest: Manifest) -> None:
    """Given a manifest whose objects are all there, write it: from now on the set is a backup.

    Any but a nightly set is pinned first, so that it never stands unprotected.
    """
    reason = None if manifest.kind == "nightly" else manifest.reason
    try:
        open_repository(profile).publish(manifest, pinned=reason)
    except StoreFullError:
        abandon_set(profile, manifest.set_id)
        raise


@retried
def record_verdict(
    profile: ServiceProfile,
    manifest: Manifest,
    kind: Literal["reread", "drill"],
    findings: tuple[str, ...],
    began: datetime,
) -> Verification:
    """Given what a verification that began then found, write it beside the set and return it.

    No finding is a pass. The manifest is never touched again: a reread's verdict says by which bytes it is
    known.
    """
    ended = datetime.now(UTC)
    verdict = Verification(
        set_id=manifest.set_id,
        kind=kind,
        verified_at=ended,
        passed=not findings,
        findings=findings,
        seconds=(ended - began).total_seconds(),
        manifest_sha256=hash_manifest(manifest) if kind == "reread" else None,
    )
    open_repository(profile).record_verification(verdict)
    return verdict


@retried
def delete_set(profile: ServiceProfile, set_id: str) -> None:
    """Given a set, delete it: tombstone, manifest, data. A run killed in between is finished by the next.

    Raise ``RefusedError`` if it is pinned or leased by now.
    """
    open_repository(profile).delete_set(set_id, unless_leased=True)


@retried
def collect_unfinished(profile: ServiceProfile, set_id: str) -> None:
    """Given a folder that is no backup, delete what a killed run left in it."""
    open_repository(profile).collect_unfinished(set_id)


def clear_left_behind(profile: ServiceProfile, lease: HeldLease) -> None:
    """Given the repository's lease, before anything is saved, delete what killed runs left: it takes room.

    What cannot be deleted is no reason not to back up: the log says so.
    """
    lease.check()
    try:
        left = collect_left_behind(profile)
    except RunbookError as error:
        get_run_logger().warning("What killed runs left in the repository was not deleted: %s", error)
        return
    if left:
        get_run_logger().info("Deleted what killed runs left in the repository: %s", ", ".join(left))


@retried
def collect_left_behind(profile: ServiceProfile) -> tuple[str, ...]:
    """Given that its lease is held and nothing saved yet, delete what killed runs left; return the sets."""
    return open_repository(profile).collect_left_behind()


def abandon_set(profile: ServiceProfile, set_id: str) -> None:
    """Delete what this run wrote of a set that will never be published; its failure hides no other.

    What cannot be deleted is collected by the next run.
    """
    try:
        open_repository(profile).collect_unfinished(set_id)
    except RunbookError as error:
        get_run_logger().warning("What was written of set %s was not deleted: %s", set_id, error)


@retried
def discard_unfinished_writes(profile: ServiceProfile, now: datetime) -> int:
    """Throw away what runs that were killed a day ago left half written; return how many."""
    return open_repository(profile).discard_unfinished_writes(now - _UNFINISHED_WRITE_GRACE)
