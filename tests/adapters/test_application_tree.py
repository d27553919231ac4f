"""An application's folder: an archive of any evil stays in its folder, and changed places change back."""

import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks import application_tree
from tasks.application_files import list_files, save_application
from tasks.application_keeping import bring_along, keep_what_was_made
from tasks.application_unpacking import unpack, unpack_application
from tasks.errors import ConfigurationError, DamagedSetError, RunbookError, SourceError, StoreFullError
from tasks.records.application_tree import OwnedPath, TreePaths
from tasks.records.backup import ApplicationContent, StoredObject
from tasks.records.service import ServiceProfile
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MOST = 1 << 20


def fold(root: Path) -> TreePaths:
    return TreePaths(
        directory=root / "app",
        beside=root / "app.restore-0123456789ab",
        aside=root / "app.aside-0123456789ab",
    )


@pytest.fixture
def paths(tmp_path: Path) -> TreePaths:
    (tmp_path / "app").mkdir()
    return fold(tmp_path)


@pytest.fixture
def profile(service: ServiceProfile, paths: TreePaths) -> ServiceProfile:
    return make_profile(service, paths)


def make_profile(service: ServiceProfile, paths: TreePaths, **changed: Any) -> ServiceProfile:
    settings = {"directory": paths.directory, "install_command": (), **changed}
    application = service.application.model_copy(update=settings)
    return service.model_copy(update={"application": application})


@pytest.fixture
def location(service: ServiceProfile) -> SetLocation:
    return SetLocation(destination=service.backup.destination, folder="invoice/sets/one")


def put(path: Path, content: str = "content", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **changed: Any) -> bytes:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.mode = kind, len(content), 0o644
    for key, value in changed.items():
        setattr(found, key, value)
    return found.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape") + content + bytes(-len(content) % 512)


def archive(*members: bytes) -> Iterator[bytes]:
    yield b"".join(members) + bytes(1024)


def content_of(files: int, raw_bytes: int = MOST) -> ApplicationContent:
    stored = StoredObject(key="application/application.tar.gz", bytes=1, sha256="", raw_bytes=raw_bytes)
    return ApplicationContent(files=files, content_hash="", archive=stored, seconds=1)


def unpack_members(paths: TreePaths, *members: bytes, **limits: int) -> None:
    paths.beside.mkdir()
    unpack(archive(*members), content_of(**{"files": len(members), **limits}), paths)


# --- What was saved is what is unpacked ---


def test_what_was_saved_is_unpacked_with_modes_times_links_and_names(
    profile: ServiceProfile, paths: TreePaths, location: SetLocation
) -> None:
    app = paths.directory
    put(app / "bin" / "run", "#!", 0o755)
    put(app / "secret", "x", 0o600)
    put(app / os.fsdecode(b"caf\xe9.txt"), "y")
    (app / "bin").chmod(0o2750)
    (app / "deep" / "empty").mkdir(parents=True)
    (app / "deep" / "link").symlink_to("../bin/run")
    os.utime(app / "secret", (1_000_000_000, 1_000_000_000.5))
    content = save_application.fn(profile.application, location)

    unpack_application.fn(content, location, paths)

    def describe(root: Path) -> dict[str, tuple[object, ...]]:
        return {
            str(path.relative_to(root)): (
                stat.filemode(path.lstat().st_mode),
                path.lstat().st_uid,
                None if path.is_symlink() else int(path.stat().st_mtime),
                path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            )
            for path in list_files(root, ())
        }

    assert describe(paths.beside) == describe(app)
    assert paths.beside.stat().st_mode == app.stat().st_mode


def test_what_an_earlier_try_left_is_unpacked_over(
    profile: ServiceProfile, paths: TreePaths, location: SetLocation
) -> None:
    put(paths.directory / "a")
    content = save_application.fn(profile.application, location)
    put(paths.beside / "left" / "over", mode=0o400)
    (paths.beside / "left").chmod(0o500)
    unpack_application.fn(content, location, paths)
    assert [path.name for path in paths.beside.iterdir()] == ["a"]


