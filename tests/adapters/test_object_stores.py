"""What every object store must do, against a real folder and a real S3 server."""

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tasks.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ConfigurationError,
    NotFoundError,
    RunbookError,
    StoreFullError,
    UnreachableError,
    UnsuitableStoreError,
)
from tasks.object_store import ObjectStore
from tasks.object_store_directory import DirectoryStore
from tasks.object_store_directory_errors import translated
from tasks.object_store_s3 import S3Store
from tasks.object_store_s3_upload import MOST_PARTS, Parts, part_bytes
from tasks.opening_stores import open_store
from tasks.records.service import Destination
from tests.adapters.conftest import make_store
from tests.proxy import Proxy

MIB = 1 << 20
LATER = timedelta(days=1)


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [stored.key for stored in store.list_keys(prefix)]


def left_behind(store: ObjectStore) -> int:
    """How many unfinished writes there are; they are gone afterwards."""
    return store.discard_unfinished("", datetime.now(UTC) + LATER)


# Every store


def test_a_stream_comes_back_byte_for_byte(store: ObjectStore) -> None:
    source = random.Random(7)
    written, read = hashlib.sha256(), hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for size in [0, 1, 700_000, 9 * MIB, *[MIB] * 20, 12_345]:
            chunk = source.randbytes(size)
            written.update(chunk)
            yield chunk

    size = store.write_stream("svc/sets/one/data.bson.gz", chunks())
    for chunk in store.stream("svc/sets/one/data.bson.gz", chunk_bytes=300_000):
        read.update(chunk)

    assert size == 1 + 700_000 + 29 * MIB + 12_345
    assert read.digest() == written.digest()
    assert [stored.bytes for stored in store.list_keys("svc/")] == [size]
    assert left_behind(store) == 0


@pytest.mark.parametrize("size", [0, 5, 8 * MIB, 8 * MIB + 1])
def test_a_stream_of_any_length_is_one_object(store: ObjectStore, size: int) -> None:
    assert store.write_stream("some/key", [bytes(size)]) == size
    assert sum(map(len, store.stream("some/key"))) == size


def test_an_object_appears_only_when_its_source_has_ended(store: ObjectStore) -> None:
    seen: list[list[str]] = []

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(MIB)
        seen.append(keys(store))

    store.write_stream("a/b", chunks())

    assert seen == [[]]
    assert keys(store) == ["a/b"]


@pytest.mark.parametrize(
    ("error", "before"),
    [(KeyError("source"), 0), (OSError("source"), 3), (OSError("source"), 20), (KeyboardInterrupt(), 20)],
)
def test_a_source_that_raises_leaves_nothing_and_its_error_passes(
    store: ObjectStore, error: BaseException, before: int
) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (bytes(MIB) for _ in range(before))
        raise error

    with pytest.raises(type(error)) as caught:
        store.write_stream("a/b", chunks())

    assert caught.value is error
    assert keys(store) == []
    assert left_behind(store) == 0


def test_of_many_conditional_writers_one_wins(store: ObjectStore) -> None:
    start, won, lost = threading.Barrier(8), list[int](), list[int]()

    def contend(number: int) -> None:
        start.wait()
        try:
            store.write_if_absent("race", f"{number}".encode())
            won.append(number)
        except AlreadyExistsError:
            lost.append(number)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(won), len(lost)) == (1, 7)
    assert store.read("race") == f"{won[0]}".encode()
    assert left_behind(store) == 0


def test_a_conditional_write_leaves_what_is_there(store: ObjectStore) -> None:
    store.write("manifest.json", b"first")
    with pytest.raises(AlreadyExistsError, match=r"manifest\.json"):
        store.write_if_absent("manifest.json", b"second")
    assert store.read("manifest.json") == b"first"


def test_a_write_replaces(store: ObjectStore) -> None:
    store.write("lease", b"first")
    store.write("lease", b"second")
    assert store.read("lease") == b"second"


def test_keys_are_listed_in_their_order_below_any_prefix(store: ObjectStore) -> None:
    names = ["a/b/c", "a/b-c", "a.b", "a-b", "ab", "Zz", "invoice/sets/ü%24 x.bson"]
    before = datetime.now(UTC) - timedelta(seconds=5)
    for name in names:
        store.write(name, name.encode())

    listed = list(store.list_keys(""))

    assert [stored.key for stored in listed] == sorted(names)
    assert [stored.bytes for stored in listed] == [len(name.encode()) for name in sorted(names)]
    assert all(before < stored.written_at < datetime.now(UTC) + timedelta(seconds=5) for stored in listed)
    assert keys(store, "a/b") == ["a/b-c", "a/b/c"]
    assert keys(store, "a/b/") == ["a/b/c"]
    assert keys(store, "a-b/c") == []
    assert keys(store, "nothing/here/") == []


