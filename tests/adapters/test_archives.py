"""Archives on both stores: what is read is what was written, or an error says what is not."""

import gzip
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.archive_entries import Kind, join_entries, split_entries
from tasks.archives import ArchiveStore
from tasks.backup_repository import BackupRepository
from tasks.errors import (
    AlreadyExistsError,
    ConfigurationError,
    DamagedSetError,
    NotFoundError,
    RefusedError,
    SourceError,
)
from tasks.object_store import ObjectStore
from tasks.records.archive import ArchiveManifest, ArchivePart

NIGHT = datetime(2026, 11, 21, 2, tzinfo=UTC)
DOCUMENTS = tuple(bson.encode({"_id": number, "text": "x" * number}) for number in range(30))
LINES = (rb"1	a\nb	\N", b"", b"2	\xc3\xa4	\\\\x00")
FOLDER = "invoice/archives/audit-log/one/"


@pytest.fixture
def archives(store: ObjectStore) -> ArchiveStore:
    return ArchiveStore(store, "invoice", "mongodb")


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [stored.key for stored in store.list_keys(prefix)]


def manifest_of(parts: Sequence[ArchivePart], archive_id: str = "one", **changed: Any) -> ArchiveManifest:
    fields = {
        "service": "invoice",
        "rule": "audit-log",
        "archive_id": archive_id,
        "kind": "mongodb",
        "database": "invoice",
        "source": "auditLogs",
        "columns": (),
        "time_field": "timestamp",
        "cutoff": NIGHT - timedelta(days=365),
        "started_at": NIGHT,
        "finished_at": NIGHT + timedelta(seconds=90),
        "tool_version": "1",
        "parts": tuple(parts),
    }
    return ArchiveManifest.model_validate({**fields, **changed})


def write(archives: ArchiveStore, archive_id: str = "one") -> ArchiveManifest:
    """Write and publish an archive of three parts."""
    parts = [
        archives.write_part("audit-log", archive_id, number, DOCUMENTS[10 * number - 10 : 10 * number])
        for number in (1, 2, 3)
    ]
    manifest = manifest_of(parts, archive_id)
    archives.publish(manifest)
    return manifest


# --- Entries ---

documents = st.dictionaries(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20), st.floats(), st.none()),
    max_size=4,
).map(bson.encode)
lines = st.binary(max_size=30).filter(lambda line: b"\n" not in line)


@given(st.lists(documents, max_size=20))
def test_documents_are_split_as_they_were_joined(entries: list[bytes]) -> None:
    assert split_entries("mongodb", join_entries("mongodb", entries), "here") == tuple(entries)


@given(st.lists(lines, max_size=20))
def test_lines_are_split_as_they_were_joined(entries: list[bytes]) -> None:
    assert split_entries("postgresql", join_entries("postgresql", entries), "here") == tuple(entries)


@given(st.lists(documents, min_size=1, max_size=5), st.data())
def test_documents_that_are_cut_are_fewer_or_damage(entries: list[bytes], data: st.DataObject) -> None:
    raw = join_entries("mongodb", entries)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        found = split_entries("mongodb", cut, "here")
    except DamagedSetError:
        return
    assert found == tuple(entries[: len(found)])
    assert len(found) < len(entries)


@pytest.mark.parametrize(
    ("kind", "entry"), [("mongodb", DOCUMENTS[1][:-1]), ("mongodb", b""), ("postgresql", b"one\ntwo")]
)
def test_what_is_no_entry_is_not_archived(kind: Kind, entry: bytes) -> None:
    with pytest.raises(SourceError, match="was not put into an archive"):
        join_entries(kind, [entry])


def test_a_document_that_does_not_decode_is_damage() -> None:
    with pytest.raises(DamagedSetError, match="does not decode"):
        split_entries("mongodb", b"\x0c\0\0\0\xffa\0\0\0\0\0\0", "here")


# --- Writing and reading ---


