"""The application's files: what is in the archive is what lay there, and ordinary tools read it."""

import io
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks import application_files
from tasks.application_files import ARCHIVE_KEY, list_files, read_archive, save_application
from tasks.errors import AccessDeniedError, ConfigurationError, DamagedSetError, SourceError
from tasks.records.application import Application
from tasks.records.backup import ApplicationContent, ApplicationFacts
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP
from tests.adapters.conftest import make_location

EXCLUDED = ("node_modules", ".git", "*.log")
NOT_UTF8 = os.fsdecode(b"caf\xe9.txt")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "application"
    folder.mkdir()
    return folder


@pytest.fixture
def location(tmp_path: Path) -> SetLocation:
    return make_location(tmp_path / "store")


def application(directory: Path, excluded: tuple[str, ...] = EXCLUDED) -> Application:
    return Application(
        directory=directory,
        health_url="http://127.0.0.1:1/",
        process_manager="pm2",
        process_name="app",
        exclude_from_backup=excluded,
    )


def save(directory: Path, location: SetLocation, excluded: tuple[str, ...] = EXCLUDED) -> ApplicationContent:
    return save_application.fn(application(directory, excluded), location)


def stored(location: SetLocation) -> bytes:
    return b"".join(SetFolder(location).stream(ARCHIVE_KEY))


def members(location: SetLocation) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(stored(location)), mode="r:gz") as archive:
        return {member.name: member for member in archive}


def put(path: Path, content: bytes = b"content", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_what_matches_a_pattern_is_left_out_at_any_depth(directory: Path, location: SetLocation) -> None:
    kept = {"server.js", "logs/app.log.gz", "src/modules/a.js", "node_modules_of_mine/b.js", "src/.gitignore"}
    left = {
        "node_modules/a/index.js",
        "src/node_modules/b.js",
        ".git/HEAD",
        "src/deep/.git/HEAD",
        "logs/app.log",
        "x.log",
    }
    for name in kept | left:
        put(directory / name)
    save(directory, location)
    assert {name for name, member in members(location).items() if member.isreg()} == kept


def test_names_modes_times_and_bytes_are_kept(directory: Path, location: SetLocation) -> None:
    wanted = {
        "run.sh": (b"#!/bin/sh\n", 0o755),
        ".env": (b"SECRET=1\n", 0o600),
        "empty": (b"", 0o444),
        "setuid": (b"x", 0o4755),
        "名前 ü/🔑.txt": ("ключ".encode(), 0o640),
        NOT_UTF8: (b"latin", 0o644),
        "new\nline": (b"n", 0o644),
        "/".join(["deep" * 20] * 4): (b"a path of 320 characters", 0o644),
        "block": (bytes(512), 0o644),
        "large": (os.urandom(3_000_001), 0o644),
    }
    for name, (content, mode) in wanted.items():
        put(directory / name, content, mode)
    os.utime(directory / ".env", (1, 1234567890.123456))
    (directory / "empty folder").mkdir(mode=0o700)
    save(directory, location)
    with tarfile.open(fileobj=io.BytesIO(stored(location)), mode="r:gz") as archive:
        for name, (content, mode) in wanted.items():
            member = archive.getmember(name)
            file = archive.extractfile(member)
            assert file is not None
            assert (file.read(), stat.S_IMODE(member.mode)) == (content, mode), name
        assert archive.getmember("empty folder").isdir()
        assert archive.getmember(".env").mtime == pytest.approx(1234567890.123456)


def test_links_are_kept_as_links_and_a_second_name_as_a_file(directory: Path, location: SetLocation) -> None:
    put(directory / "real.js", b"real")
    (directory / "link.js").symlink_to("real.js")
    (directory / "dangling").symlink_to("/nowhere/at all")
    (directory / "loop").symlink_to(directory)
    (directory / "second.js").hardlink_to(directory / "real.js")
    save(directory, location)
    found = members(location)
    assert {name: member.linkname for name, member in found.items() if member.issym()} == {
        "link.js": "real.js",
        "dangling": "/nowhere/at all",
        "loop": str(directory),
    }
    assert found["real.js"].isreg()
    assert (found["second.js"].isreg(), found["second.js"].size) == (True, 4)


def test_pipes_and_sockets_which_no_restore_makes_are_left_out(
    directory: Path, location: SetLocation
) -> None:
    os.mkfifo(directory / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(directory / "socket"))
        save(directory, location)
    assert members(location) == {}


def fill(directory: Path) -> None:
    for number in range(20):
        put(directory / f"folder {number % 3}" / f"{number}.js", os.urandom(number * 700), 0o600 + number)
    put(directory / NOT_UTF8)
    (directory / "link").symlink_to("folder 0")


def test_reading_the_archive_finds_what_was_saved(directory: Path, location: SetLocation) -> None:
    fill(directory)
    saved = save(directory, location)
    found = read_archive(SetFolder(location).load(ARCHIVE_KEY, GZIP))
    assert found == ApplicationFacts(files=saved.files, content_hash=saved.content_hash)
    assert found.files == 25
    assert saved.archive.bytes == len(stored(location))


def test_tar_lists_and_unpacks_it(directory: Path, location: SetLocation, tmp_path: Path) -> None:
    fill(directory)
    saved = save(directory, location)
    archive = put(tmp_path / "archive.tar.gz", stored(location))
    listed = subprocess.run(["tar", "-tzf", archive], check=True, capture_output=True).stdout
    assert len(listed.splitlines()) == saved.files
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzpf", archive, "-C", unpacked], check=True)
    again = save(unpacked, location)
    assert (again.files, again.content_hash) == (saved.files, saved.content_hash)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"Content"),
        lambda path: path.chmod(0o640),
        lambda path: path.rename(path.with_name("other")),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("content")),
        lambda path: path.with_name("more").touch(),
    ],
    ids=["bytes", "mode", "name", "gone", "kind", "more"],
)
def test_any_difference_is_another_hash(
    directory: Path, location: SetLocation, change: Callable[[Path], object]
) -> None:
    path = put(directory / "file")
    before = save(directory, location)
    change(path)
    assert save(directory, location).content_hash != before.content_hash


