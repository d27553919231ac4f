"""The application's folder on its host: observe it, change it for another one, change it back, remove one."""

import hashlib
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.application_files import list_files
from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.host_folder import name_user, sync_folder
from tasks.records.application_tree import OwnedPath, TreeFacts, TreePaths
from tasks.records.service import ServiceProfile

_OURS = re.compile(r"\.(restore|aside)-[0-9a-f]{12}")
_END_SECONDS = 10
_ALL_OF_OWNER = 0o700

_ONCE = task(cache_policy=NO_CACHE, persist_result=False)


@_ONCE
def observe_tree(profile: ServiceProfile, since: datetime) -> TreeFacts:
    """Given a service, return what stands at its application's directory, and how much changed since then.

    Raise ``AccessDeniedError`` if it cannot be read, ``ConfigurationError`` if its parent is not there.
    """
    directory = Path(os.path.realpath(profile.application.directory))
    with naming_file(directory):
        if not directory.parent.is_dir():
            raise ConfigurationError(
                f"{profile.name}: {directory.parent} does not exist: make it, or correct "
                "application.directory."
            )
        is_folder = directory.is_dir()
        found = _list_times(directory, profile.application.exclude_from_backup) if is_folder else []
        status = directory.stat() if is_folder else None
        return TreeFacts(
            directory=directory,
            kind="folder" if is_folder else "other" if directory.exists() else "missing",
            identity=f"{status.st_dev}:{status.st_ino}" if status else "",
            top_level=_hash_top_level(directory, profile.application.exclude_from_backup) if status else "",
            files=len(found),
            changed=sum(time > since.timestamp() for time in found),
            has_env=env_of(profile, directory) is not None,
            mounts=_mounts_in(directory),
            siblings=tuple(
                sorted(path.name for path in directory.parent.iterdir() if _is_ours(path, directory))
            ),
            parent_writable=os.access(directory.parent, os.W_OK | os.X_OK),
            free_bytes=shutil.disk_usage(directory.parent).free,
            of_another=_find_path_of_another(directory) if is_folder else None,
            as_root=os.geteuid() == 0,
        )


@_ONCE
def put_aside(paths: TreePaths) -> None:
    """Given the folders, make the application's directory the one aside; none there is no error."""
    with naming_file(paths.directory):
        if paths.directory.exists():
            _rename(paths.directory, paths.aside)


@_ONCE
def put_in_place(paths: TreePaths) -> None:
    """Given the folders, make the one beside the application's directory."""
    with naming_file(paths.directory):
        _rename(paths.beside, paths.directory)


@_ONCE
def put_back(paths: TreePaths, was_there: bool) -> None:
    """Given the folders, make them what they were, however far a change of places came.

    Killed, it can be called again.
    """
    with naming_file(paths.directory):
        came_in = paths.aside.exists() if was_there else not paths.beside.exists()
        if came_in and paths.directory.exists():
            _rename(paths.directory, paths.beside)
        if paths.aside.exists():
            _rename(paths.aside, paths.directory)


@_ONCE
def remove_tree(paths: TreePaths, folder: Path) -> None:
    """Given a folder that a restore made or put aside, remove it; one that is gone is no error.

    Raise ``ConfigurationError`` if it is another folder, or something is mounted in it.
    """
    remove_folder(paths, folder)


def remove_folder(paths: TreePaths, folder: Path) -> None:
    """Do what ``remove_tree`` does, within a task."""
    if not _is_ours(folder, paths.directory):
        raise ConfigurationError(f"{folder} is no folder that a restore made: nothing was removed.")
    if mounts := _mounts_in(folder):
        raise ConfigurationError(f"{folder} is not removed: {mounts[0]} is mounted in it. Unmount it first.")
    with naming_file(folder):
        if not folder.exists():
            return
        _open_folders(folder)
        shutil.rmtree(folder)
        sync_folder(folder.parent)


@_ONCE
def end_processes_beside(paths: TreePaths) -> None:
    """Given the folders, end what works in the one beside: an install command outlives the run's kill."""
    left = list(_processes_in(paths.beside))
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_END_SECONDS)


def env_of(profile: ServiceProfile, directory: Path) -> Path | None:
    """Given a service, return its env file's path below the directory, or None if it is not in there."""
    path = profile.env_path
    if ".." in path.parts or not path.is_relative_to(profile.application.directory):
        return None
    relative = path.relative_to(profile.application.directory)
    return relative if os.path.lexists(directory / relative) else None


def _is_ours(path: Path, directory: Path) -> bool:
    return path.parent == directory.parent and bool(_OURS.fullmatch(path.name.removeprefix(directory.name)))


def _list_times(directory: Path, excluded: tuple[str, ...]) -> list[float]:
    times = []
    for path in list_files(directory, excluded):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            times.append(status.st_mtime)
    return times


def _find_path_of_another(directory: Path) -> OwnedPath | None:
    """Return the first path that does not belong to the worker's user; nobody writes to a link."""
    walked = os.walk(directory)
    below = (Path(place, name) for place, folders, files in walked for name in sorted(folders + files))
    for path in itertools.chain([directory], below):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if status.st_uid != os.geteuid() and not stat.S_ISLNK(status.st_mode):
            return OwnedPath(path=path, owner=name_user(status.st_uid))
    return None


def _hash_top_level(directory: Path, excluded: tuple[str, ...]) -> str:
    """Hash what a deployment changes, and what an application that runs seldom does."""
    digest = hashlib.sha256()
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if any(fnmatch(entry.name, pattern) for pattern in excluded):
            continue
        status = entry.stat(follow_symlinks=False)
        about = "" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"{entry.name}\0{about}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _mounts_in(directory: Path) -> tuple[Path, ...]:
    mounted = {Path(partition.mountpoint) for partition in psutil.disk_partitions(all=True)}
    return tuple(sorted(path for path in mounted if path.is_relative_to(directory)))


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    sync_folder(target.parent)


def _processes_in(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # Gone, or another user's: no run of ours started it.
            continue


def _open_folders(folder: Path) -> None:
    """Let the owner into every folder: what is in a folder without write permission cannot be removed."""
    folder.chmod(_ALL_OF_OWNER)
    for place, names, _ in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink() and path.stat().st_mode & _ALL_OF_OWNER != _ALL_OF_OWNER:
                path.chmod(_ALL_OF_OWNER)