def test_an_archive_that_is_not_the_manifests_is_refused(
    profile: ServiceProfile, paths: TreePaths, location: SetLocation
) -> None:
    put(paths.directory / "a")
    content = save_application.fn(profile.application, location)
    put(paths.directory / "a", "CONTENT")
    save_application.fn(profile.application, location)
    with pytest.raises(DamagedSetError, match="not those that were saved"):
        unpack_application.fn(content, location, paths)


def test_a_cut_archive_is_refused(profile: ServiceProfile, paths: TreePaths, location: SetLocation) -> None:
    put(paths.directory / "a", "x" * 5000)
    content = save_application.fn(profile.application, location)
    raw = b"".join(SetFolder(location).load(content.archive.key, GZIP))
    paths.beside.mkdir()
    with pytest.raises(DamagedSetError, match="is damaged"):
        unpack(iter([raw[:3000]]), content, paths)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_as_root_a_file_keeps_the_owner_that_it_has_now_and_a_new_one_gets_the_directorys(
    paths: TreePaths,
) -> None:
    put(paths.directory / "known")
    os.chown(paths.directory, 1234, 1235)
    os.chown(paths.directory / "known", 4321, 4322)
    unpack_members(
        paths, member("known", uid=7), member("new", uid=7), member("link", tarfile.SYMTYPE, linkname="new")
    )
    owners = {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in paths.beside.iterdir()}
    assert owners == {"known": (4321, 4322), "new": (1234, 1235), "link": (1234, 1235)}
    assert paths.beside.stat().st_uid == 1234


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody of another group")
def test_who_is_not_root_gives_what_is_his_to_the_groups_that_he_is_in(tmp_path: Path) -> None:
    for name in ("of-the-web-server", "of-others", "new"):
        put(tmp_path / name)
        os.chown(tmp_path / name, 65534, 65534)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom tasks.file_owner import give_owner\n"
        "os.setgroups([1235]); os.setgid(65534); os.setuid(65534); os.chdir(sys.argv[1])\n"
        "give_owner(Path('of-the-web-server'), 4321, 1235); give_owner(Path('of-others'), 4321, 1236)\n"
    )
    # By its descriptor: the folders above are root's.
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        command = [sys.executable, "-c", script, f"/proc/self/fd/{folder}"]
        subprocess.run(command, check=True, timeout=60, pass_fds=[folder])
    finally:
        os.close(folder)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()}
    assert owners == {"of-the-web-server": (65534, 1235), "of-others": (65534, 65534), "new": (65534, 65534)}


# --- Evil archives ---

EVIL: dict[str, tuple[bytes, ...]] = {
    "an absolute name": (member("/tmp/evil"),),
    "a name that leads out": (member("../evil"),),
    "a name that leads out on the way": (member("a", tarfile.DIRTYPE), member("a/../../evil")),
    "a name of nothing": (member("."),),
    "a name with an empty part": (member("a", tarfile.DIRTYPE), member("a//evil")),
    "an absolute link": (member("evil", tarfile.SYMTYPE, linkname="/etc/passwd"),),
    "a link out": (member("evil", tarfile.SYMTYPE, linkname="../app/.env"),),
    "a file through a link out": (member("a", tarfile.SYMTYPE, linkname=".."), member("a/evil")),
    "a file through a link within": (
        member("d", tarfile.DIRTYPE),
        member("a", tarfile.SYMTYPE, linkname="d"),
        member("a/evil"),
    ),
    "two links that lead out together": (
        member("d", tarfile.DIRTYPE),
        member("d/e", tarfile.DIRTYPE),
        member("evil", tarfile.SYMTYPE, linkname="d/e/up/.."),
        member("d/e/up", tarfile.SYMTYPE, linkname="../.."),
    ),
    "a hard link": (member("evil", tarfile.LNKTYPE, linkname="/etc/passwd"),),
    "a hard link within": (member("a"), member("evil", tarfile.LNKTYPE, linkname="a")),
    "a character device": (member("evil", tarfile.CHRTYPE, devmajor=1, devminor=3),),
    "a block device": (member("evil", tarfile.BLKTYPE, devmajor=8, devminor=0),),
    "a pipe": (member("evil", tarfile.FIFOTYPE),),
    "a kind that nobody knows": (member("evil", b"Z"),),
    "a file for its owner's rights": (member("evil", mode=0o4755),),
    "a file for its group's rights": (member("evil", mode=0o2755),),
    "a name twice": (member("a"), member("a")),
    "a folder over a link": (
        member("a", tarfile.SYMTYPE, linkname="."),
        member("a", tarfile.DIRTYPE),
    ),
    "a file over a link out": (member("a", tarfile.SYMTYPE, linkname="../evil"), member("a", content=b"x")),
    "a file in no folder": (member("a/evil"),),
    "a file in a file": (member("a"), member("a/evil")),
}


