"""A service's archives in its store: part after part, each read back, and the manifest last of all.

What has no manifest is no archive. How to read one without us is in ``docs/reference/archive-format.md``.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from tasks.archive_entries import Kind, join_entries, split_entries
from tasks.backup_layout import MANIFEST, ArchiveLayout, format_archive_id
from tasks.backup_manifest import first_fault
from tasks.errors import AlreadyExistsError, DamagedSetError, NotFoundError, RefusedError
from tasks.object_store import ObjectStore
from tasks.opening_stores import open_store
from tasks.records.archive import ArchiveManifest, ArchivePart
from tasks.records.service import ServiceProfile
from tasks.streams import GZIP, Meter, compress, decompress


class ArchiveStore:
    """The archives of one service. It raises what its store raises, and what its methods say."""

    def __init__(self, store: ObjectStore, service: str, kind: Kind) -> None:
        """Given a store, a service's name and its kind of database; nothing is asked or made here."""
        self._store, self._layout, self._kind = store, ArchiveLayout(service), kind

    def new_id(self, started_at: datetime) -> str:
        """Given when a run began, return an id that no other archive has; ids sort by time."""
        return format_archive_id(started_at, secrets.token_hex(3))

    def write_part(self, rule: str, archive_id: str, number: int, entries: Sequence[bytes]) -> ArchivePart:
        """Given entries, write them as one object, read it back, and return what it is.

        The same number once more replaces the object. Raise ``DamagedSetError`` if it is not what was
        written, ``SourceError`` if an entry is none.
        """
        raw = join_entries(self._kind, entries)
        stored = Meter()
        key = self._layout.part(rule, archive_id, number, self._kind)
        self._store.write_stream(key, stored.watch(compress([raw], GZIP)))
        part = ArchivePart(
            number=number,
            key=key,
            stored_bytes=stored.bytes,
            sha256=stored.sha256,
            raw_bytes=len(raw),
            raw_sha256=hashlib.sha256(raw).hexdigest(),
            entries=len(entries),
        )
        if self.read_part(part, self._kind) != tuple(entries):
            raise DamagedSetError(f"{self._place(key)}: the entries are not those that were written.")
        return part

    def read_part(self, part: ArchivePart, kind: Kind) -> tuple[bytes, ...]:
        """Given a part, return its entries, every one decoded.

        Raise ``DamagedSetError`` if it is missing or not, to the byte, what was written.
        """
        place = self._place(part.key)
        stored = Meter()
        try:
            raw = b"".join(decompress(stored.watch(self._store.stream(part.key)), GZIP))
        except NotFoundError:
            raise DamagedSetError(f"{place}: this part of the archive is missing.") from None
        except DamagedSetError as error:
            raise DamagedSetError(f"{place}: {error}.") from None
        if (stored.bytes, stored.sha256) != (part.stored_bytes, part.sha256):
            raise DamagedSetError(f"{place}: its bytes in the store are not those that were written.")
        entries = split_entries(kind, raw, place)
        found = (len(raw), hashlib.sha256(raw).hexdigest(), len(entries))
        if found != (part.raw_bytes, part.raw_sha256, part.entries):
            raise DamagedSetError(f"{place}: what it decompresses to is not what was written.")
        return entries

    def publish(self, manifest: ArchiveManifest) -> None:
        """Given the manifest of an archive that is all written, make it one.

        What else lies in its folder goes before. The very same manifest again is no error. Raise
        ``DamagedSetError`` if a part is missing or has another size, ``AlreadyExistsError`` if the archive
        has another manifest.
        """
        folder = self._layout.folder(manifest.rule, manifest.archive_id)
        key = folder + MANIFEST
        self._check_manifest(manifest, self._place(key), manifest.rule, manifest.archive_id)
        sizes = {stored.key: stored.bytes for stored in self._store.list_keys(folder)}
        for part in manifest.parts:
            if sizes.get(part.key) != part.stored_bytes:
                raise DamagedSetError(
                    f"{self._place(part.key)}: this part is missing or has another size than when it was "
                    "written; the archive is not published."
                )
        if key not in sizes:
            for stranger in sizes.keys() - {part.key for part in manifest.parts}:
                self._store.delete(stranger)
        content = manifest.model_dump_json(indent=2).encode() + b"\n"
        try:
            self._store.write_if_absent(key, content)
        except AlreadyExistsError:
            # Ours may have arrived although its answer was lost, or before we were killed.
            if self._store.read(key) != content:
                raise

    def discard(self, rule: str, archive_id: str) -> None:
        """Delete what was written of an archive that is none yet; nothing there is no error.

        Only for one of which nothing was deleted in the database. Raise ``RefusedError`` if it has a
        manifest.
        """
        folder = self._layout.folder(rule, archive_id)
        keys = [stored.key for stored in self._store.list_keys(folder)]
        if folder + MANIFEST in keys:
            raise RefusedError(f"{self._place(folder)} is a whole archive: it is not thrown away.")
        for key in keys:
            self._store.delete(key)

    def list_ids(self, rule: str) -> tuple[str, ...]:
        """Given a rule, return the ids of its archives, oldest first; no manifest is read."""
        keys = self._store.list_keys(self._layout.of_rule(rule))
        found = (self._layout.archive_of(stored.key) for stored in keys)
        return tuple(archive_id for _, archive_id in filter(None, found))

    def read_manifest(self, rule: str, archive_id: str) -> ArchiveManifest:
        """Given an archive, return its manifest.

        Raise ``NotFoundError`` if there is no such archive, ``DamagedSetError`` if the manifest is none.
        """
        key = self._layout.folder(rule, archive_id) + MANIFEST
        place = self._place(key)
        try:
            manifest = ArchiveManifest.model_validate_json(self._store.read(key))
        except ValidationError as error:
            raise DamagedSetError(f"{place} is damaged: {first_fault(error)}.") from None
        self._check_manifest(manifest, place, rule, archive_id)
        return manifest

    def _check_manifest(self, manifest: ArchiveManifest, place: str, rule: str, archive_id: str) -> None:
        if (manifest.service, manifest.rule, manifest.archive_id) != (self._layout.service, rule, archive_id):
            raise DamagedSetError(
                f"{place} is of the archive {manifest.archive_id} of {manifest.service}'s rule "
                f"{manifest.rule}: it was copied to where it isn't due."
            )
        for part in manifest.parts:
            if part.key != self._layout.part(rule, archive_id, part.number, manifest.kind):
                raise DamagedSetError(f"{place} names {part.key}, which is none of its parts.")

    def _place(self, key: str) -> str:
        return f"{self._store.address}: {key}"


def open_archives(profile: ServiceProfile) -> ArchiveStore:
    """Given a service, return its archives, which lie beside its backup sets."""
    return ArchiveStore(open_store(profile.backup.destination), profile.name, profile.database.kind)
