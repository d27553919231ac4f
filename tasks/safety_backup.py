"""Save what is there before a runbook replaces it: no judgement and no retention, but every byte re-read."""

from datetime import UTC, datetime

from tasks import backup_sets
from tasks.database_source import open_source
from tasks.errors import DamagedSetError
from tasks.leases import HeldLease
from tasks.records.backup import Manifest
from tasks.records.plans import BackupOrder
from tasks.records.service import ServiceProfile
from tasks.saving import save_set
from tasks.verification import reread_manifest, reread_set


def save_what_is_there(profile: ServiceProfile, reason: str, lease: HeldLease) -> Manifest:
    """Given the repository's lease, publish a pinned set of the service as it is now; return its manifest.

    A database that is empty or of an unusual size is saved as it is: that may be why it is replaced. Raise
    ``DamagedSetError`` if the set does not read back as it was written.
    """
    began = datetime.now(UTC)
    order = BackupOrder(kind="safety", reason=reason, dry_run=False)
    set_id = backup_sets.name_set(profile, order.kind, began)
    backup_sets.clear_left_behind(profile, lease)
    with open_source(profile, None) as source:
        manifest = save_set(profile, source, order, set_id, began)
    lease.check()
    backup_sets.publish_set(profile, manifest)
    location = backup_sets.locate_set(profile, set_id)
    findings = reread_manifest(manifest, location) + reread_set(profile, manifest)
    backup_sets.record_verdict(profile, manifest, "reread", findings, began)
    if findings:
        raise DamagedSetError(f"{profile.name}: set {set_id} is not good. {' '.join(findings)}")
    return manifest