def test_an_empty_directory_is_an_archive_without_members(directory: Path, location: SetLocation) -> None:
    assert save(directory, location).files == 0
    assert read_archive(SetFolder(location).load(ARCHIVE_KEY, GZIP)).files == 0
    assert members(location) == {}


def while_reading(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[Path], object]) -> None:
    """Do something to a path just before it is read, as an application at work does."""
    original = application_files._member

    def disturbed(names: tarfile.TarFile, path: Path, *rest: object) -> Iterator[bytes]:
        if path.name == name:
            act(path)
        return original(names, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(application_files, "_member", disturbed)


def test_a_file_that_vanishes_is_not_in_the_archive(
    directory: Path, location: SetLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(directory / "a"), put(directory / "b.tmp"), put(directory / "c")
    while_reading(monkeypatch, "b.tmp", Path.unlink)
    assert save(directory, location).files == 2
    assert set(members(location)) == {"a", "c"}


def test_a_folder_that_vanishes_is_not_in_the_archive(
    directory: Path, location: SetLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(directory / "a"), put(directory / "cache" / "b"), put(directory / "d")
    while_reading(monkeypatch, "cache", shutil.rmtree)
    assert save(directory, location).files == 2
    assert set(members(location)) == {"a", "d"}


def test_a_file_that_grows_is_saved_as_long_as_it_was(
    directory: Path, location: SetLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(directory / "events", b"first ")
    original = application_files._contents

    def growing(*arguments: object) -> Iterator[bytes]:
        with path.open("ab") as file:
            file.write(b"second")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(application_files, "_contents", growing)
    saved = save(directory, location)
    assert members(location)["events"].size == len(b"first ")
    assert read_archive(SetFolder(location).load(ARCHIVE_KEY, GZIP)).content_hash == saved.content_hash


def test_a_file_that_shrinks_is_refused_and_nothing_is_stored(
    directory: Path, location: SetLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(directory / "database.sqlite", bytes(3 << 20))
    original = application_files._contents

    def shrinking(*arguments: object) -> Iterator[bytes]:
        os.truncate(path, 1 << 20)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(application_files, "_contents", shrinking)
    with pytest.raises(SourceError, match=f"{path} became shorter while it was saved"):
        save(directory, location)
    root = Path(location.destination.url.removeprefix("file://"))
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_a_missing_directory_names_itself_and_the_field(directory: Path, location: SetLocation) -> None:
    for path in (directory / "nowhere", put(directory / "a file")):
        with pytest.raises(
            ConfigurationError, match=rf"{path} does not exist: correct application\.directory"
        ):
            save(path, location)


def test_a_directory_that_may_not_be_looked_at_is_named(directory: Path, location: SetLocation) -> None:
    # A name that is too long fails where one does that the worker may not reach, also for root.
    with pytest.raises(SourceError, match="File name too long"):
        save(directory / ("x" * 300), location)


@pytest.mark.parametrize("unreadable", ["private", "private.txt"])
def test_what_the_worker_may_not_read_is_named(directory: Path, unreadable: str) -> None:
    path = put(directory / unreadable) if "." in unreadable else directory / unreadable
    if "." not in unreadable:
        path.mkdir()
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(AccessDeniedError, match=f"may not read {path}"):
            list(application_files._archive(directory, (), application_files._Inventory()))
        return
    # Root may read everything, so somebody else looks, who imported all before.
    for parent in [directory, *directory.parents][:-2]:
        parent.chmod(0o755)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom tasks import application_files as files\n"
        "os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        "try:\n    list(files._archive(Path(sys.argv[2]), (), files._Inventory()))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(pwd.getpwnam("nobody").pw_uid), str(directory)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.startswith(f"AccessDeniedError The worker may not read {path}"), said


def test_a_cut_archive_is_damaged_or_holds_less(directory: Path, location: SetLocation) -> None:
    fill(directory)
    saved = save(directory, location)
    raw = b"".join(SetFolder(location).load(ARCHIVE_KEY, GZIP))
    complete = len(raw) - 2 * tarfile.BLOCKSIZE
    for end in [*range(0, complete, 509), complete - 1]:
        try:
            found = read_archive([raw[:end]])
        except DamagedSetError:
            continue
        assert found.content_hash != saved.content_hash, end


def test_a_flipped_byte_is_noticed(directory: Path, location: SetLocation) -> None:
    put(directory / "folder" / NOT_UTF8, os.urandom(1500)), put(directory / "full", os.urandom(4096))
    (directory / "link").symlink_to("folder")
    saved = save(directory, location)
    raw = b"".join(SetFolder(location).load(ARCHIVE_KEY, GZIP))
    unseen = []
    for place in range(0, len(raw), 7):
        flipped = raw[:place] + bytes([raw[place] ^ 0x15]) + raw[place + 1 :]
        try:
            found = read_archive(flipped[start : start + 1000] for start in range(0, len(flipped), 1000))
        except DamagedSetError:
            continue
        if found.content_hash == saved.content_hash:
            unseen.append(place)
    # Padding and what is not compared (owners, times) may differ: gzip's checksum and the manifest see it.
    assert len(unseen) < len(raw) / 7 * 0.6


def test_listing_is_in_the_order_of_the_names(directory: Path) -> None:
    for name in ("b", "a/2", "a/1", "c"):
        put(directory / name)
    assert [str(path.relative_to(directory)) for path in list_files(directory, ())] == [
        "a",
        "a/1",
        "a/2",
        "b",
        "c",
    ]