def test_an_archive_is_read_as_it_was_written(archives: ArchiveStore, store: ObjectStore) -> None:
    manifest = write(archives)
    assert archives.list_ids("audit-log") == ("one",)
    assert archives.read_manifest("audit-log", "one") == manifest
    found = [entry for part in manifest.parts for entry in archives.read_part(part, "mongodb")]
    assert found == list(DOCUMENTS)
    assert keys(store) == [
        f"{FOLDER}{name}"
        for name in ("manifest.json", *(f"part-0000{number}.bson.gz" for number in (1, 2, 3)))
    ]
    # As anybody reads it, with nothing of ours.
    raw = b"".join(gzip.decompress(store.read(part.key)) for part in manifest.parts)
    assert bson.decode_all(raw)[7] == {"_id": 7, "text": "x" * 7}
    assert (manifest.entries, manifest.raw_bytes) == (30, len(raw))


def test_lines_are_read_as_they_were_written(store: ObjectStore) -> None:
    archives = ArchiveStore(store, "invoice", "postgresql")
    part = archives.write_part("tokens", "one", 1, LINES)
    assert part.key == "invoice/archives/tokens/one/part-00001.copy.gz"
    assert archives.read_part(part, "postgresql") == LINES
    assert gzip.decompress(store.read(part.key)) == b"".join(line + b"\n" for line in LINES)


def test_the_same_number_again_replaces_the_part(archives: ArchiveStore, store: ObjectStore) -> None:
    archives.write_part("audit-log", "one", 1, DOCUMENTS[:5])
    part = archives.write_part("audit-log", "one", 1, DOCUMENTS[:7])
    assert archives.read_part(part, "mongodb") == DOCUMENTS[:7]
    assert keys(store) == [part.key]


def test_an_empty_archive_is_one(archives: ArchiveStore) -> None:
    archives.publish(manifest_of([]))
    assert archives.read_manifest("audit-log", "one").entries == 0


