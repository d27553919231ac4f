"""An archive: what a cleanup run took out of one collection or table, before it deleted it there.

It lies in the service's store, ``<service>/archives/<rule>/<archive_id>/``: parts of gzip, written one after
the other, and ``manifest.json`` last of all. What has no manifest is no archive.
"""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

ARCHIVE_FORMAT: Final = 1


class ArchivePart(BaseModel):
    """One object of an archive: whole documents (raw BSON) or rows (lines of COPY's text format)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    key: str
    """The object's key under the store's root."""
    stored_bytes: int
    sha256: str
    """Of the stored bytes, in hex."""
    raw_bytes: int
    raw_sha256: str
    entries: int


class ArchiveManifest(BaseModel):
    """What an archive holds, and how to read it without us."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = ARCHIVE_FORMAT
    service: str
    rule: str
    archive_id: str
    kind: Literal["mongodb", "postgresql"]
    database: str
    source: str
    columns: tuple[str, ...]
    """A table's columns, in the order of the lines' fields; none for a collection."""
    time_field: str
    cutoff: datetime
    started_at: datetime
    finished_at: datetime
    tool_version: str
    parts: tuple[ArchivePart, ...]

    @property
    def entries(self) -> int:
        """Documents or rows, of all parts."""
        return sum(part.entries for part in self.parts)

    @property
    def raw_bytes(self) -> int:
        """Before compression, of all parts."""
        return sum(part.raw_bytes for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """As they lie in the store, of all parts."""
        return sum(part.stored_bytes for part in self.parts)
