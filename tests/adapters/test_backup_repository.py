"""What keeps backup sets whole, against a real folder and a real S3 server."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from tasks.backup_manifest import format_manifest, hash_manifest
from tasks.backup_repository import BackupRepository
from tasks.errors import (
    AlreadyExistsError,
    ConfigurationError,
    DamagedSetError,
    NotFoundError,
    RefusedError,
    RunbookError,
)
from tasks.lease_generations import acquire
from tasks.leases import hold_lease
from tasks.object_store import ObjectStore, StoredKey
from tasks.records.backup import (
    ApplicationContent,
    Consistency,
    Manifest,
    MongodbContent,
    StoredObject,
    Verification,
)
from tasks.records.lease import Lease

T = TypeVar("T")
NIGHT = datetime(2026, 11, 21, 2, tzinfo=UTC)
CONTENT = {"app.tar.gz": b"application" * 10, "mongodb/db/a.bson.gz": b"a" * 50, "mongodb/db/b.bson.gz": b""}


@pytest.fixture
def repository(store: ObjectStore) -> BackupRepository:
    return BackupRepository(store, "invoice")


def manifest_of(set_id: str, **changed: Any) -> Manifest:
    stored = {
        key: StoredObject(
            key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest(), raw_bytes=2 * len(body)
        )
        for key, body in CONTENT.items()
    }
    collections = [
        {
            "database": "db",
            "collection": name,
            "kind": "collection",
            "documents": 5,
            "content_hash": "0" * 64,
            "options": "{}",
            "indexes": (),
            "metadata": stored["mongodb/db/b.bson.gz"],
            "data": stored[f"mongodb/db/{name}.bson.gz"],
        }
        for name in ("a",)
    ]
    fields: dict[str, Any] = {
        "set_id": set_id,
        "service": "invoice",
        "kind": "nightly",
        "reason": "schedule",
        "started_at": NIGHT,
        "finished_at": NIGHT + timedelta(seconds=90),
        "consistency": Consistency(method="snapshot", moment=None, explanation="one snapshot"),
        "mongodb": MongodbContent.model_validate(
            {"server_version": "8.0", "collections": collections, "seconds": 1.0}
        ),
        "postgresql": None,
        "application": ApplicationContent(
            files=3, content_hash="0" * 64, archive=stored["app.tar.gz"], seconds=1.0
        ),
        "software": {},
    }
    return Manifest(**{**fields, **changed})


def write_objects(repository: BackupRepository, set_id: str, but: Iterable[str] = ()) -> None:
    for key, body in CONTENT.items():
        if key not in but:
            repository.store.write_stream(repository.object_key(set_id, key), [body])


def publish(repository: BackupRepository, day: int = 21, kind: str = "nightly") -> str:
    started = NIGHT.replace(day=day)
    set_id = repository.new_set_id(kind, started)
    write_objects(repository, set_id)
    finished = started + timedelta(seconds=90)
    repository.publish(manifest_of(set_id, kind=kind, started_at=started, finished_at=finished))
    return set_id


def verify(
    repository: BackupRepository, set_id: str, kind: str, day: int, *, passed: bool, **more: str
) -> None:
    repository.record_verification(
        Verification.model_validate(
            {
                "set_id": set_id,
                "kind": kind,
                "verified_at": NIGHT.replace(day=day),
                "passed": passed,
                "findings": (),
                "seconds": 1.0,
                **more,
            }
        )
    )


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [stored.key for stored in store.list_keys(prefix)]


# Publishing


def test_set_ids_say_when_and_what_and_never_meet(repository: BackupRepository) -> None:
    moment = datetime.fromisoformat("2026-11-21T03:00:00+01:00")
    ids = {repository.new_set_id("nightly", moment) for _ in range(50)}
    assert len(ids) == 50
    assert all(found.startswith("20261121T020000Z-nightly-") and len(found) == 31 for found in ids)


def test_a_published_set_is_read_as_it_was_written(repository: BackupRepository) -> None:
    set_id = publish(repository)
    assert repository.read_manifest(set_id) == manifest_of(set_id)
    assert repository.set_ids() == (set_id,)
    assert f"invoice/sets/{set_id}/manifest.json" in keys(repository.store)


def test_a_set_with_a_missing_object_is_not_published(repository: BackupRepository) -> None:
    write_objects(repository, "one", but=["mongodb/db/b.bson.gz"])
    with pytest.raises(DamagedSetError, match=r"mongodb/db/b\.bson\.gz is missing"):
        repository.publish(manifest_of("one"))
    assert repository.set_ids() == ()


def test_a_set_with_a_short_object_is_not_published(repository: BackupRepository) -> None:
    write_objects(repository, "one")
    repository.store.write(repository.object_key("one", "app.tar.gz"), b"applic")
    with pytest.raises(DamagedSetError, match=r"app\.tar\.gz has 6 of 110 bytes"):
        repository.publish(manifest_of("one"))
    assert repository.set_ids() == ()


def test_a_second_manifest_is_refused_and_the_very_same_is_no_error(repository: BackupRepository) -> None:
    set_id = publish(repository)
    repository.publish(manifest_of(set_id))
    with pytest.raises(AlreadyExistsError):
        repository.publish(manifest_of(set_id, reason="another run"))
    assert repository.read_manifest(set_id).reason == "schedule"


def test_a_set_may_be_pinned_before_it_stands_unprotected(repository: BackupRepository) -> None:
    write_objects(repository, "one")
    write_objects(repository, "two")
    with pytest.raises(Killed):
        # Killed right before the manifest: the pin alone protects nothing that could be collected.
        BackupRepository(Counting(repository.store, 3), "invoice").publish(manifest_of("one"), pinned="why")
    assert keys(repository.store, "invoice/pins/") == ["invoice/pins/one.json"]
    repository.collect_unfinished("one")
    repository.publish(manifest_of("two"), pinned="before the migration")
    assert [(known.set_id, known.pinned) for known in repository.state(NIGHT).sets] == [
        ("two", "before the migration")
    ]
    assert keys(repository.store, "invoice/pins/") == ["invoice/pins/two.json"]


def test_a_set_of_another_service_is_not_published(repository: BackupRepository) -> None:
    write_objects(repository, "one")
    with pytest.raises(ConfigurationError, match="propertypulse"):
        repository.publish(manifest_of("one", service="propertypulse"))


def test_no_manifest_no_backup(repository: BackupRepository) -> None:
    write_objects(repository, "one")
    assert repository.set_ids() == ()
    assert repository.state(NIGHT).sets == ()
    with pytest.raises(NotFoundError):
        repository.read_manifest("one")
    with pytest.raises(NotFoundError):
        repository.pin("one", "it is not there")


@pytest.mark.parametrize("set_id", ["../other", "a/b", "", ".", "..", ".hidden"])
def test_an_id_that_leads_elsewhere_is_refused(repository: BackupRepository, set_id: str) -> None:
    for act in (repository.read_manifest, repository.delete_set, repository.collect_unfinished):
        with pytest.raises(ConfigurationError):
            act(set_id)


# Manifests that are not what they should be


def damage(repository: BackupRepository, **changed: Any) -> str:
    set_id = publish(repository)
    stored = json.loads(manifest_of(set_id).model_dump_json())
    key = repository.object_key(set_id, "manifest.json")
    repository.store.write(key, json.dumps({**stored, **changed}).encode())
    return set_id


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"finished_at": "yesterday"}, "finished_at"),
        ({"application": {"files": 3}}, r"application\.content_hash"),
        ({"format_version": 2}, "format 2, and this software reads up to 1"),
        ({"service": "another"}, "of another"),
        ({"set_id": "another"}, "of set another"),
    ],
)
def test_a_manifest_that_is_not_right_is_damage_and_says_where(
    repository: BackupRepository, changed: dict[str, object], said: str
) -> None:
    set_id = damage(repository, **changed)
    with pytest.raises(DamagedSetError, match=said):
        repository.read_manifest(set_id)


def test_an_unreadable_set_is_neither_good_nor_unfinished_and_is_never_collected(
    repository: BackupRepository,
) -> None:
    good, unreadable = publish(repository, day=20), publish(repository, day=21)
    repository.store.write(repository.object_key(unreadable, "manifest.json"), b'{"format_version": 1, "cut')
    found = repository.state(NIGHT)
    assert [known.set_id for known in found.sets] == [good]
    assert found.unfinished == ()
    assert [known.set_id for known in found.unreadable] == [unreadable]
    assert "manifest.json is damaged" in found.unreadable[0].reason
    with pytest.raises(RefusedError):
        repository.collect_unfinished(unreadable)


def test_a_manifest_that_parses_and_is_not_the_one_that_was_reread_is_damage(
    repository: BackupRepository,
) -> None:
    set_id = publish(repository)
    written = manifest_of(set_id)
    verify(repository, set_id, "reread", 21, passed=True, manifest_sha256=hash_manifest(written))
    assert [known.set_id for known in repository.state(NIGHT).sets] == [set_id]

    forged = written.model_copy(update={"finished_at": written.finished_at + timedelta(seconds=1)})
    repository.store.write(repository.object_key(set_id, "manifest.json"), format_manifest(forged))

    found = repository.state(NIGHT)
    assert (found.sets, found.unfinished) == ((), ())
    assert "manifest.json is damaged: its bytes are not those that were written" in found.unreadable[0].reason


def test_a_verified_set_that_lost_its_manifest_is_told_and_never_collected(
    repository: BackupRepository,
) -> None:
    set_id = repository.new_set_id("nightly", datetime.now(UTC))
    write_objects(repository, set_id)
    repository.publish(manifest_of(set_id))
    verify(repository, set_id, "reread", 21, passed=True)
    repository.store.delete(repository.object_key(set_id, "manifest.json"))

    assert repository.collect_left_behind() == ()
    with pytest.raises(RefusedError, match="was verified"):
        repository.collect_unfinished(set_id)

    found = repository.state(NIGHT)
    assert (found.sets, found.unfinished) == ((), ())
    assert [lost.set_id for lost in found.unreadable] == [set_id]
    assert f"{set_id}/manifest.json is missing" in found.unreadable[0].reason
    assert len(keys(repository.store, f"invoice/sets/{set_id}/")) == len(CONTENT)
    repository.delete_set(set_id)
    assert keys(repository.store) == []


# The state


def test_the_state_tells_all_of_a_set_from_one_listing(repository: BackupRepository) -> None:
    first, second = publish(repository, day=19, kind="emergency"), publish(repository, day=20)
    verify(repository, first, "reread", 19, passed=False)
    verify(repository, first, "reread", 20, passed=True)
    verify(repository, first, "drill", 20, passed=True)
    verify(repository, first, "drill", 21, passed=False)
    repository.pin(second, "before the migration")
    counting = Counting(repository.store)
    with hold_lease(repository.store, "invoice", f"set-{second}", purpose="drill", holder="run 7"):
        state = BackupRepository(counting, "invoice").state(datetime.now(UTC))

    one, two = state.sets
    assert (one.set_id, one.kind, one.created_at) == (first, "emergency", NIGHT.replace(day=19))
    assert (one.seconds, one.stored_bytes, one.raw_bytes, one.parts, one.entries) == (90.0, 160, 320, 1, 5)
    assert (one.reread_passed, one.drill_passed, one.pinned, one.leased_by) == (True, False, None, None)
    assert one.drilled_at == NIGHT.replace(day=21)
    assert (two.reread_passed, two.drill_passed, two.drilled_at) == (None, None, None)
    assert (two.pinned, two.leased_by) == ("before the migration", "run 7 (drill)")
    assert counting.listings == 1
    assert state.unfinished == ()


def test_services_in_one_store_do_not_see_each_other(repository: BackupRepository) -> None:
    publish(repository)
    for service in ("inv", "invoice-2"):
        assert BackupRepository(repository.store, service).state(NIGHT).sets == ()


def test_unfinished_and_half_deleted_sets_are_told_apart(repository: BackupRepository) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    write_objects(repository, "begun")
    dying, gone = publish(repository), "20260101T000000Z-nightly-000000"
    for set_id in (dying, gone):
        repository.store.write(f"invoice/tombstones/{set_id}.json", b"{}")

    state = repository.state(NIGHT)

    assert state.sets == ()
    assert {(found.set_id, found.tombstoned) for found in state.unfinished} == {
        ("begun", False),
        (dying, True),
        (gone, True),
    }
    assert all(found.last_written_at > before for found in state.unfinished)
    assert repository.set_ids() == ()
    with pytest.raises(NotFoundError, match="being deleted"):
        repository.read_manifest(dying)


def test_what_is_none_of_ours_is_left_alone(repository: BackupRepository) -> None:
    repository.store.write("invoice/sets/.snapshot/manifest.json", b"{}")
    repository.store.write("invoice/sets/readme", b"{}")
    repository.store.write("invoice/tombstones/.nfs0001", b"{}")
    found = repository.state(NIGHT)
    assert (found.sets, found.unfinished, found.unreadable) == ((), (), ())
    assert repository.set_ids() == ()


# Deleting


def test_a_deleted_set_leaves_nothing_and_may_be_deleted_again(repository: BackupRepository) -> None:
    kept, deleted = publish(repository, day=20), publish(repository, day=21)
    verify(repository, deleted, "drill", 21, passed=True)
    with hold_lease(repository.store, "invoice", f"set-{deleted}", purpose="drill", holder="run 7"):
        pass
    repository.delete_set(deleted)
    repository.delete_set(deleted)
    assert repository.set_ids() == (kept,)
    assert [key for key in keys(repository.store) if deleted in key] == []


def test_a_pinned_set_is_not_deleted_before_it_is_unpinned(repository: BackupRepository) -> None:
    set_id = publish(repository)
    repository.pin(set_id, "evidence")
    with pytest.raises(RefusedError, match="unpin"):
        repository.delete_set(set_id)
    repository.unpin(set_id)
    repository.delete_set(set_id)
    assert keys(repository.store) == []


def test_a_backup_is_not_collected_as_unfinished(repository: BackupRepository) -> None:
    set_id = publish(repository)
    with pytest.raises(RefusedError, match="is a backup"):
        repository.collect_unfinished(set_id)
    assert repository.set_ids() == (set_id,)
    assert repository.state(NIGHT).unfinished == ()


def test_what_killed_runs_left_is_collected_and_no_set_that_has_a_manifest(
    repository: BackupRepository,
) -> None:
    now = datetime.now(UTC)
    backup, deleting = publish(repository, 21), publish(repository, 22)
    repository.store.write(f"invoice/tombstones/{deleting}.json", b"{}")
    killed = repository.new_set_id("nightly", now)
    by_hand = {repository.new_set_id("nightly", now - timedelta(hours=25)), "by-hand"}
    for set_id in (killed, *by_hand):
        write_objects(repository, set_id)

    assert repository.collect_left_behind() == (killed,)

    assert repository.set_ids() == (backup,)
    assert {found.set_id for found in repository.state(NIGHT).unfinished} == {deleting, *by_hand}
    repository.publish(manifest_of("by-hand"))
    assert repository.collect_left_behind() == ()
    assert repository.set_ids() == (backup, "by-hand")


def test_an_object_that_a_killed_run_was_writing_is_collected_with_what_it_left(
    repository: BackupRepository,
) -> None:
    set_id = repository.new_set_id("nightly", datetime.now(UTC))

    def chunks() -> Iterator[bytes]:
        yield from (bytes(1 << 20) for _ in range(20))
        assert repository.collect_left_behind() == ()
        yield b"from the grave"

    with pytest.raises(RunbookError):
        repository.store.write_stream(repository.object_key(set_id, "data"), chunks())
    assert keys(repository.store) == []


def test_an_unfinished_set_is_collected_whole(repository: BackupRepository) -> None:
    write_objects(repository, "begun")
    repository.collect_unfinished("begun")
    assert keys(repository.store) == []


def test_a_set_that_is_being_deleted_is_not_published(repository: BackupRepository) -> None:
    write_objects(repository, "begun")
    repository.store.write("invoice/tombstones/begun.json", b"{}")
    with pytest.raises(RefusedError, match="being deleted"):
        repository.publish(manifest_of("begun"))
    repository.collect_unfinished("begun")
    assert keys(repository.store) == []


@pytest.mark.parametrize("key", ["invoice/sets/one/data", "invoice/pins/one.json"])
def test_what_killed_writers_left_anywhere_is_discarded_once_it_is_old(
    repository: BackupRepository, key: str
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(1 << 20)
        now = datetime.now(UTC)
        hour = timedelta(hours=1)
        counts.extend(repository.discard_unfinished_writes(limit) for limit in (now - hour, now + hour))

    counts: list[int] = []
    with pytest.raises(RunbookError):
        repository.store.write_stream(key, chunks())
    assert counts == [0, 1]
    assert keys(repository.store) == []


class Killed(BaseException):
    """Stands for SIGKILL between two operations."""


class Counting:
    """A store that counts listings, and dies before the operation of a given number."""

    def __init__(self, store: ObjectStore, dies_before: int | None = None) -> None:
        self._store, self._left, self.listings = store, dies_before, 0

    def _count(self) -> None:
        if self._left == 0:
            raise Killed
        if self._left is not None:
            self._left -= 1

    def __getattr__(self, name: str) -> Any:
        self._count()
        return getattr(self._store, name)

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        self._count()
        self.listings += 1
        return self._store.list_keys(prefix)


def kill_after_each_step(
    repository: BackupRepository, prepare: Callable[[], T], act: str
) -> Iterator[tuple[T, bool]]:
    """Do it again and again, each time killed one operation later; yield what with, and whether it ended."""
    for step in itertools.count():
        prepared = prepare()
        try:
            getattr(BackupRepository(Counting(repository.store, step), "invoice"), act)(prepared)
        except Killed:
            yield prepared, False
        else:
            yield prepared, True
            return


def test_a_deletion_that_is_killed_anywhere_is_whole_or_finished_by_the_next_run(
    repository: BackupRepository,
) -> None:
    def prepare() -> str:
        set_id = publish(repository)
        verify(repository, set_id, "reread", 21, passed=True)
        return set_id

    steps = 0
    for set_id, done in kill_after_each_step(repository, prepare, "delete_set"):
        steps += 1
        left = keys(repository.store, f"invoice/sets/{set_id}/")
        data = [key for key in left if not key.endswith("manifest.json")]
        assert len(data) == len(CONTENT) or len(left) == len(data), "a manifest without its data"
        if set_id in repository.set_ids():
            assert len(data) == len(CONTENT)
            assert repository.state(NIGHT).unfinished == ()
        elif not done:
            assert [found.set_id for found in repository.state(NIGHT).unfinished] == [set_id]
        # Retention sees it as unfinished, an operator deletes it once more: both finish it.
        again = repository.delete_set if steps % 2 else repository.collect_unfinished
        if set_id in repository.set_ids():
            again = repository.delete_set
        again(set_id)
        assert keys(repository.store) == []
    assert steps > 10


def test_a_collection_that_is_killed_anywhere_is_finished_by_the_next_run(
    repository: BackupRepository,
) -> None:
    def prepare() -> str:
        write_objects(repository, "begun")
        return "begun"

    steps = 0
    for set_id, _ in kill_after_each_step(repository, prepare, "collect_unfinished"):
        steps += 1
        assert repository.set_ids() == ()
        repository.collect_unfinished(set_id)
        assert keys(repository.store) == []
    assert steps > 8


def test_a_publication_that_is_killed_anywhere_is_a_backup_or_none(repository: BackupRepository) -> None:
    def prepare() -> Manifest:
        set_id = repository.new_set_id("nightly", NIGHT)
        write_objects(repository, set_id)
        return manifest_of(set_id)

    steps = 0
    for manifest, done in kill_after_each_step(repository, prepare, "publish"):
        steps += 1
        if not done:
            repository.publish(manifest)
        assert repository.read_manifest(manifest.set_id) == manifest
    assert steps > 3
    assert repository.state(NIGHT).unfinished == ()


def test_a_living_lease_outlives_the_deletion_of_its_set(repository: BackupRepository) -> None:
    set_id, now = publish(repository), datetime.now(UTC)
    lease = Lease(
        name=f"set-{set_id}",
        generation=0,
        holder="run 7",
        purpose="drill",
        host="another",
        boot="b",
        pid=1,
        process_started="1",
        acquired_at=now,
        renewed_at=now,
        time_to_live=timedelta(minutes=2),
    )
    acquire(repository.store, "invoice", lease)
    repository.delete_set(set_id)
    assert keys(repository.store) == [f"invoice/leases/set-{set_id}/0000000001.json"]