@pytest.mark.parametrize("members", EVIL.values(), ids=EVIL)
def test_an_evil_archive_is_refused_and_nothing_leaves_its_folder(
    paths: TreePaths, members: tuple[bytes, ...]
) -> None:
    with pytest.raises(DamagedSetError, match="is not unpacked"):
        unpack_members(paths, *members)
    assert not Path("/tmp/evil").exists()
    assert {path.name for path in paths.directory.parent.iterdir()} == {"app", paths.beside.name}
    assert list(paths.directory.iterdir()) == []


def test_a_sparse_file_that_would_fill_the_disk_is_refused(paths: TreePaths) -> None:
    headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,0", "GNU.sparse.numblocks": "1"}
    with pytest.raises(DamagedSetError, match="neither a plain file"):
        unpack_members(paths, member("evil", pax_headers=headers))


@pytest.mark.parametrize("mtime", ["nan", "1e300", "-5", "inf"])
def test_a_time_that_no_file_can_have_is_left_out(paths: TreePaths, mtime: str) -> None:
    try:
        unpack_members(paths, member("a", pax_headers={"mtime": mtime}))
    except DamagedSetError:
        return
    assert (paths.beside / "a").stat().st_mtime > LONG_AGO.timestamp()


def test_more_than_the_manifest_speaks_of_is_refused(paths: TreePaths) -> None:
    with pytest.raises(DamagedSetError, match="more than the 1 files"):
        unpack_members(paths, member("a"), member("b"), files=1)


def test_a_larger_archive_than_the_manifest_speaks_of_is_refused(paths: TreePaths) -> None:
    with pytest.raises(DamagedSetError, match="larger than the 600 bytes"):
        unpack_members(paths, member("a", content=b"x" * 5000), raw_bytes=600)


def test_a_name_that_no_file_system_takes_is_refused_in_a_sentence(
    paths: TreePaths, location: SetLocation
) -> None:
    raw = b"".join(archive(member("x" * 300)))
    stored = SetFolder(location).save("application/application.tar.gz", [raw], GZIP)
    content = content_of(1).model_copy(update={"archive": stored})
    with pytest.raises(RunbookError, match="name too long"):
        unpack_application.fn(content, location, paths)


@pytest.mark.parametrize(
    ("evil", "words"),
    [
        (member("uploads", tarfile.SYMTYPE, linkname="/data/uploads"), "make it again as \\S+/app/uploads"),
        (member("sandbox", mode=0o4755), "restore the files by hand"),
    ],
)
def test_what_a_backup_may_have_saved_is_not_called_somebody_elses(
    paths: TreePaths, evil: bytes, words: str
) -> None:
    with pytest.raises(DamagedSetError, match=words) as refused:
        unpack_members(paths, evil)
    assert "no backup of ours" not in str(refused.value)


def test_a_link_out_that_is_there_now_may_come_back(paths: TreePaths, tmp_path: Path) -> None:
    (paths.directory / "uploads").symlink_to(tmp_path / "elsewhere")
    same = member("uploads", tarfile.SYMTYPE, linkname=str(tmp_path / "elsewhere"))
    unpack_members(paths, same)
    assert (paths.beside / "uploads").readlink() == tmp_path / "elsewhere"
    with pytest.raises(DamagedSetError):
        unpack(archive(same, member("uploads/evil")), content_of(2), fold(tmp_path))


# --- What is kept of the present files ---


