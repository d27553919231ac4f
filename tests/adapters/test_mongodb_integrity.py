"""Damage in MongoDB is named, collection by collection; what is only old or odd is no damage."""

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from deployments.sandbox import seed_invoice_oddities
from deployments.sandbox.endpoints import Endpoints
from tasks import mongodb
from tasks.errors import AccessDeniedError, UnreachableError
from tasks.mongodb_integrity import examine_collections, judge_validation

Document = dict[str, Any]
CHUNK = 1 << 20


@pytest.fixture
def database(endpoints: Endpoints) -> Iterator[Database[Document]]:
    client: MongoClient[Document]
    with MongoClient(endpoints.mongodb_admin_url) as client:
        name = f"damage_{uuid.uuid4().hex[:8]}"
        yield client[name]
        client.drop_database(name)


@contextmanager
def damaging(url: str, sound: bytes, damaged: bytes) -> Iterator[str]:
    """A way to the server on which its answers are damaged in one place: it stores nothing that is broken."""
    assert len(sound) == len(damaged)
    parts = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket, *, damage: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                sink.sendall(chunk.replace(sound, damaged) if damage else chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((str(parts.hostname), int(parts.port or 0)))
                for arguments, damage in (((near, far), False), ((far, near), True)):
                    thread = threading.Thread(target=pump, args=arguments, kwargs={"damage": damage})
                    thread.start()
                    threads.append(thread)

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield url.replace(f":{parts.port}/", f":{listener.getsockname()[1]}/")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join()
        for thread in threads:
            thread.join()


def examine(url: str, database: str, folder: Path) -> tuple[str, ...]:
    secret = folder / "url"
    secret.write_text(url, encoding="utf-8")
    secret.chmod(0o600)
    return examine_collections.fn(f"file:{secret}", database)


def test_odd_but_sound_collections_have_no_finding(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path
) -> None:
    seed_invoice_oddities.add(database)
    assert examine(endpoints.mongodb_admin_url, database.name, tmp_path) == ()


def test_documents_that_do_not_decode_are_counted(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path
) -> None:
    database["users"].insert_many([{"_id": n, "name" if n % 3 else "spoiled": "x"} for n in range(10)])
    database["sound"].insert_one({"_id": 1})
    with damaging(endpoints.mongodb_admin_url, b"\x02spoiled\x00", b"\x66spoiled\x00") as url:
        findings = examine(url, database.name, tmp_path)
    assert findings == ("Collection users: 4 of 10 documents do not decode.",)


def test_what_validate_finds_is_said(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path
) -> None:
    database["users"].insert_one({"_id": 1})
    field = b"\x10nInvalidDocuments\x00"
    with damaging(endpoints.mongodb_admin_url, field + b"\0\0\0\0", field + b"\3\0\0\0") as url:
        findings = examine(url, database.name, tmp_path)
    assert findings == ("Collection users: validate counts 3 invalid documents.",)


def test_a_collection_that_cannot_be_read_is_a_finding_and_the_others_are_read(
    database: Database[Document], endpoints: Endpoints, tmp_path: Path
) -> None:
    database["broken"].insert_one({"_id": 1, "text": "its end is missing"})
    database["users"].insert_one({"_id": 1, "spoiled": "its end is missing"})
    with damaging(endpoints.mongodb_admin_url, b"is missing\x00\x00", b"is missing\x00\x01") as url:
        findings = examine(url, database.name, tmp_path)
    assert len(findings) == 2
    assert findings[0].startswith("Collection broken: it cannot be read beyond 0 documents (")
    assert findings[1].startswith("Collection users: it cannot be read beyond 0 documents (")


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongodb, "_SELECTION_MILLISECONDS", 300)
    url = "mongodb://127.0.0.1:9/db?directConnection=true&serverSelectionTimeoutMS=200"
    with pytest.raises(UnreachableError, match="does not answer"):
        examine(url, "db", tmp_path)


def test_a_user_who_may_not_look_is_an_error(endpoints: Endpoints, tmp_path: Path) -> None:
    with pytest.raises(AccessDeniedError, match="does not allow this user"):
        examine(endpoints.mongodb_url, "sandbox", tmp_path)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ({"valid": True, "nNonCompliantDocuments": 5, "warnings": ["5 break the validator"]}, []),
        ({"valid": False, "errors": ["corrupt page"]}, ["validate says: corrupt page"]),
        ({"valid": False, "corruptRecords": [1, 2]}, ["validate counts 2 corrupt records"]),
        (
            {"valid": False, "indexDetails": {"a_1": {"valid": False}, "_id_": {"valid": True}}},
            ["validate says that index a_1 is not valid"],
        ),
        ({"valid": False}, ["validate says that it is not valid, and not why"]),
        (
            {"raw": {"s1": {"valid": True}, "s2": {"valid": False, "missingIndexEntries": [{}]}}, "ok": 1.0},
            ["validate counts 1 missing index entries"],
        ),
    ],
)
def test_every_kind_of_verdict_is_put_into_words(verdict: Document, said: list[str]) -> None:
    assert list(judge_validation(verdict)) == said
