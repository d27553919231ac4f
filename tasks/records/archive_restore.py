"""What a restore of an archive finds: the archives of a rule, and how one stands to what is there now."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from tasks.records.archive import ArchiveManifest


@dataclass(frozen=True, slots=True)
class FoundArchive:
    """An archive of a rule; one whose manifest cannot be read has a problem in its place."""

    archive_id: str
    manifest: ArchiveManifest | None
    problem: str = ""


class ArchiveComparison(BaseModel):
    """An archive, read in full, against the database: each entry is there to the byte, otherwise, or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unchanged: int = 0
    missing: int = 0
    otherwise: int = 0
    examples: tuple[str, ...] = ()
    """Some of what is there otherwise, by its identity."""