def test_what_the_backup_leaves_out_is_given_to_the_restored_files(
    profile: ServiceProfile, paths: TreePaths
) -> None:
    app, beside = paths.directory, paths.beside
    put(app / "logs" / "app.log", "lines")
    put(app / "new" / "deep" / "b.log", "lines")
    put(app / "node_modules" / "p" / "index.js", "p")
    (app / "node_modules" / ".bin").mkdir()
    (app / "node_modules" / ".bin" / "p").symlink_to("../p/index.js")
    put(app / "server.js", "present")
    put(app / ".env", "KEY=new", 0o600)
    put(beside / "server.js", "restored")
    put(beside / ".env", "KEY=old", 0o644)
    put(beside / "logs" / "app.log", "restored")

    bring_along.fn(profile, paths, keep_env=True)

    assert (beside / "logs" / "app.log").read_text() == "restored"
    assert (beside / "new" / "deep" / "b.log").samefile(app / "new" / "deep" / "b.log")
    assert (beside / "node_modules" / ".bin" / "p").read_text() == "p"
    assert (beside / "server.js").read_text() == "restored"
    assert (beside / ".env").read_text() == "KEY=new"
    assert stat.S_IMODE((beside / ".env").stat().st_mode) == 0o600


def test_what_was_made_in_restored_files_that_went_is_given_to_those_of_before(paths: TreePaths) -> None:
    app, beside = paths.directory, paths.beside
    put(app / "server.js", "before")
    for name in ("server.js", "uploads/old", "gone.js"):
        put(beside / name, "restored")
    time.sleep(0.02)
    since = datetime.now(UTC)
    time.sleep(0.02)
    put(beside / "uploads" / "new", "upload")
    put(beside / "other" / "deep" / "new", "upload")
    # An application that copies a file gives it that one's time.
    os.utime(beside / "uploads" / "new", (0, 0))
    (beside / "server.js").write_text("changed")
    assert keep_what_was_made.fn(paths, since) == 2
    assert {str(path.relative_to(app)): path.read_text() for path in app.rglob("*") if path.is_file()} == {
        "server.js": "before",
        "uploads/new": "upload",
        "other/deep/new": "upload",
    }
    assert keep_what_was_made.fn(paths, since) == 0
    application_tree.remove_tree.fn(paths, beside)
    assert keep_what_was_made.fn(paths, since) == 0


def test_what_changed_of_it_since_then_is_given_again_and_nothing_else_is_touched(
    profile: ServiceProfile, paths: TreePaths
) -> None:
    app, beside = paths.directory, paths.beside
    for name in ("app.log", "gone.log", "built.log", "unbuilt.log", "uploads.log/a", "removed.log/lock"):
        put(app / name, "before")
    (app / "link.log").symlink_to("app.log")
    put(app / "archived.log", "present")
    put(beside / "archived.log", "restored")
    put(app / ".env", "KEY=old")
    brought = bring_along.fn(profile, paths, True)

    # The application writes on,
    for name in ("app.log", ".env", "built.log", "unbuilt.log", "archived.log"):
        put(app / f"{name}-new", "after").replace(app / name)
    put(app / "made.log", "after")
    put(app / "uploads.log" / "b", "after")
    (app / "gone.log").unlink()
    (app / "removed.log" / "lock").unlink()
    (app / "removed.log").rmdir()
    (app / "link.log").unlink()
    (app / "link.log").symlink_to("made.log")
    # and the install command makes one file of its own, and deletes another.
    put(beside / "built.log-new", "built").replace(beside / "built.log")
    (beside / "unbuilt.log").unlink()
    for _ in range(2):
        bring_along.fn(profile, paths, True, brought)

    assert {
        str(path.relative_to(beside)): path.read_text() for path in beside.rglob("*") if path.is_file()
    } == {
        "app.log": "after",
        "made.log": "after",
        "link.log": "after",
        "uploads.log/a": "before",
        "uploads.log/b": "after",
        "archived.log": "restored",
        "built.log": "built",
        ".env": "after",
    }
    assert not (beside / "removed.log").exists()


