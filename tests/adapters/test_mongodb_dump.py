"""MongoDB's dump: byte for byte what the server holds, in the form that mongorestore takes, and back."""

import gzip
import hashlib
import itertools
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from deployments.sandbox.endpoints import Endpoints
from tasks.errors import DamagedSetError
from tasks.mongodb import RAW, Client
from tasks.mongodb_collections import make_indexes
from tasks.mongodb_dump import (
    FOLDER,
    ContentHash,
    decode_documents,
    observe_collections,
    save_collection,
    split_documents,
)
from tasks.mongodb_restore import (
    drop_database,
    list_databases,
    observe_restored_collections,
    restore_collections,
    wake_collections,
)
from tasks.mongodb_snapshot import CollectionShape, open_snapshot
from tasks.records.backup import CollectionContent, CollectionFacts, MongodbContent
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetLocation
from tests.adapters.conftest import make_location

Document = dict[str, object]
Saved = tuple[MongodbContent, SetLocation]
# 210 bytes, and 630 when escaped.
LONG_NAME = "名" * 70


def save_all(url: str, store: Path) -> Saved:
    location = make_location(store)
    with open_snapshot(url) as snapshot:
        shapes = observe_collections.fn(snapshot)
        contents = tuple(save_collection.fn(snapshot, shape, location) for shape in shapes)
        version = snapshot.server_version
    return MongodbContent(server_version=version, collections=contents, seconds=0), location


