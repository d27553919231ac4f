"""All that a repository holds of a service, from one listing and a few small reads side by side."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.backup_layout import MANIFEST, Layout, is_set_id, set_lease
from tasks.backup_manifest import parse_manifest
from tasks.errors import DamagedSetError, NotFoundError
from tasks.lease_generations import living_among
from tasks.object_store import ObjectStore, StoredKey
from tasks.records.backup import (
    Manifest,
    RepositoryState,
    SetSummary,
    UnfinishedSet,
    UnreadableSet,
    Verification,
)
from tasks.records.lease import Lease

READERS: Final = 8


class Pin(BaseModel):
    """Why a set is kept whatever retention says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str
    pinned_at: datetime


@dataclass
class _Found:
    """The keys of one listing, sorted into what they are."""

    folders: dict[str, list[StoredKey]] = field(default_factory=lambda: defaultdict(list))
    manifests: set[str] = field(default_factory=set)
    verifications: dict[tuple[str, str], str] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    tombstones: dict[str, StoredKey] = field(default_factory=dict)
    leases: list[StoredKey] = field(default_factory=list)


def survey(store: ObjectStore, layout: Layout, moment: datetime) -> RepositoryState:
    """Given a repository and the moment at which leases are judged, return what is there."""
    found = _sort(layout, store.list_keys(layout.root))
    alive = sorted(found.manifests - set(found.tombstones))
    read = _Reader(store, layout)
    with ThreadPoolExecutor(READERS) as pool:
        newest = {key: name for key, name in found.verifications.items() if key[0] in found.manifests}
        verdicts = dict(zip(newest, pool.map(read.verdict, newest.values()), strict=True))
        rereads = [verdicts.get((set_id, "reread")) for set_id in alive]
        manifests = dict(zip(alive, pool.map(read.manifest, alive, rereads), strict=True))
        pinned = {set_id: key for set_id, key in found.pins.items() if set_id in manifests}
        pins = dict(zip(pinned, pool.map(read.pin, pinned.values()), strict=True))
    leases = living_among(store, layout.service, _leases_of(layout, found.leases, alive), moment)
    damaged = {set_id: reason for set_id, reason in manifests.items() if isinstance(reason, str)}
    damaged |= {set_id: read.say_lost(set_id) for set_id in _find_lost(found)}
    return RepositoryState(
        service=layout.service,
        observed_at=moment,
        sets=tuple(
            _summary(manifest, verdicts, pins, leases)
            for manifest in manifests.values()
            if isinstance(manifest, Manifest)
        ),
        unfinished=tuple(left for left in _unfinished(found) if left.set_id not in damaged),
        unreadable=tuple(
            UnreadableSet(set_id=set_id, reason=reason) for set_id, reason in sorted(damaged.items())
        ),
    )


def _sort(layout: Layout, keys: Iterable[StoredKey]) -> _Found:
    found = _Found()
    for stored in keys:
        kind, name, rest = layout.part_of(stored.key)
        if kind == "sets" and rest and is_set_id(name):
            found.folders[name].append(stored)
            if rest == MANIFEST:
                found.manifests.add(name)
        elif kind == "verifications":
            # The keys come in the order of time, so that the newest of each kind stays.
            found.verifications[name, rest.removesuffix(".json").rpartition("-")[2]] = stored.key
        elif kind == "pins":
            found.pins[name] = stored.key
        elif kind == "tombstones" and is_set_id(name):
            found.tombstones[name] = stored
        elif kind == "leases":
            found.leases.append(stored)
    return found


def _leases_of(layout: Layout, keys: Iterable[StoredKey], set_ids: Iterable[str]) -> list[StoredKey]:
    names = {set_lease(set_id) for set_id in set_ids}
    return [stored for stored in keys if layout.part_of(stored.key)[1] in names]


def _find_lost(found: _Found) -> set[str]:
    """Return the sets that were verified, and so had a manifest, and that have none any more."""
    verified = {set_id for set_id, _ in found.verifications}
    return (verified & set(found.folders)) - found.manifests - set(found.tombstones)


def _unfinished(found: _Found) -> tuple[UnfinishedSet, ...]:
    folders = (set(found.folders) - found.manifests) | set(found.tombstones)
    return tuple(
        UnfinishedSet(
            set_id=set_id,
            # Of a set that is gone but for its tombstone, the tombstone is all there is.
            last_written_at=max(
                stored.written_at for stored in found.folders.get(set_id) or [found.tombstones[set_id]]
            ),
            tombstoned=set_id in found.tombstones,
        )
        for set_id in sorted(folders)
    )


def _summary(
    manifest: Manifest,
    verdicts: dict[tuple[str, str], Verification | None],
    pins: dict[str, str | None],
    leases: dict[str, Lease],
) -> SetSummary:
    lease = leases.get(set_lease(manifest.set_id))
    reread, drill = (verdicts.get((manifest.set_id, kind)) for kind in ("reread", "drill"))
    return SetSummary(
        set_id=manifest.set_id,
        kind=manifest.kind,
        created_at=manifest.started_at,
        seconds=manifest.seconds,
        stored_bytes=manifest.stored_bytes,
        raw_bytes=manifest.raw_bytes,
        parts=manifest.parts,
        entries=manifest.entries,
        reread_passed=None if reread is None else reread.passed,
        drill_passed=None if drill is None else drill.passed,
        drilled_at=None if drill is None else drill.verified_at,
        pinned=pins.get(manifest.set_id),
        leased_by=None if lease is None else f"{lease.holder} ({lease.purpose})",
    )


@dataclass(frozen=True)
class _Reader:
    """Reads one small object each; what was deleted since the listing is None."""

    store: ObjectStore
    layout: Layout

    def manifest(self, set_id: str, reread: Verification | None) -> Manifest | str | None:
        """Return the manifest, or why it is not what was written: with a digit flipped it may still parse."""
        key = self.layout.manifest(set_id)
        place, content = f"{self.store.address}: {key}", self._read(key)
        if content is None:
            return None
        try:
            manifest = parse_manifest(content, place, self.layout.service, set_id)
        except DamagedSetError as error:
            return str(error)
        written = None if reread is None else reread.manifest_sha256
        if written not in {None, hashlib.sha256(content).hexdigest()}:
            return f"{place} is damaged: its bytes are not those that were written."
        return manifest

    def say_lost(self, set_id: str) -> str:
        """Say that a set was a backup, and has no manifest any more."""
        return (
            f"{self.store.address}: {self.layout.manifest(set_id)} is missing; the set was verified with it."
        )

    def verdict(self, key: str) -> Verification | None:
        """Return what a verification found; one that cannot be read proves nothing."""
        content = self._read(key)
        try:
            return None if content is None else Verification.model_validate_json(content)
        except ValidationError:
            return None

    def pin(self, key: str) -> str | None:
        """Return why the set is pinned; it is, even when the reason cannot be read."""
        content = self._read(key)
        try:
            return None if content is None else Pin.model_validate_json(content).reason
        except ValidationError:
            return "for a reason that cannot be read"

    def _read(self, key: str) -> bytes | None:
        try:
            return self.store.read(key)
        except NotFoundError:
            return None