def test_packages_that_a_command_installs_and_an_env_file_that_is_not_wanted_are_not_given(
    service: ServiceProfile, paths: TreePaths
) -> None:
    profile = make_profile(service, paths, install_command=("npm", "ci"))
    put(paths.directory / "node_modules" / "p")
    put(paths.directory / ".env", "KEY=new")
    put(paths.beside / ".env", "KEY=old")
    bring_along.fn(profile, paths, keep_env=False)
    assert [path.name for path in paths.beside.iterdir()] == [".env"]
    assert (paths.beside / ".env").read_text() == "KEY=old"


def test_nothing_is_given_through_a_link_of_the_archive(profile: ServiceProfile, paths: TreePaths) -> None:
    put(paths.directory / "logs" / "app.log")
    put(paths.beside / "other" / "a")
    (paths.beside / "logs").symlink_to("other")
    bring_along.fn(profile, paths, keep_env=True)
    assert [path.name for path in (paths.beside / "other").iterdir()] == ["a"]


@pytest.mark.parametrize("env_file", ["../.env", "/etc/app.env"])
def test_an_env_file_that_is_not_in_the_directory_is_left_where_it_is(
    service: ServiceProfile, paths: TreePaths, env_file: str
) -> None:
    profile = make_profile(service, paths, env_file=Path(env_file))
    outside = put(paths.directory.parent / ".env", "KEY=new")
    paths.beside.mkdir()
    bring_along.fn(profile, paths, keep_env=True)
    assert outside.read_text() == "KEY=new"
    assert not application_tree.observe_tree.fn(profile, LONG_AGO).has_env


# --- Places change, and change back ---


def swap_nothing(paths: TreePaths) -> None:
    """A run that was killed before it changed anything."""


def swap_half(paths: TreePaths) -> None:
    application_tree.put_aside.fn(paths)


def swap_whole(paths: TreePaths) -> None:
    application_tree.put_aside.fn(paths)
    application_tree.put_in_place.fn(paths)


def swap_and_half_back(paths: TreePaths) -> None:
    swap_whole(paths)
    paths.directory.rename(paths.beside)


@pytest.mark.parametrize("far", [swap_nothing, swap_half, swap_whole, swap_and_half_back])
def test_however_far_a_change_came_it_is_undone_and_undone_once(
    paths: TreePaths, far: Callable[[TreePaths], None]
) -> None:
    put(paths.directory / "old")
    put(paths.beside / "new")
    far(paths)
    for _ in range(2):
        application_tree.put_back.fn(paths, True)
        application_tree.remove_tree.fn(paths, paths.beside)
    assert [path.name for path in paths.directory.iterdir()] == ["old"]
    assert [path.name for path in paths.directory.parent.iterdir()] == ["app"]


@pytest.mark.parametrize("far", [swap_nothing, swap_half, swap_whole, swap_and_half_back])
def test_where_nothing_was_nothing_is_again(tmp_path: Path, far: Callable[[TreePaths], None]) -> None:
    paths = fold(tmp_path)
    put(paths.beside / "new")
    far(paths)
    for _ in range(2):
        application_tree.put_back.fn(paths, False)
        application_tree.remove_tree.fn(paths, paths.beside)
    assert list(tmp_path.glob("app*")) == []


def test_only_a_folder_of_a_restore_is_ever_removed(paths: TreePaths, tmp_path: Path) -> None:
    other = tmp_path / "app.restore-mine"
    other.mkdir()
    for folder in (paths.directory, tmp_path, other, tmp_path / "x" / paths.beside.name):
        with pytest.raises(ConfigurationError, match="no folder that a restore made"):
            application_tree.remove_tree.fn(paths, folder)
    assert other.exists()


def test_a_folder_is_removed_and_what_its_links_lead_to_stays(paths: TreePaths) -> None:
    kept = put(paths.directory / "kept")
    put(paths.aside / "a" / "b")
    (paths.aside / "link").symlink_to(paths.directory)
    (paths.aside / "a").chmod(0o500)
    application_tree.remove_tree.fn(paths, paths.aside)
    assert not paths.aside.exists()
    assert kept.exists()