@pytest.fixture(scope="module")
def seeded(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """All that the application's own user may read, saved."""
    return save_all(endpoints.mongodb_url, tmp_path_factory.mktemp("dump") / "store")


@pytest.fixture
def client(endpoints: Endpoints) -> Iterator[MongoClient[Document]]:
    opened: MongoClient[Document]
    with MongoClient(endpoints.mongodb_admin_url) as opened:
        yield opened


@pytest.fixture
def database(client: MongoClient[Document]) -> Iterator[Database[Document]]:
    name = f"dump_{uuid.uuid4().hex[:8]}"
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def scratch(client: MongoClient[Document]) -> Iterator[str]:
    name = f"scratch_{uuid.uuid4().hex[:8]}"
    yield name
    client.drop_database(name)


def folder_of(location: SetLocation) -> Path:
    return Path(location.destination.url.removeprefix("file://")) / location.folder / FOLDER


def by_name(content: MongodbContent) -> dict[str, CollectionContent]:
    return {collection.collection: collection for collection in content.collections}


def unpacked(location: SetLocation, key: str) -> bytes:
    return gzip.decompress((folder_of(location).parent / key).read_bytes())


def described(location: SetLocation, collection: CollectionContent) -> dict[str, object]:
    document: dict[str, object] = json.loads(unpacked(location, collection.metadata.key))
    return document


def raw_documents(database: Database[Document], name: str) -> list[bytes]:
    """Every document's bytes, in the order of their hashes."""
    found = [bytes(document.raw) for document in database.with_options(RAW)[name].find()]
    return sorted(found, key=lambda raw: hashlib.sha256(raw).digest())


def facts_in(database: str, content: MongodbContent) -> tuple[CollectionFacts, ...]:
    """What a restore of the content into the database must be observed to have."""
    return tuple(
        CollectionFacts(**{**collection.model_dump(exclude={"metadata", "data"}), "database": database})
        for collection in content.collections
    )


def restore(profile: ServiceProfile, scratch: str, saved: Saved) -> tuple[CollectionFacts, ...]:
    restore_collections.fn(profile.database.admin_url, scratch, *saved)
    found = observe_restored_collections.fn(profile.database.admin_url, scratch)
    return wake_collections.fn(profile.database.admin_url, scratch, *saved, found)


def test_a_restore_has_every_fact_and_every_byte(
    seeded: Saved, invoice: ServiceProfile, client: MongoClient[Document], scratch: str
) -> None:
    content, _ = seeded
    assert restore(invoice, scratch, seeded) == facts_in(scratch, content)
    assert sum(collection.documents for collection in content.collections) > 2500
    for collection in content.collections:
        original = raw_documents(client["invoice"], collection.collection)
        assert raw_documents(client[scratch], collection.collection) == original, collection.collection
    assert scratch in list_databases.fn(invoice.database.admin_url)
    drop_database.fn(invoice.database.admin_url, scratch)
    assert scratch not in list_databases.fn(invoice.database.admin_url)
    drop_database.fn(invoice.database.admin_url, scratch)


def test_a_reader_of_gzip_bson_and_json_finds_all_of_it(seeded: Saved, client: MongoClient[Document]) -> None:
    content, location = seeded
    for collection in content.collections:
        metadata = described(location, collection)
        assert metadata["collectionName"] == collection.collection
        if collection.data is None:
            continue
        raw = unpacked(location, collection.data.key)
        documents = [bytes(document.raw) for document in bson.decode_all(raw, RAW)]
        assert len(documents) == collection.documents
        assert b"".join(documents) == raw
        documents.sort(key=lambda document: hashlib.sha256(document).digest())
        assert documents == raw_documents(client["invoice"], collection.collection), collection.collection


def test_objects_are_as_the_manifest_will_say(seeded: Saved) -> None:
    content, location = seeded
    objects = [found for c in content.collections for found in (c.metadata, c.data) if found is not None]
    for stored in objects:
        packed = (folder_of(location).parent / stored.key).read_bytes()
        assert (len(packed), hashlib.sha256(packed).hexdigest()) == (stored.bytes, stored.sha256)
        assert len(gzip.decompress(packed)) == stored.raw_bytes
    lying = {str(path.relative_to(folder_of(location).parent)) for path in folder_of(location).rglob("*.gz")}
    assert lying == {stored.key for stored in objects}


def test_the_folder_is_one_that_mongorestore_takes(seeded: Saved) -> None:
    content, location = seeded
    (database,) = folder_of(location).iterdir()
    assert database.name == "invoice"
    names = {path.name for path in database.iterdir()}
    # All or nothing: with --gzip every file must have the ending.
    assert all(name.endswith((".bson.gz", ".metadata.json.gz")) for name in names)
    assert {"with+space.bson.gz", "a%2Fslash.bson.gz", "percent+%252F+%257E.metadata.json.gz"} <= names
    assert "overdueInvoices.metadata.json.gz" in names
    assert "overdueInvoices.bson.gz" not in names
    assert by_name(content)["overdueInvoices"].data is None


@pytest.mark.parametrize(
    ("collection", "kind", "options"),
    [
        ("users", "collection", None),
        ("emptyCollection", "collection", None),
        ("recentEvents", "collection", {"capped", "size", "max"}),
        ("coupons", "collection", {"validator", "validationLevel", "validationAction"}),
        ("sortedGerman", "collection", {"collation"}),
        ("overdueInvoices", "view", {"viewOn", "pipeline"}),
    ],
)
def test_metadata_says_what_the_collection_is(
    seeded: Saved, collection: str, kind: str, options: set[str] | None
) -> None:
    content, location = seeded
    metadata = described(location, by_name(content)[collection])
    assert metadata["type"] == kind
    found = metadata.get("options")
    if options is None:
        assert "options" not in metadata
    else:
        assert isinstance(found, dict)
        assert options <= found.keys()
    indexes = metadata["indexes"]
    assert isinstance(indexes, list)
    assert ("_id_" in [index["name"] for index in indexes]) is (kind == "collection")
    assert "uuid" in metadata or kind == "view"
    order = ["options", "indexes", "uuid", "collectionName", "type"]
    assert list(metadata) == [name for name in order if name in metadata]


def test_metadata_is_canonical_and_keeps_the_order_of_keys(seeded: Saved) -> None:
    content, location = seeded
    indexes = described(location, by_name(content)["indexKinds"])["indexes"]
    assert isinstance(indexes, list)
    keyed = {index["name"]: index for index in indexes}
    assert list(keyed["a_1_b_-1"]["key"].items()) == [("a", {"$numberInt": "1"}), ("b", {"$numberInt": "-1"})]
    assert keyed["partial a"]["partialFilterExpression"] == {"b": {"$gt": {"$numberInt": "-10"}}}
    (ttl,) = [
        index
        for index in json.loads(unpacked(location, by_name(content)["sessions"].metadata.key))["indexes"]
        if "expireAfterSeconds" in index
    ]
    assert ttl["expireAfterSeconds"] in ({"$numberInt": "0"}, {"$numberLong": "0"})


def test_a_name_that_is_too_long_for_a_file_is_saved_and_restored_under_its_own(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path, invoice: ServiceProfile, scratch: str
) -> None:
    database[LONG_NAME].insert_one({"_id": 1})
    database["naïve 名前"].insert_one({"_id": 2})
    url = urlsplit(endpoints.mongodb_admin_url)._replace(path=f"/{database.name}").geturl()
    saved = save_all(url, tmp_path / "store")
    names = {path.name for path in (folder_of(saved[1]) / database.name).iterdir()}
    (escaped,) = [
        name.removesuffix(".bson.gz") for name in names if "%24" in name and name.endswith(".bson.gz")
    ]
    assert len(escaped) == 238
    assert described(saved[1], by_name(saved[0])[LONG_NAME])["collectionName"] == LONG_NAME
    assert restore(invoice, scratch, saved) == facts_in(scratch, saved[0])


def test_documents_older_than_a_validator_are_restored(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path, invoice: ServiceProfile, scratch: str
) -> None:
    database["strict"].insert_one({"_id": 1, "no code": True})
    database.command("collMod", "strict", validator={"code": {"$exists": True}})
    url = urlsplit(endpoints.mongodb_admin_url)._replace(path=f"/{database.name}").geturl()
    saved = save_all(url, tmp_path / "store")
    assert restore(invoice, scratch, saved) == facts_in(scratch, saved[0])


class Commands(CommandListener):
    """Keeps what a client asks a server."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.said.append(dict(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def test_an_indexs_options_that_the_server_does_not_know_are_no_reason_to_refuse_it(
    endpoints: Endpoints, scratch: str
) -> None:
    """Only old servers let drivers put such into an index; the sandbox's takes the field, and ignores it."""
    index = {"key": {"email": 1}, "name": "email_1", "unique": True}
    shape = CollectionShape("users", "collection", None, {}, (index,))
    commands = Commands()
    client: Client
    with MongoClient(endpoints.mongodb_admin_url, event_listeners=[commands]) as client:
        make_indexes(client, scratch, shape)
        (asked,) = [said for said in commands.said if "createIndexes" in said]
        assert asked["ignoreUnknownIndexOptions"] is True
        assert client[scratch]["users"].index_information()["email_1"]["unique"]


def test_what_makes_documents_expire_comes_only_when_they_were_read_and_may_come_twice(
    seeded: Saved, invoice: ServiceProfile, client: MongoClient[Document], scratch: str
) -> None:
    admin, (content, location) = invoice.database.admin_url, seeded
    restore_collections.fn(admin, scratch, content, location)
    assert list(client[scratch]["sessions"].index_information()) == ["_id_"]
    found = observe_restored_collections.fn(admin, scratch)
    for _ in range(2):
        woken = wake_collections.fn(admin, scratch, content, location, found)
        assert woken == facts_in(scratch, content)
        assert client[scratch]["sessions"].index_information()["expiresAt_1"]["expireAfterSeconds"] == 0


def test_a_data_file_that_is_cut_between_documents_is_told_by_its_facts(
    seeded: Saved, invoice: ServiceProfile, scratch: str, tmp_path: Path
) -> None:
    collection = by_name(seeded[0])["bsonTypes"]
    assert collection.data is not None
    raw = unpacked(seeded[1], collection.data.key)
    documents = [document for batch in split_documents([raw], "x") for document in batch]
    cut = decode_documents(split_documents([b"".join(documents[:-1])], "x"), "x")
    assert cut.documents == collection.documents - 1
    assert cut.value != collection.content_hash
    # It restores without a complaint, as it would with mongorestore: only the comparison tells.
    path = folder_of(seeded[1]).parent / collection.data.key
    whole = path.read_bytes()
    try:
        path.write_bytes(gzip.compress(b"".join(documents[:-1])))
        found = {facts.collection: facts for facts in restore(invoice, scratch, seeded)}
    finally:
        path.write_bytes(whole)
    expected = {facts.collection: facts for facts in facts_in(scratch, seeded[0])}
    assert {name for name in expected if found[name] != expected[name]} == {"bsonTypes"}


def test_a_restore_of_damaged_objects_names_them(
    seeded: Saved, invoice: ServiceProfile, scratch: str
) -> None:
    content, location = seeded
    (one,) = [collection for collection in content.collections if collection.collection == "users"]
    assert one.data is not None
    only = content.model_copy(update={"collections": (one,)})
    for stored, damage in (
        (one.data, gzip.compress(b"\x03\0\0\0nonsense")),
        (one.metadata, gzip.compress(b"{}")),
        (one.metadata, b"no gzip"),
    ):
        path = folder_of(location).parent / stored.key
        whole = path.read_bytes()
        try:
            path.write_bytes(damage)
            with pytest.raises(DamagedSetError):
                restore_collections.fn(invoice.database.admin_url, scratch, only, location)
        finally:
            path.write_bytes(whole)
        drop_database.fn(invoice.database.admin_url, scratch)


def test_a_document_that_the_server_refuses_is_told_without_its_values(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path, invoice: ServiceProfile, scratch: str
) -> None:
    database["users"].insert_one({"_id": "ada@example.org"})
    url = urlsplit(endpoints.mongodb_admin_url)._replace(path=f"/{database.name}").geturl()
    content, location = save_all(url, tmp_path / "store")
    (users,) = content.collections
    assert users.data is not None
    twice = 2 * unpacked(location, users.data.key)
    (folder_of(location).parent / users.data.key).write_bytes(gzip.compress(twice))
    said = (
        rf"users does not restore: MongoDB, restoring into {scratch}, refused: a document, by its index _id_ "
    )
    with pytest.raises(DamagedSetError, match=said + r"\(code 11000\)\.$") as raised:
        restore_collections.fn(invoice.database.admin_url, scratch, content, location)
    assert "ada" not in str(raised.value)


DOCUMENTS = st.lists(
    st.dictionaries(
        st.text("abc", max_size=3), st.none() | st.integers(0, 99) | st.text(max_size=40), max_size=4
    ).map(bson.encode),
    max_size=12,
)


@given(documents=DOCUMENTS, borders=st.lists(st.integers(0, 10**6), max_size=15))
def test_documents_are_split_whatever_the_chunks(documents: list[bytes], borders: list[int]) -> None:
    raw = b"".join(documents)
    places = sorted({0, len(raw), *(border % (len(raw) + 1) for border in borders)})
    chunks = [raw[start:end] for start, end in itertools.pairwise(places)]
    assert [document for batch in split_documents(chunks, "x") for document in batch] == documents


@given(documents=DOCUMENTS.filter(bool), place=st.integers(0, 10**6))
def test_a_file_that_ends_within_a_document_is_damaged(documents: list[bytes], place: int) -> None:
    raw = b"".join(documents)
    end = place % len(raw)
    borders = {sum(map(len, documents[:count])) for count in range(len(documents) + 1)}
    if end in borders:
        assert b"".join(d for batch in split_documents([raw[:end]], "x") for d in batch) == raw[:end]
    else:
        with pytest.raises(DamagedSetError, match="users ends in the middle of a document"):
            list(split_documents([raw[:end]], "users"))


@pytest.mark.parametrize("start", [b"\0\0\0\0", b"\4\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x7f"])
def test_what_is_no_document_is_not_waited_for(start: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        yield start
        pytest.fail("it waits for a document of an impossible length")

    with pytest.raises(DamagedSetError, match="users holds something that is no BSON document"):
        list(split_documents(chunks(), "users"))


@pytest.mark.parametrize(
    "document",
    [
        b"\x06\0\0\0\x01\0",
        b"\x0c\0\0\0\x10a\0\1\0\0\0\1",
        b"\x0e\0\0\0\x02a\0\x63\0\0\0x\0",
        b"\x0c\0\0\0\xeea\0\1\0\0\0\0",
    ],
    ids=["no name", "no end", "a string too long", "no such type"],
)
def test_a_document_that_does_not_decode_is_damaged(document: bytes) -> None:
    with pytest.raises(DamagedSetError, match="users: a document does not decode"):
        decode_documents([[document]], "users")


@pytest.mark.parametrize(
    "document",
    [
        bson.encode({"$ref": 1, "$id": 2}),
        bson.encode({"u": bson.Binary(b"short", 3)}),
        bson.encode({"r": bson.Regex("(", "x")}),
        b"\x10\0\0\0\x09a\0" + (2**62).to_bytes(8, "little") + b"\0",
        b"\x0f\0\0\0\x02a\0\x03\0\0\0\xff\xfe\0\0",
        bson.encode({"a": 1})[:-1].replace(b"\x0c", b"\x13", 1) + b"\x10a\0\2\0\0\0\0",
    ],
    ids=["odd reference", "odd uuid", "odd pattern", "far date", "not UTF-8", "duplicate key"],
)
def test_what_a_server_holds_decodes_however_odd(document: bytes) -> None:
    assert decode_documents([[document]], "users").documents == 1


def hashed(batches: list[list[bytes]]) -> tuple[int, str]:
    content = ContentHash()
    assert b"".join(content.watch(batches)) == b"".join(document for batch in batches for document in batch)
    return content.documents, content.value


@given(
    documents=st.lists(st.binary(min_size=1, max_size=20), max_size=12),
    seed=st.integers(),
    cut=st.integers(0, 12),
)
def test_the_content_hash_does_not_depend_on_order_or_batches(
    documents: list[bytes], seed: int, cut: int
) -> None:
    shuffled = random.Random(seed).sample(documents, k=len(documents))
    assert hashed([documents]) == hashed([shuffled[:cut], shuffled[cut:]])


@given(
    documents=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=8),
    which=st.integers(0, 7),
    place=st.integers(0, 19),
    bit=st.integers(0, 7),
)
def test_the_content_hash_sees_any_bit_any_loss_and_any_double(
    documents: list[bytes], which: int, place: int, bit: int
) -> None:
    which %= len(documents)
    changed = bytearray(documents[which])
    changed[place % len(changed)] ^= 1 << bit
    rest = documents[:which] + documents[which + 1 :]
    value = hashed([documents])[1]
    assert hashed([[*rest, bytes(changed)]])[1] != value
    assert hashed([rest])[1] != value
    assert hashed([[*documents, documents[which]]])[1] != value


def test_the_content_hash_is_what_the_documented_format_says() -> None:
    one, two = b"\5\0\0\0\0", bson.encode({"a": 1})
    total = sum(int.from_bytes(hashlib.sha256(document).digest(), "little") for document in (one, two))
    assert hashed([[one, two]]) == (2, f"{total % 2**256:064x}")
    assert hashed([]) == (0, "0" * 64)