def test_ids_sort_by_time_and_never_meet(archives: ArchiveStore) -> None:
    found = [archives.new_id(NIGHT + timedelta(seconds=second // 5)) for second in range(50)]
    assert len(set(found)) == 50
    assert [name[:16] for name in sorted(found)] == [name[:16] for name in found]


class Spoiling:
    """A store that keeps something else than what it is given."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        written = b"".join(chunks)
        return self._store.write_stream(key, [written[:-9] + bytes([written[-9] ^ 1]) + written[-8:]])


def test_a_part_that_the_store_keeps_otherwise_is_not_taken_for_written(store: ObjectStore) -> None:
    with pytest.raises(DamagedSetError, match=r"part-00001\.bson\.gz"):
        ArchiveStore(Spoiling(store), "invoice", "mongodb").write_part("audit-log", "one", 1, DOCUMENTS)


# --- Damage ---

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "flipped": (lambda body: body[:40] + bytes([body[40] ^ 4]) + body[41:], r"part-00002\.bson\.gz"),
    "cut": (lambda body: body[: len(body) // 2], "cut short"),
    "empty": (lambda _: b"", "cut short"),
    "longer": (lambda body: body + b"x", "goes on after its end"),
    "packed anew": (lambda body: gzip.compress(gzip.decompress(body)), "not those that were written"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_not_read(archives: ArchiveStore, store: ObjectStore, damage: str) -> None:
    part = write(archives).parts[1]
    spoil, said = DAMAGES[damage]
    store.write(part.key, spoil(store.read(part.key)))
    with pytest.raises(DamagedSetError, match=said):
        archives.read_part(part, "mongodb")


def test_a_missing_part_is_damage_and_not_just_missing(archives: ArchiveStore, store: ObjectStore) -> None:
    part = write(archives).parts[1]
    store.delete(part.key)
    with pytest.raises(DamagedSetError, match="part of the archive is missing"):
        archives.read_part(part, "mongodb")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"service": "invoice"', '"service": "other"', "copied to where it isn't due"),
        ('"archive_id": "one"', '"archive_id": "two"', "copied to where it isn't due"),
        ("part-00002", "../one/part-00002", "none of its parts"),
        ('"cutoff"', '"cut"', "cutoff: Field required"),
        ('"format": 1', '"format": 2', "format"),
    ],
)
def test_a_manifest_that_is_not_right_is_damage(
    archives: ArchiveStore, store: ObjectStore, before: str, after: str, said: str
) -> None:
    write(archives)
    key = f"{FOLDER}manifest.json"
    store.write(key, store.read(key).decode().replace(before, after).encode())
    with pytest.raises(DamagedSetError, match=said):
        archives.read_manifest("audit-log", "one")
    assert archives.list_ids("audit-log") == ("one",)


# --- Publishing and discarding ---


def test_without_a_manifest_it_is_no_archive(archives: ArchiveStore) -> None:
    archives.write_part("audit-log", "one", 1, DOCUMENTS)
    assert archives.list_ids("audit-log") == ()
    with pytest.raises(NotFoundError):
        archives.read_manifest("audit-log", "one")


def test_what_a_killed_run_wrote_and_no_manifest_names_goes_before_it_is_published(
    archives: ArchiveStore, store: ObjectStore
) -> None:
    parts = [archives.write_part("audit-log", "one", number, DOCUMENTS) for number in (1, 2)]
    archives.publish(manifest_of(parts[:1]))
    assert keys(store) == [f"{FOLDER}manifest.json", parts[0].key]


def test_an_archive_whose_parts_are_not_all_there_is_not_published(
    archives: ArchiveStore, store: ObjectStore
) -> None:
    parts = [archives.write_part("audit-log", "one", number, DOCUMENTS) for number in (1, 2)]
    store.write(parts[1].key, b"short")
    with pytest.raises(DamagedSetError, match=r"part-00002.* is not published"):
        archives.publish(manifest_of(parts))
    assert archives.list_ids("audit-log") == ()


def test_the_very_same_manifest_again_is_no_error_and_another_is_refused(
    archives: ArchiveStore, store: ObjectStore
) -> None:
    manifest = write(archives)
    archives.publish(manifest)
    with pytest.raises(AlreadyExistsError):
        archives.publish(manifest_of(manifest.parts[:1]))
    assert archives.read_manifest("audit-log", "one") == manifest
    assert len(keys(store)) == 4


def test_only_what_is_no_archive_is_discarded(archives: ArchiveStore, store: ObjectStore) -> None:
    archives.write_part("audit-log", "two", 1, DOCUMENTS)
    archives.discard("audit-log", "two")
    archives.discard("audit-log", "two")
    assert keys(store) == []
    manifest = write(archives)
    with pytest.raises(RefusedError, match="whole archive"):
        archives.discard("audit-log", "one")
    assert archives.read_manifest("audit-log", "one") == manifest


def test_services_and_rules_do_not_see_each_others_archives(
    archives: ArchiveStore, store: ObjectStore
) -> None:
    write(archives)
    assert ArchiveStore(store, "inv", "mongodb").list_ids("audit-log") == ()
    assert archives.list_ids("audit") == ()


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".."])
def test_a_name_that_leads_elsewhere_is_refused(archives: ArchiveStore, name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of a cleanup rule"):
        archives.write_part(name, "one", 1, DOCUMENTS)
    with pytest.raises(ConfigurationError, match="id of an archive"):
        archives.read_manifest("audit-log", name)


def test_the_backup_repository_leaves_archives_alone(archives: ArchiveStore, store: ObjectStore) -> None:
    write(archives)
    archives.write_part("audit-log", "unfinished", 1, DOCUMENTS)
    before = keys(store)
    repository = BackupRepository(store, "invoice")
    found = repository.state(NIGHT)
    assert (found.sets, found.unfinished, found.unreadable) == ((), (), ())
    assert repository.set_ids() == ()
    for set_id in ("one", "unfinished", "audit-log"):
        repository.collect_unfinished(set_id)
        repository.delete_set(set_id)
    repository.discard_unfinished_writes(datetime.now(UTC) + timedelta(days=1))
    assert keys(store) == before
