"""Re-reading a set: a sound one has no findings, and whatever is wrong with an object names the object."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from deployments.sandbox.endpoints import Endpoints
from tasks.application_files import save_application
from tasks.backup_manifest import format_manifest
from tasks.mongodb_dump import observe_collections, save_collection
from tasks.mongodb_snapshot import open_snapshot
from tasks.postgresql import parse_url
from tasks.postgresql_dump import save_database
from tasks.postgresql_snapshot import hold_snapshot
from tasks.records.backup import Manifest, MongodbContent, StoredObject
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetLocation
from tasks.verification import reread_application, reread_collection, reread_dump, reread_manifest
from tests.adapters.conftest import make_location

COLLECTIONS = {"bsonTypes", "emptyCollection", "overdueInvoices", "coupons", "with space"}


class SavedSet:
    """A set with something of everything, in a folder of its own, and where its objects lie."""

    def __init__(self, manifest: Manifest, location: SetLocation, client_directory: Path) -> None:
        self.manifest = manifest
        self.location = location
        self._client_directory = client_directory
        self._folder = Path(location.destination.url.removeprefix("file://")) / location.folder

    def findings(self) -> tuple[str, ...]:
        assert self.manifest.mongodb is not None
        found = reread_application.fn(self.manifest, self.location)
        found += reread_dump.fn(self.manifest, self._client_directory, self.location)
        for content in self.manifest.mongodb.collections:
            found += reread_collection.fn(content, self.location)
        return found

    def path(self, key: str) -> Path:
        return self._folder / key

    def stored(self, ending: str) -> StoredObject:
        (found,) = [stored for stored in self.manifest.objects if stored.key.endswith(ending)]
        return found


@pytest.fixture(scope="module")
def complete(
    endpoints: Endpoints, invoice: ServiceProfile, tmp_path_factory: pytest.TempPathFactory
) -> SavedSet:
    store = tmp_path_factory.mktemp("verified") / "store"
    location = make_location(store)
    with open_snapshot(endpoints.mongodb_url) as snapshot:
        shapes = [shape for shape in observe_collections.fn(snapshot) if shape.name in COLLECTIONS]
        collections = tuple(save_collection.fn(snapshot, shape, location) for shape in shapes)
        consistency, version = snapshot.consistency, snapshot.server_version
    with hold_snapshot(parse_url(endpoints.postgresql_url)) as held:
        postgresql = save_database.fn(held, endpoints.pg_bin, location)
    manifest = Manifest(
        set_id="one",
        service="app",
        kind="nightly",
        reason="a test",
        started_at=datetime.now(UTC),
        finished_at=datetime.now(UTC),
        consistency=consistency,
        mongodb=MongodbContent(server_version=version, collections=collections, seconds=0),
        postgresql=postgresql,
        application=save_application.fn(invoice.application, location),
        software={},
    )
    return SavedSet(manifest, location, endpoints.pg_bin)


@pytest.fixture
def saved(complete: SavedSet) -> Iterator[SavedSet]:
    """The same set, whole again afterwards."""
    whole = {stored.key: complete.path(stored.key).read_bytes() for stored in complete.manifest.objects}
    yield complete
    for key, content in whole.items():
        complete.path(key).write_bytes(content)


def test_a_sound_set_has_no_findings(saved: SavedSet) -> None:
    assert len(saved.manifest.objects) == 2 + 2 * len(COLLECTIONS) - 1
    assert saved.findings() == ()


@pytest.mark.parametrize("part", [0, 0.3, 0.7, 1], ids=["first", "early", "late", "last"])
def test_a_flipped_bit_in_any_object_is_found_and_named(saved: SavedSet, part: float) -> None:
    for stored in saved.manifest.objects:
        path = saved.path(stored.key)
        content = path.read_bytes()
        place = round((len(content) - 1) * part)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    findings = saved.findings()
    for stored in saved.manifest.objects:
        assert [finding for finding in findings if finding.startswith(stored.key)], stored.key


def test_the_bytes_of_gzips_header_that_mean_nothing_count_as_well(saved: SavedSet) -> None:
    stored = saved.stored("coupons.bson.gz")
    content = saved.path(stored.key).read_bytes()
    for place in range(4, 10):
        saved.path(stored.key).write_bytes(
            content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        )
        assert [finding for finding in saved.findings() if finding.startswith(stored.key)], place


def test_a_manifest_that_is_not_the_one_that_was_written_is_found(saved: SavedSet) -> None:
    path, written = saved.path("manifest.json"), format_manifest(saved.manifest)
    assert reread_manifest.fn(saved.manifest, saved.location) == ("manifest.json is missing from the store.",)
    path.write_bytes(written)
    assert reread_manifest.fn(saved.manifest, saved.location) == ()
    for content in (written[:-1], written.replace(b'"a test"', b'"b test"')):
        path.write_bytes(content)
        (finding,) = reread_manifest.fn(saved.manifest, saved.location)
        assert finding == "manifest.json: its bytes in the store are not those that were written."
    path.unlink()


def test_cut_emptied_and_missing_objects_are_found_and_named(saved: SavedSet) -> None:
    for number, stored in enumerate(saved.manifest.objects):
        path = saved.path(stored.key)
        if number % 3 == 0:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: -1 if number % 3 == 1 else 0])
    findings = saved.findings()
    for number, stored in enumerate(saved.manifest.objects):
        (finding,) = [finding for finding in findings if finding.startswith(stored.key)]
        assert ("is missing from the store" in finding) is (number % 3 == 0)


def test_sound_objects_in_each_others_places_are_found(saved: SavedSet) -> None:
    one, other = (
        saved.path(saved.stored("coupons.bson.gz").key),
        saved.path(saved.stored("bsonTypes.bson.gz").key),
    )
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    findings = "\n".join(saved.findings())
    assert "coupons: the documents are not those that were saved" in findings
    assert "bsonTypes: the documents are not those that were saved" in findings


@pytest.mark.parametrize(
    ("ending", "raw", "said"),
    [
        ("coupons.bson.gz", b"\5\0\0\0\0" * 2, "coupons: the documents are not those"),
        ("coupons.bson.gz", b"\5\0\0\0\0\5", "ends in the middle of a document"),
        ("coupons.metadata.json.gz", b"{}", "the metadata does not parse"),
        ("coupons.metadata.json.gz", b'{"collectionName": "x"}', "coupons: the metadata is x's"),
        (
            "coupons.metadata.json.gz",
            b'{"collectionName": "x", "a": {"$oid": 1}}',
            "the metadata does not parse",
        ),
        ("application.tar.gz", bytes(1024), "application.tar.gz: the files are not those"),
        ("database.dump.zst", b"PGDMP", "cannot read the archive"),
    ],
)
def test_what_is_well_packed_but_something_else_is_found(
    saved: SavedSet, ending: str, raw: bytes, said: str
) -> None:
    stored = saved.stored(ending)
    packed = zstandard.compress(raw) if ending.endswith(".zst") else gzip.compress(raw)
    saved.path(stored.key).write_bytes(packed)
    findings = saved.findings()
    assert said in "\n".join(findings)
    assert stored.key in "\n".join(findings)
