"""A service's archives as tasks: list them, hold one against the database, insert a part of it again."""

from collections.abc import Iterator
from typing import Final

from tasks.archives import open_archives
from tasks.errors import DamagedSetError, NotFoundError
from tasks.opening_cleanup import open_cleanup_source
from tasks.records.archive import ArchiveManifest, ArchivePart
from tasks.records.archive_restore import ArchiveComparison, FoundArchive
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

# So many at once stand in nobody's way.
_BATCH: Final = 1000
_MOST_EXAMPLES: Final = 20


@retried
def observe_archives(profile: ServiceProfile, rule: str) -> tuple[FoundArchive, ...]:
    """Given a rule, return its archives, oldest first, whether their manifests can be read or not."""
    archives = open_archives(profile)
    found = []
    for archive_id in archives.list_ids(rule):
        try:
            found.append(FoundArchive(archive_id, archives.read_manifest(rule, archive_id)))
        except (DamagedSetError, NotFoundError) as error:
            found.append(FoundArchive(archive_id, None, str(error)))
    return tuple(found)


@retried
def compare_archive(profile: ServiceProfile, manifest: ArchiveManifest) -> ArchiveComparison:
    """Given an archive, read all of it back and compare each entry with the database.

    Raise ``DamagedSetError`` if a part is not what was written.
    """
    archives = open_archives(profile)
    missing, otherwise = 0, list[str]()
    with open_cleanup_source(profile) as source:
        for part in manifest.parts:
            for entries in _split(archives.read_part(part, manifest.kind)):
                absent, different = source.compare(manifest.source, manifest.columns, entries)
                missing += absent
                otherwise += different
    return ArchiveComparison(
        unchanged=manifest.entries - missing - len(otherwise),
        missing=missing,
        otherwise=len(otherwise),
        examples=tuple(otherwise[:_MOST_EXAMPLES]),
    )


@retried
def insert_part(profile: ServiceProfile, manifest: ArchiveManifest, part: ArchivePart) -> tuple[str, ...]:
    """Given a part of an archive, insert what of it is not there; return what is there otherwise.

    Nothing that is there is changed. Repeated, it inserts what is still missing.
    """
    archives, otherwise = open_archives(profile), list[str]()
    with open_cleanup_source(profile) as source:
        for entries in _split(archives.read_part(part, manifest.kind)):
            otherwise += source.insert_missing(manifest.source, manifest.columns, entries)[1]
    return tuple(otherwise[:_MOST_EXAMPLES])


def _split(entries: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    return (entries[start : start + _BATCH] for start in range(0, len(entries), _BATCH))
