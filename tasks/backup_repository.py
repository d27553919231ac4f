"""A service's backup sets in a store, and the order of writes and deletes that keeps them whole.

A set is published by its manifest, after all its data, and stops being a backup with its tombstone, before
any of its data goes. Where what lies is in ``tasks/backup_layout.py``.
"""

import contextlib
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.backup_layout import MANIFEST, Layout, format_set_id, is_set_id, parse_beginning, set_lease
from tasks.backup_manifest import format_manifest, parse_manifest
from tasks.backup_survey import Pin, survey
from tasks.errors import (
    AlreadyExistsError,
    ConfigurationError,
    DamagedSetError,
    NotFoundError,
    RefusedError,
    StoreFullError,
)
from tasks.lease_generations import forget, generations, living_among
from tasks.object_store import ObjectStore
from tasks.records.backup import Manifest, RepositoryState, Verification

# Of a set that is being deleted, every write still under way goes, however fresh.
_ANY_TIME: Final = datetime.max.replace(tzinfo=UTC)
_LONGEST_RUN: Final = timedelta(hours=24)
_FAULTS_SHOWN: Final = 5


class BackupRepository:
    """The repository of one service. It raises what its store raises, and what its methods say."""

    def __init__(
        self,
        store: ObjectStore,
        service: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Given a store and a service's name, open its repository; nothing is asked or made here."""
        self._store, self._layout, self._now = store, Layout(service), now

    @property
    def store(self) -> ObjectStore:
        """The store, to write a set's objects to."""
        return self._store

    @property
    def service(self) -> str:
        """The service's name."""
        return self._layout.service

    def new_set_id(self, kind: str, now: datetime) -> str:
        """Given a kind and the moment a backup begins, return an id that no other set has."""
        return format_set_id(kind, now, secrets.token_hex(3))

    def object_key(self, set_id: str, relative: str) -> str:
        """Given a key of a manifest, relative to its set, return the key in the store."""
        return self._layout.set_folder(set_id) + relative

    def publish(self, manifest: Manifest, *, pinned: str | None = None) -> None:
        """Given the manifest of a set that is all written, make it a backup, pinned for the reason if any.

        It is pinned first, so that it never stands unprotected. To publish the very same manifest again is no
        error. Raise ``DamagedSetError`` if an object is missing or has another size, ``AlreadyExistsError``
        if the set has another manifest, ``RefusedError`` if it is being deleted.
        """
        self._check_objects(manifest)
        self._refuse_tombstoned(manifest.set_id)
        if pinned is not None:
            self._write_pin(manifest.set_id, pinned)
        key, content = self._layout.manifest(manifest.set_id), format_manifest(manifest)
        try:
            self._store.write_if_absent(key, content)
        except AlreadyExistsError:
            # Ours may have arrived although its answer was lost.
            if self._store.read(key) != content:
                raise
        # A deletion that began in between has not seen the manifest; each looks after it wrote.
        self._refuse_tombstoned(manifest.set_id)

    def read_manifest(self, set_id: str) -> Manifest:
        """Given a set's id, return its manifest.

        Raise ``NotFoundError`` if there is no such backup or it is being deleted, ``DamagedSetError`` if
        the manifest cannot be read.
        """
        key = self._layout.manifest(set_id)
        place = f"{self._store.address}: {key}"
        if self._exists(self._layout.tombstone(set_id)):
            raise NotFoundError(f"{place}: this set is being deleted and is no backup any more.")
        return parse_manifest(self._store.read(key), place, self.service, set_id)

    def set_ids(self) -> tuple[str, ...]:
        """Return the ids of all backups, oldest first; whether their manifests can be read is not asked."""
        parts = [self._layout.part_of(stored.key) for stored in self._store.list_keys(self._layout.sets)]
        manifests = {set_id for _, set_id, rest in parts if rest == MANIFEST and is_set_id(set_id)}
        tombstones = self._store.list_keys(self._layout.tombstones)
        return tuple(sorted(manifests - {self._layout.part_of(stored.key)[1] for stored in tombstones}))

    def state(self, now: datetime) -> RepositoryState:
        """Return all sets, what is unfinished, and which sets cannot be read, each with the reason."""
        return survey(self._store, self._layout, now)

    def record_verification(self, verification: Verification) -> None:
        """Given what a verification found, write it beside the others of its set."""
        self._store.write(self._layout.verification(verification), verification.model_dump_json().encode())

    def pin(self, set_id: str, reason: str) -> None:
        """Keep a set whatever retention says; raise ``NotFoundError`` if there is no such backup."""
        if not self._exists(self._layout.manifest(set_id)) or self._exists(self._layout.tombstone(set_id)):
            raise NotFoundError(f"{self._store.address}: there is no set {set_id} of {self.service} to pin.")
        self._write_pin(set_id, reason)

    def unpin(self, set_id: str) -> None:
        """Leave a set to retention again; one that isn't pinned is no error."""
        self._store.delete(self._layout.pin(set_id))

    def delete_set(self, set_id: str, *, unless_leased: bool = False) -> None:
        """Delete a set, or finish the deletion that was begun; one that is gone is no error.

        Raise ``RefusedError`` if it is pinned, or where that is asked, if somebody who reads it holds its
        lease.
        """
        if self._exists(self._layout.tombstone(set_id)):
            self._delete_rest(set_id)
            return
        if self._exists(self._layout.pin(set_id)):
            raise RefusedError(f"The set {set_id} of {self.service} is pinned: unpin it first.")
        self._bury(set_id)
        if unless_leased:
            self._spare_leased(set_id)
        self._delete_rest(set_id)

    def collect_unfinished(self, set_id: str) -> None:
        """Delete a set that was never published, or finish its deletion.

        Raise ``RefusedError`` if it has a manifest, or had one when it was verified: it is a backup.
        """
        if self._exists(self._layout.tombstone(set_id)):
            self._delete_rest(set_id)
            return
        self._refuse_published(set_id)
        # On a full disk the tombstone has no room; a set that lacks objects is not published either.
        with contextlib.suppress(StoreFullError):
            self._bury(set_id)
        try:
            # Whoever publishes looks for the tombstone after writing, and we for the manifest.
            self._refuse_published(set_id)
        except RefusedError:
            self._store.delete(self._layout.tombstone(set_id))
            raise
        self._delete_rest(set_id)

    def collect_left_behind(self) -> tuple[str, ...]:
        """Given that we hold the repository's lease and save nothing yet, delete what killed runs left.

        Whoever saves a set holds that lease, so nobody is at work on one. What was written longer than a day
        after the moment in its name was put there by hand, and is left to retention's grace. Return the ids
        of the sets that were collected; no backup is among them, nor one that lost its manifest.
        """
        written: dict[str, datetime] = {}
        for stored in self._store.list_keys(self._layout.sets):
            _, set_id, rest = self._layout.part_of(stored.key)
            if rest and is_set_id(set_id):
                # A set that has a manifest is a backup, or retention's to delete.
                moment = _ANY_TIME if rest == MANIFEST else stored.written_at
                written[set_id] = max(moment, written.get(set_id, moment))
        verified = self._list_verified()
        left = tuple(
            set_id
            for set_id, moment in written.items()
            if set_id not in verified
            and (began := parse_beginning(set_id)) is not None
            and moment - began < _LONGEST_RUN
        )
        self._store.discard_unfinished(self._layout.sets, _ANY_TIME)
        for set_id in left:
            self.collect_unfinished(set_id)
        return left

    def discard_unfinished_writes(self, older_than: datetime) -> int:
        """Throw away what killed writers left half written, in sets and beside them; return how many."""
        return self._store.discard_unfinished(self._layout.root, older_than)

    def _check_objects(self, manifest: Manifest) -> None:
        if manifest.service != self.service:
            raise ConfigurationError(f"A set of {manifest.service} is not published among {self.service}'s.")
        folder = self._layout.set_folder(manifest.set_id)
        sizes = {stored.key: stored.bytes for stored in self._store.list_keys(folder)}
        faults = [
            f"{stored.key} is missing" if size is None else f"{stored.key} has {size} of {stored.bytes} bytes"
            for stored in manifest.objects
            if (size := sizes.get(folder + stored.key)) != stored.bytes
        ]
        if faults:
            shown = "; ".join(faults[:_FAULTS_SHOWN])
            raise DamagedSetError(
                f"{self._store.address}: the set {manifest.set_id} is not published, {len(faults)} of "
                f"{len(manifest.objects)} objects are wrong: {shown}."
            )

    def _write_pin(self, set_id: str, reason: str) -> None:
        pin = Pin(reason=reason, pinned_at=self._now())
        self._store.write(self._layout.pin(set_id), pin.model_dump_json().encode())

    def _bury(self, set_id: str) -> None:
        tombstone = {"set_id": set_id, "deleted_at": self._now().isoformat()}
        self._store.write(self._layout.tombstone(set_id), json.dumps(tombstone).encode())

    def _delete_rest(self, set_id: str) -> None:
        """Delete all of a set that has a tombstone; killed anywhere, the next run goes on."""
        folder = self._layout.set_folder(set_id)
        self._store.delete(self._layout.manifest(set_id))
        for prefix in (folder, self._layout.verifications(set_id)):
            for stored in self._store.list_keys(prefix):
                self._store.delete(stored.key)
        self._store.discard_unfinished(folder, _ANY_TIME)
        self._store.delete(self._layout.pin(set_id))
        forget(self._store, self.service, set_lease(set_id), self._now())
        self._store.delete(self._layout.tombstone(set_id))

    def _refuse_tombstoned(self, set_id: str) -> None:
        if self._exists(self._layout.tombstone(set_id)):
            raise RefusedError(f"The set {set_id} of {self.service} is being deleted: it is no backup.")

    def _refuse_published(self, set_id: str) -> None:
        if self._exists(self._layout.manifest(set_id)):
            raise RefusedError(f"The set {set_id} of {self.service} is a backup, not an unfinished one.")
        if any(self._store.list_keys(self._layout.verifications(set_id))):
            raise RefusedError(
                f"The set {set_id} of {self.service} was verified, so it was a backup, and its manifest is "
                "missing: put it back from a copy of the store."
            )

    def _list_verified(self) -> set[str]:
        return {
            self._layout.part_of(stored.key)[1]
            for stored in self._store.list_keys(self._layout.every_verification)
        }

    def _spare_leased(self, set_id: str) -> None:
        """Take the tombstone away again if somebody holds the set's lease, and raise.

        Whoever reads the set looks for the tombstone after taking the lease, and we the other way round: one
        of us sees the other.
        """
        keys = generations(self._store, self.service, set_lease(set_id))
        for lease in living_among(self._store, self.service, keys, self._now()).values():
            self._store.delete(self._layout.tombstone(set_id))
            raise RefusedError(
                f"The set {set_id} of {self.service} is held by {lease.holder} ({lease.purpose}): it was not "
                "deleted."
            )

    def _exists(self, key: str) -> bool:
        return any(stored.key == key for stored in self._store.list_keys(key))
