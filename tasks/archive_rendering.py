"""Archives as the Markdown that the Prefect UI shows."""

from collections.abc import Sequence
from datetime import tzinfo

from tasks.artifact_rendering import MOST_LINES, escape, render_table
from tasks.artifacts import publish_markdown
from tasks.records.archive_restore import FoundArchive
from tasks.records.figures import say_bytes, say_time
from tasks.records.service import ServiceProfile


def publish_archives(
    profile: ServiceProfile, rule: str, found: Sequence[FoundArchive], verified: str
) -> None:
    """Show the archives of a rule, newest first; ``verified`` is the one that was read back in full."""
    text = render_archives(profile.name, rule, found, verified, profile.zone)
    publish_markdown(text, "restore-archive", "archives", profile.name)


def render_archives(
    service: str, rule: str, found: Sequence[FoundArchive], verified: str, zone: tzinfo
) -> str:
    """Return the archives of a rule as a table, newest first."""
    headers = ("Made", "Older than", "From", ">Entries", ">Raw", ">Stored", "Read back", "Archive")
    rows = (_list_archive(archive, verified, zone) for archive in [*reversed(found)][:MOST_LINES])
    return f"# Archives of {service}, rule {escape(rule)}\n\n{render_table(headers, rows)}"


def _list_archive(archive: FoundArchive, verified: str, zone: tzinfo) -> tuple[object, ...]:
    manifest = archive.manifest
    if manifest is None:
        return ("", "", "", "", "", "", f"DAMAGED: {archive.problem}", archive.archive_id)
    return (
        say_time(manifest.started_at, zone),
        say_time(manifest.cutoff, zone),
        manifest.source,
        f"{manifest.entries:,}",
        say_bytes(manifest.raw_bytes),
        say_bytes(manifest.stored_bytes),
        "whole" if archive.archive_id == verified else "not in this run",
        archive.archive_id,
    )