def test_what_works_in_the_folder_beside_is_ended_and_nothing_else(paths: TreePaths) -> None:
    paths.beside.mkdir()
    wait = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(wait, cwd=paths.beside, stdin=subprocess.PIPE) as within,
        subprocess.Popen(wait, cwd=paths.directory, stdin=subprocess.PIPE) as outside,
    ):
        application_tree.end_processes_beside.fn(paths)
        assert not psutil.pid_exists(within.pid)
        assert psutil.Process(outside.pid).status() != psutil.STATUS_ZOMBIE
        outside.kill()


# --- What stands there ---


def test_what_stands_there_is_observed(profile: ServiceProfile, paths: TreePaths) -> None:
    put(paths.directory / ".env")
    old = put(paths.directory / "src" / "old.js")
    os.utime(old, (1, 1))
    put(paths.directory / "app.log")
    paths.aside.mkdir()
    found = application_tree.observe_tree.fn(profile, LONG_AGO)
    assert (found.kind, found.files, found.changed, found.has_env) == ("folder", 2, 1, True)
    assert found.siblings == (paths.aside.name,)
    assert found.mounts == ()
    again = application_tree.observe_tree.fn(profile, LONG_AGO)
    assert again.top_level == found.top_level
    put(paths.directory / "app.log", "another line")
    put(paths.directory / "src" / "new.js")
    assert application_tree.observe_tree.fn(profile, LONG_AGO).top_level == found.top_level
    put(paths.directory / "package.json")
    assert application_tree.observe_tree.fn(profile, LONG_AGO).top_level != found.top_level


def test_where_all_files_are_the_workers_users_none_is_anothers(
    profile: ServiceProfile, paths: TreePaths
) -> None:
    put(paths.directory / "uploads" / "a")
    found = application_tree.observe_tree.fn(profile, LONG_AGO)
    assert (found.of_another, found.as_root) == (None, os.geteuid() == 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_first_path_of_another_user_is_noted_also_where_the_backup_leaves_it_out(
    profile: ServiceProfile, paths: TreePaths
) -> None:
    (paths.directory / "link").symlink_to("nowhere")
    os.chown(paths.directory / "link", 4321, -1, follow_symlinks=False)
    log = put(paths.directory / "uploads" / "app.log")
    os.chown(log, 4321, -1)
    put(paths.directory / "uploads" / "b")
    os.chown(paths.directory / "uploads" / "b", 4322, -1)
    found = application_tree.observe_tree.fn(profile, LONG_AGO).of_another
    assert found == OwnedPath(path=log, owner="4321")


def test_a_missing_directory_a_file_and_a_missing_parent_are_told_apart(
    service: ServiceProfile, tmp_path: Path
) -> None:
    paths = fold(tmp_path)
    observe = application_tree.observe_tree.fn
    assert observe(make_profile(service, paths), LONG_AGO).kind == "missing"
    put(paths.directory)
    assert observe(make_profile(service, paths), LONG_AGO).kind == "other"
    with pytest.raises(ConfigurationError, match="does not exist"):
        observe(make_profile(service, fold(tmp_path / "gone")), LONG_AGO)
    with pytest.raises(SourceError, match="File name too long"):
        observe(make_profile(service, fold(tmp_path / ("x" * 300))), LONG_AGO)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB in the folder aside, where this user may mount one."""
    disk = fold(tmp_path).aside / "disk"
    disk.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_mount_is_seen_and_a_folder_with_one_is_not_removed(
    small_disk: Path, service: ServiceProfile, tmp_path: Path
) -> None:
    precious = put(small_disk / "precious")
    for directory in (small_disk, small_disk.parent):
        profile = make_profile(service, fold(tmp_path), directory=directory)
        assert application_tree.observe_tree.fn(profile, LONG_AGO).mounts == (small_disk,)
    with pytest.raises(ConfigurationError, match="is mounted in it"):
        application_tree.remove_tree.fn(fold(tmp_path), small_disk.parent)
    assert precious.exists()


def test_no_room_is_said(small_disk: Path, location: SetLocation) -> None:
    paths = fold(small_disk)
    raw = b"".join(archive(member("big", content=b"x" * 200_000)))
    stored = SetFolder(location).save("application/application.tar.gz", [raw], GZIP)
    with pytest.raises(StoreFullError, match="no room left"):
        unpack_application.fn(content_of(1).model_copy(update={"archive": stored}), location, paths)