def test_more_keys_than_a_page_holds_are_all_listed(s3_server: Any) -> None:
    store = s3_server.store(f"many-{uuid.uuid4().hex}")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.write(f"{number:05d}", b""), range(1, 1012)))
    assert keys(store) == [f"{number:05d}" for number in range(1, 1012)]


def test_what_is_not_there_is_not_found_and_may_be_deleted(store: ObjectStore) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        store.read("nowhere")
    with pytest.raises(NotFoundError, match="no/where"):
        next(store.stream("no/where"))
    store.delete("nowhere")
    store.write("here", b"")
    store.delete("here")
    assert keys(store) == []


def test_young_unfinished_writes_and_other_prefixes_are_left_alone(store: ObjectStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (bytes(MIB) for _ in range(20))
        now = datetime.now(UTC)
        counts.append(store.discard_unfinished("svc/sets/", now - LATER))
        counts.append(store.discard_unfinished("other/", now + LATER))

    counts: list[int] = []
    store.write_stream("svc/sets/one/data", chunks())
    assert counts == [0, 0]
    assert keys(store) == ["svc/sets/one/data"]


WRITE_UNTIL_KILLED = """
import json, sys, time
from pathlib import Path
from tasks.object_store_directory import DirectoryStore
from tasks.object_store_s3 import S3Store
how = json.loads(sys.stdin.readline())
store = DirectoryStore(Path(how["root"])) if "root" in how else S3Store(**how)
def chunks():
    for _ in range(20):
        yield bytes(1 << 20)
    print("midway", flush=True)
    time.sleep(60)
store.write_stream("svc/sets/one/data", chunks())
"""


def run_python(
    script: str, *, first_line: object = None, prefix: tuple[str, ...] = ()
) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [*prefix, sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(first_line) + "\n")
        child.stdin.flush()
    return child


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_killed_writer_leaves_nothing_visible_and_can_be_cleaned_up(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    how: dict[str, object] = {"root": str(tmp_path / "store")}
    store: ObjectStore = make_store(tmp_path / "store")
    if kind == "s3":
        how = request.getfixturevalue("s3_server").arguments(f"killed-{uuid.uuid4().hex}")
        store = S3Store(**how)  # type: ignore[arg-type]

    with run_python(WRITE_UNTIL_KILLED, first_line=how) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "midway\n"
        child.send_signal(signal.SIGKILL)

    assert keys(store) == []
    assert store.discard_unfinished("", datetime.now(UTC) - LATER) == 0
    assert store.discard_unfinished("svc/sets/", datetime.now(UTC) + LATER) == 1
    assert left_behind(store) == 0
    assert not list((tmp_path / "store").rglob("*"))


# A folder


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    make_store(tmp_path / "store").write("a/b", b"secret")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*")}
    assert modes == {"a": 0o700, "b": 0o600}


@pytest.mark.parametrize(
    "key", ["../out", "a/../../out", "/etc/passwd", "a//b", "", ".", "a\0b", "x.unfinished"]
)
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = make_store(tmp_path / "store")
    for act in (lambda: store.write(key, b""), lambda: store.read(key), lambda: store.delete(key)):
        with pytest.raises(ConfigurationError):
            act()


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError, match="link"):
        store.write("link/file", b"")
    assert keys(store) == []


def test_an_empty_folder_where_the_mounted_one_was_is_no_empty_store(tmp_path: Path) -> None:
    """As a disk that failed to mount leaves it: its mount point is there, on the system's disk."""
    mount_point = tmp_path / "mnt"
    for missing in (mount_point, mount_point / "store"):
        with pytest.raises(UnreachableError, match=r"mount its disk, .* make the folder once"):
            DirectoryStore(mount_point / "store")
        missing.mkdir()
    DirectoryStore(mount_point / "store").write("key", b"content")
    mount_point.rename(tmp_path / "unmounted")
    mount_point.mkdir()
    with pytest.raises(UnreachableError):
        DirectoryStore(mount_point / "store")
    assert list(mount_point.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(ConfigurationError, match="is no folder"):
        DirectoryStore(tmp_path / "store")


def test_a_disk_that_went_away_is_unreachable_and_not_empty(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    shutil.rmtree(tmp_path / "store")
    acts: list[Callable[[], object]] = [
        lambda: keys(store),
        lambda: store.read("a"),
        lambda: store.write("a/b", b""),
        lambda: store.delete("a"),
    ]
    for act in acts:
        with contextlib.suppress(NotFoundError), pytest.raises(UnreachableError, match="mounted"):
            act()


def test_writers_go_on_while_deletions_beside_them_take_the_folders_away(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")

    def write_and_delete(name: str) -> None:
        for _ in range(50):
            store.write(f"a/b/c/d/{name}", b"")
            store.delete(f"a/b/c/d/{name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_delete, "wxyz"))
    assert list(store.list_keys("")) == []


def test_deleting_the_last_object_of_a_folder_takes_the_folder_away(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.write("svc/sets/one/a", b"")
    store.write("svc/pins/one", b"")
    store.delete("svc/sets/one/a")
    assert sorted(path.name for path in (tmp_path / "store").rglob("*")) == ["one", "pins", "svc"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EACCES, AccessDeniedError),
        (errno.EROFS, AccessDeniedError),
        (errno.ENAMETOOLONG, ConfigurationError),
        (errno.EIO, UnreachableError),
        (errno.ESTALE, UnreachableError),
    ],
)
def test_what_the_disk_says_becomes_ours(tmp_path: Path, number: int, kind: type[RunbookError]) -> None:
    with pytest.raises(kind, match="the/key"), translated(tmp_path, "the/key"):
        raise OSError(number, os.strerror(number))


FILL_THE_DISK = """
import sys, subprocess
from pathlib import Path
from tasks.errors import StoreFullError
from tasks.object_store_directory import DirectoryStore
disk = Path(sys.stdin.readline().strip().strip('"'))
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
(disk / "store").mkdir()
store = DirectoryStore(disk / "store")
store.write("svc/kept", b"kept")
for size in (100_000, 1 << 20, 16 << 20):
    try:
        store.write_stream("svc/sets/one/data", (bytes(size) for _ in range(100)))
    except StoreFullError as error:
        print(error)
print([path.name for path in disk.rglob("*")], store.read("svc/kept"))
"""


def test_a_full_disk_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system gives us no disk of our own to fill")
    with run_python(FILL_THE_DISK, first_line=str(tmp_path), prefix=(unshare, "-rm")) as child:
        said, _ = child.communicate()
    assert said.count("svc/sets/one/data: there is no room left") == 3
    assert said.endswith("['store', 'svc', 'kept'] b'kept'\n")


# S3


def test_parts_grow_so_that_an_object_may_be_large() -> None:
    sizes = [part_bytes(number) for number in range(1, MOST_PARTS + 1)]
    assert sizes[0] == 8 * MIB
    assert sum(sizes) > 800 << 30
    assert all(5 * MIB <= size <= 5 << 30 for size in sizes)
    assert sizes == sorted(sizes)


def test_parts_are_full_but_the_last() -> None:
    parts = list(Parts(bytes([number]) * (3 * MIB) for number in range(7)))
    assert [len(part) for part in parts] == [8 * MIB, 8 * MIB, 5 * MIB]
    assert b"".join(parts) == b"".join(bytes([number]) * (3 * MIB) for number in range(7))


def test_nothing_is_one_empty_part() -> None:
    assert list(Parts([])) == list(Parts([b"", b""])) == [b""]


def test_what_fills_its_parts_leaves_no_empty_one_behind() -> None:
    assert [len(part) for part in Parts([bytes(16 * MIB)])] == [8 * MIB, 8 * MIB]


def test_a_part_that_was_given_back_becomes_the_next_one() -> None:
    parts = Parts(bytes([number]) * (8 * MIB) for number in range(4))
    first = next(parts)
    second = next(parts)
    assert second is not first
    parts.give_back(first)
    third = next(parts)
    assert third is first
    assert [(part[0], part[-1]) for part in (second, third, next(parts))] == [(1, 1), (2, 2), (3, 3)]


S3_ACTS: list[Callable[[S3Store], object]] = [
    lambda store: list(store.list_keys("")),
    lambda store: store.read("a/key"),
    lambda store: store.write("a/key", b""),
    lambda store: store.write_if_absent("a/key", b""),
    lambda store: store.write_stream("a/key", (bytes(9 * MIB) for _ in range(2))),
    lambda store: store.delete("a/key"),
    lambda store: store.discard_unfinished("", datetime.now(UTC)),
]


@pytest.mark.parametrize(
    ("changed", "kind", "advice"),
    [
        ({"secret_access_key": "wrong-secret-0123456789"}, AccessDeniedError, "check both references"),
        ({"access_key_id": "AKIAWRONG"}, AccessDeniedError, "check both references"),
        ({"endpoint_url": "http://127.0.0.1:9"}, UnreachableError, "check the network"),
    ],
)
def test_a_store_that_refuses_or_is_away_is_named_with_advice_and_no_secret(
    s3_server: Any, changed: dict[str, str], kind: type[RunbookError], advice: str
) -> None:
    store = s3_server.store("refused", **changed)
    for act in S3_ACTS:
        with pytest.raises(kind, match=advice) as caught:
            act(store)
        shown = "".join(traceback.format_exception(caught.value))
        assert f"s3://{s3_server.bucket}/refused" in str(caught.value)
        assert s3_server.secret_access_key not in shown
        assert "wrong-secret" not in shown


def test_a_bucket_that_is_missing_is_a_mistake_of_configuration(s3_server: Any) -> None:
    store = s3_server.store("x", bucket=f"missing-{uuid.uuid4().hex}")
    for act in (lambda: keys(store), lambda: store.read("key")):
        with pytest.raises(ConfigurationError, match="there is no such bucket"):
            act()


def test_an_endpoint_that_is_no_url_is_a_mistake_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        S3Store("bucket", endpoint_url="minio.example.com")


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that gives each its answer, the last one to all further, and hangs up."""
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(left.pop(0) if left[1:] else left[0])
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def refusing(status: int, code: str, message: str) -> Iterator[S3Store]:
    """A store that says this to everyone."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)
    with answering(answer) as endpoint:
        yield S3Store("b", endpoint_url=endpoint, access_key_id="id", secret_access_key="secret")


def test_a_download_that_is_cut_midway_is_gone_on_with(
    s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.object_store_s3._RESUME_SECONDS", 0.0)
    content = random.Random(7).randbytes(5_000_000)
    s3_server.store("cut").write("the/key", content)
    asked: list[bytes] = []
    passed = 0

    def cut(data: bytes, from_client: bool) -> bool:
        """Cut each connection after a million bytes."""
        nonlocal passed
        if from_client:
            asked.append(data)
            passed = 0
        passed += len(data)
        return passed < 1_000_000

    proxy = Proxy(("127.0.0.1", urlsplit(s3_server.endpoint_url).port or 0), cut)
    try:
        through = s3_server.store("cut", endpoint_url=f"http://127.0.0.1:{proxy.port}")
        assert b"".join(through.stream("the/key", 1 << 16)) == content
    finally:
        proxy.close()
    ranges = [found[1] for data in asked if (found := re.search(rb"(?i)range: bytes=(\d+)-", data))]
    assert len(ranges) >= 4
    assert sorted(map(int, ranges)) == [int(start) for start in ranges]


def test_what_a_store_without_ranges_gives_again_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.object_store_s3._RESUME_SECONDS", 0.0)
    monkeypatch.setattr("tasks.object_store_s3._SKIPPED_BYTES", 30_000)
    content = random.Random(8).randbytes(300_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nETag: x\r\n\r\n"
    with answering(head + content[:100_000], head + content[:200_000], head + content) as endpoint:
        store = S3Store("b", endpoint_url=endpoint, access_key_id="id", secret_access_key="secret")
        assert b"".join(store.stream("the/key", 1 << 16)) == content


def test_a_download_of_which_no_more_comes_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.object_store_s3._RESUME_SECONDS", 0.0)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: x\r\n\r\n" + bytes(500_000)
    with answering(answer) as endpoint:
        store = S3Store("b", endpoint_url=endpoint, access_key_id="id", secret_access_key="secret")
        with pytest.raises(UnreachableError, match="the/key"):
            list(store.stream("the/key"))
        with pytest.raises(UnreachableError, match="the/key"):
            store.read("the/key")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", UnreachableError),
        (500, "Whatever", UnreachableError),
        (507, "Whatever", StoreFullError),
        (403, "QuotaExceeded", StoreFullError),
        (400, "ExpiredToken", AccessDeniedError),
        (403, "RequestTimeTooSkewed", AccessDeniedError),
        (404, "NoSuchKey", NotFoundError),
        (404, "NoSuchBucket", ConfigurationError),
        (409, "ConditionalRequestConflict", AlreadyExistsError),
        (400, "InvalidRequest", ConfigurationError),
    ],
)
def test_what_the_store_says_becomes_ours(status: int, code: str, kind: type[RunbookError]) -> None:
    with refusing(status, code, "m") as store, pytest.raises(kind, match=code):
        store.write("the/key", b"content")


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "sentence"),
    [
        (
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
            UnsuitableStoreError,
            r"does not offer what was asked, such as conditional writes \(If-None-Match\)",
        ),
        (501, "XNotHere", "", UnsuitableStoreError, "such as conditional writes"),
        (
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock",
            ConfigurationError,
            "set destination.checksums to when_supported where it requires one",
        ),
        (
            501,
            "NotImplemented",
            "Header 'x-amz-sdk-checksum-algorithm' with value 'CRC32' not implemented",
            ConfigurationError,
            "and to when_required where it takes none",
        ),
        (400, "InvalidRequest", "Part number must be an integer", ConfigurationError, "does not take this"),
    ],
)
def test_what_a_store_lacks_or_wants_is_said(
    status: int, code: str, message: str, kind: type[RunbookError], sentence: str
) -> None:
    with refusing(status, code, message) as store, pytest.raises(kind, match=sentence):
        store.write_if_absent("the/key", b"content")


def test_a_store_that_goes_away_in_mid_upload_is_unreachable_and_completes_nothing(s3_server: Any) -> None:
    prefix = f"away-{uuid.uuid4().hex}"
    with cut_after(s3_server.endpoint_url, 12 * MIB) as endpoint:
        store = s3_server.store(prefix, endpoint_url=endpoint)
        with pytest.raises(UnreachableError) as caught:
            store.write_stream("data", (bytes(MIB) for _ in range(40)))
    assert "discard_unfinished" in "".join(caught.value.__notes__)
    assert keys(s3_server.store(prefix)) == []
    assert left_behind(s3_server.store(prefix)) == 1


@contextlib.contextmanager
def cut_after(endpoint: str, most: int) -> Iterator[str]:
    """A proxy before the store that goes away for good after so many bytes."""
    host, port = endpoint.removeprefix("http://").split(":")
    server, passed, ends = socket.create_server(("127.0.0.1", 0)), 0, list[socket.socket]()

    def go_away() -> None:
        for end in [server, *ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def pump(source: socket.socket, target: socket.socket) -> None:
        nonlocal passed
        with contextlib.suppress(OSError), source, target:
            while piece := source.recv(65536):
                passed += len(piece)
                if passed > most:
                    go_away()
                target.sendall(piece)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = server.accept()[0], socket.create_connection((host, int(port)))
                ends.extend([near, far])
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        go_away()


MEASURE_MEMORY = """
import json, resource, sys
from tasks.object_store_s3 import S3Store
store = S3Store(**json.loads(sys.stdin.readline()))
store.write("warm", b"up")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block = bytes(1 << 20)
store.write_stream("large", (block for _ in range(300)))
assert sum(map(len, store.stream("large"))) == 300 << 20
store.delete("large")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_stays_flat_however_long_the_stream(s3_server: Any) -> None:
    arguments = s3_server.arguments(f"memory-{uuid.uuid4().hex}")
    with run_python(MEASURE_MEMORY, first_line=arguments) as child:
        said, _ = child.communicate()
    assert float(said) < 60


# Opening


def test_a_destination_opens_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: Any
) -> None:
    monkeypatch.setenv("THE_SECRET", s3_server.secret_access_key)
    secret_file = tmp_path / "key-id"
    secret_file.write_text(s3_server.access_key_id)
    secret_file.chmod(0o600)
    destination = Destination(
        url=f"s3://{s3_server.bucket}/opened",
        endpoint_url=s3_server.endpoint_url,
        access_key_id=f"file:{secret_file}",
        secret_access_key="env:THE_SECRET",
    )
    store = open_store(destination)
    store.write("key", b"content")
    assert store.address.startswith(f"s3://{s3_server.bucket}/opened (127.0.0.1:")
    assert s3_server.store("opened").read("key") == b"content"
    (tmp_path / "with space").mkdir()
    local = open_store(Destination(url=f"file://{tmp_path}/with%20space"))
    local.write("key", b"content")
    assert (tmp_path / "with space" / "key").read_bytes() == b"content"
