"""Which archive is given back, what that means, and whether it was."""

import hashlib
from collections.abc import Sequence

from flows.decisions.refusal import Refusal
from tasks.records.archive import ArchiveManifest
from tasks.records.archive_restore import ArchiveComparison, FoundArchive
from tasks.records.figures import say_bytes, say_count
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK = "restore-archive"
_HASH_DIGITS = 12
_MOST_LISTED = 10


class ArchivePlan(RunbookPlan):
    """The plan, with the archive that it gives back."""

    manifest: ArchiveManifest
    before: ArchiveComparison


def choose_archive(
    profile: ServiceProfile, rule: str, found: Sequence[FoundArchive], wanted: str
) -> ArchiveManifest | Refusal:
    """Given a rule's archives, oldest first, and "latest" or an id, return the archive, or why none."""
    if not found:
        rules = ", ".join(known.name for known in profile.cleanup.rules) or "none"
        return Refusal(f"{profile.name} has no archive of a rule {rule!r}. The profile's rules are: {rules}.")
    chosen = found[-1] if wanted == "latest" else next((a for a in found if a.archive_id == wanted), None)
    if chosen is None:
        newest = ", ".join(archive.archive_id for archive in [*reversed(found)][:_MOST_LISTED])
        return Refusal(
            f"{profile.name} has no archive {wanted!r} of the rule {rule}. The newest are: {newest}."
        )
    if chosen.manifest is None:
        return Refusal(f"{chosen.problem} Restore another one. Nothing was changed.")
    if chosen.manifest.kind != profile.database.kind:
        return Refusal(
            f"The archive {chosen.archive_id} was made of a {chosen.manifest.kind} database, and that of "
            f"{profile.name} is {profile.database.kind}: restore it by hand."
        )
    return chosen.manifest


def plan_archive_restore(
    profile: ServiceProfile, manifest: ArchiveManifest, compared: ArchiveComparison
) -> ArchivePlan:
    """Given an archive that was read back in full, and how it stands to the database, return the plan."""
    entries = name_entries(manifest)
    insert = PlannedAct(
        what=f"Insert into {manifest.source} of {manifest.database} what is not there",
        why="What is there stays as it is, the same or not",
        how_many=f"{compared.missing:,} of {say_count(manifest.entries, *entries)}",
        undo="The next cleanup by this rule takes them out again, into a new archive",
    )
    return ArchivePlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=(
            f"The archive {manifest.archive_id} of the rule {manifest.rule} holds "
            f"{say_count(manifest.entries, *entries)} of {manifest.source} from before "
            f"{manifest.cutoff:%Y-%m-%d %H:%M} UTC, {say_bytes(manifest.raw_bytes)}, and all of it was read "
            f"back. There unchanged: {compared.unchanged:,}; not there: {compared.missing:,}; there "
            f"otherwise: {compared.otherwise:,}{_say_examples(compared.examples)}."
        ),
        acts=(insert,) if compared.missing else (),
        rests_on={
            "archive": f"{manifest.archive_id}, {_hash_parts(manifest)}",
            "there": f"{compared.unchanged:,} unchanged, {compared.otherwise:,} otherwise",
        },
        manifest=manifest,
        before=compared,
    )


def describe_restored(plan: ArchivePlan, after: ArchiveComparison, otherwise: Sequence[str]) -> str:
    """Given how the archive stands to the database now, and what had no place, say so."""
    manifest = plan.manifest
    inserted = plan.before.missing - after.missing
    said = (
        f"{plan.service}: of {say_count(manifest.entries, *name_entries(manifest))} of the archive "
        f"{manifest.archive_id}, {inserted:,} were inserted and {after.unchanged:,} are in {manifest.source} "
        "now, to the byte"
    )
    if is_whole(after):
        return f"{said}."
    left = after.missing + after.otherwise
    if not otherwise:
        return (
            f"{said}; {left:,} were taken and not kept: see whether a trigger, or a TTL index, takes them "
            "out again."
        )
    return (
        f"{said}; {left:,} could not be, because something else is in their place, which was left as it is"
        f"{_say_examples(otherwise)}."
    )


def is_whole(after: ArchiveComparison) -> bool:
    """Is all of an archive in the database again, unchanged?"""
    return after.missing == after.otherwise == 0


def name_entries(manifest: ArchiveManifest) -> tuple[str, str]:
    """Return what an entry of this archive is called, one and several."""
    return ("document", "documents") if manifest.kind == "mongodb" else ("row", "rows")


def _say_examples(examples: Sequence[str]) -> str:
    shown = ", ".join(examples[:_MOST_LISTED])
    return f" ({shown}{', ...' if len(examples) > _MOST_LISTED else ''})" if examples else ""


def _hash_parts(manifest: ArchiveManifest) -> str:
    together = "".join(part.sha256 for part in manifest.parts)
    return hashlib.sha256(together.encode()).hexdigest()[:_HASH_DIGITS]
