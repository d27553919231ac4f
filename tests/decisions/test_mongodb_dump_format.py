"""File names and metadata as mongodump writes them and mongorestore reads them."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import pytest
from bson import Binary, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from tasks.mongodb_dump_format import (
    canonical,
    data_key,
    escape_name,
    is_dumped,
    metadata_document,
    metadata_key,
    parse_canonical,
    read_metadata,
)

UUID = bytes(range(16))


def metadata(**changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "collection": "users",
        "kind": "collection",
        "uuid": UUID,
        "options": {},
        "indexes": [{"v": 2, "key": {"_id": 1}, "name": "_id_"}],
    }
    written = metadata_document(**{**arguments, **changed})
    document: dict[str, Any] = json.loads(written)
    return document


# Go's url.QueryEscape keeps letters, digits and - _ . ~, and writes a space as a plus sign.
@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("users", "users"),
        ("a-b_c.d~e", "a-b_c.d~e"),
        ("with space", "with+space"),
        ("plus+", "plus%2B"),
        ("a/slash", "a%2Fslash"),
        ("back\\slash", "back%5Cslash"),
        ("percent %2F", "percent+%252F"),
        ("star*?", "star%2A%3F"),
        ("quote\"'", "quote%22%27"),
        ("colon:|<>", "colon%3A%7C%3C%3E"),
        ("(paren)!", "%28paren%29%21"),
        ("ü", "%C3%BC"),
        ("名前", "%E5%90%8D%E5%89%8D"),
        ("new\nline", "new%0Aline"),
    ],
)
def test_a_name_is_escaped_as_go_escapes_a_query(name: str, escaped: str) -> None:
    assert escape_name(name) == escaped


@pytest.mark.parametrize(("name", "length"), [("x" * 238, 238), ("x" * 239, 238), ("名" * 100, 238)])
def test_a_name_that_makes_too_long_a_file_name_ends_in_its_hash(name: str, length: int) -> None:
    escaped = escape_name(name)
    assert len(escaped) == length
    assert len(escaped + ".metadata.json.gz") <= 255


def test_the_hash_of_a_long_name_is_sha1_in_base64url_without_padding() -> None:
    name = "very long " * 30
    kept, separator, digest = escape_name(name).partition("%24")
    assert (len(name), separator) == (300, "%24")
    assert kept == ("very+long+" * 30)[:208]
    assert base64.urlsafe_b64decode(digest + "=") == hashlib.sha1(name.encode()).digest()


@given(name=st.text(min_size=1, max_size=400).filter(lambda text: "\0" not in text))
def test_every_name_is_one_file_name_and_can_be_had_back(name: str) -> None:
    escaped = escape_name(name)
    assert len(escaped.encode()) <= 238
    assert set(escaped) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+%")
    if "%24" not in escaped[208:211]:
        assert unquote_plus(escaped) == name
    assert metadata(collection=name)["collectionName"] == name


@given(names=st.sets(st.text(alphabet="aA +%/.", min_size=1, max_size=6), max_size=30))
def test_no_two_names_share_a_file(names: set[str]) -> None:
    assert len({escape_name(name) for name in names}) == len(names)


def test_files_lie_in_a_folder_that_has_the_databases_own_name() -> None:
    # mongodump escapes collections only, and mongorestore takes the folder's name as it is.
    assert data_key("naïve+db", "a b", "collection") == "naïve+db/a+b.bson.gz"
    assert metadata_key("naïve+db", "a b") == "naïve+db/a+b.metadata.json.gz"


def test_the_documents_of_a_time_series_are_its_buckets() -> None:
    assert data_key("db", "weather", "timeseries") == "db/system.buckets.weather.bson.gz"
    assert metadata_key("db", "weather") == "db/weather.metadata.json.gz"


@pytest.mark.parametrize(
    ("name", "dumped"),
    [
        ("users", True),
        ("system.js", True),
        ("systematic", True),
        ("a.system.b", True),
        ("system.views", False),
        ("system.profile", False),
        ("system.buckets.weather", False),
        ("a$b", False),
    ],
)
def test_system_collections_are_left_to_the_server(name: str, dumped: bool) -> None:
    assert is_dumped(name) is dumped


def test_metadata_has_mongodumps_fields_in_mongodumps_order() -> None:
    document = metadata(options={"capped": True, "size": Int64(4096)})
    assert list(document) == ["options", "indexes", "uuid", "collectionName", "type"]
    assert document["uuid"] == "000102030405060708090a0b0c0d0e0f"
    assert document["type"] == "collection"
    assert document["options"] == {"capped": True, "size": {"$numberLong": "4096"}}
    assert document["indexes"] == [
        {"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"}
    ]


def test_metadata_leaves_out_what_there_is_not() -> None:
    view = metadata(kind="view", uuid=None, indexes=[], options={"viewOn": "users", "pipeline": []})
    assert list(view) == ["options", "indexes", "collectionName", "type"]
    assert view["indexes"] == []
    assert "options" not in metadata()


@given(fields=st.permutations(["organizationId", "timestamp", "a", "z", "_id"]))
def test_the_order_of_an_indexs_keys_is_kept(fields: list[str]) -> None:
    index = {"v": 2, "key": dict.fromkeys(fields, 1), "name": "compound"}
    written = metadata_document(collection="c", kind="collection", uuid=None, options={}, indexes=[index])
    assert list(read_metadata(written)["indexes"][0]["key"]) == fields


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary().map(lambda data: Binary(data, 128))
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.sampled_from([MinKey(), MaxKey(), Decimal128("1E+6144"), Decimal128("-0.00"), Timestamp(9, 7)])
    | st.sampled_from([Regex("^a", "imsx"), Code("x"), Code("x", {"y": 1}), DatetimeMS(2**60)])
    | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001  made aware below
        lambda moment: DatetimeMS(moment.replace(tzinfo=UTC))
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.$", min_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=VALUES.filter(lambda found: "$" not in repr(found)))
def test_what_canonical_json_says_can_be_had_back_with_its_types(value: object) -> None:
    text = canonical({"value": value})
    assert canonical(parse_canonical(text)) == text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b'{"collectionName": "c", "indexes": [{"$numberLong": []}]}',
        b'{"collectionName": "c", "indexes": [{"$oid": "nonsense"}]}',
        b'{"collectionName": "c", "options": {"$binary": {}}}',
    ],
)
def test_what_is_no_metadata_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_metadata(content)


def test_metadata_without_the_newer_fields_is_that_of_a_collection() -> None:
    old = read_metadata(b'{"collectionName": "c", "indexes": []}')
    assert old == {"collectionName": "c", "indexes": [], "options": {}, "type": "collection"}
