"""What a restored application keeps of the present one, and the present one of a restored one that went.

The former is what its backup leaves out, and its env file; the latter is what users made meanwhile.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.application_files import list_files
from tasks.application_tree import env_of
from tasks.file_owner import give_owner
from tasks.host_errors import naming_file
from tasks.records.application_tree import TreePaths
from tasks.records.service import ServiceProfile

_INSTALLED = "node_modules"
# Where a second name cannot be given, to another user's file or across disks, a copy does.
_NO_SECOND_NAME = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP}


class Brought:
    """What the new tree was given, by name, and which file that was; no mapping, or Prefect would walk it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.identities: dict[Path, tuple[int, int]] = {}


@task(cache_policy=NO_CACHE, persist_result=False)
def bring_along(
    profile: ServiceProfile, paths: TreePaths, keep_env: bool, before: Brought | None = None
) -> Brought:
    """Given the folders, give the one beside what the backup leaves out of the present one, as second names.

    What was unpacked stays, but for the env file where the present one is kept. Packages stay behind when
    the profile has a command that installs them. Given what was brought before, bring what was made or
    replaced since, and take away what is gone; what somebody else made of it in the new tree stays. Return
    what was brought. Raise ``AccessDeniedError`` or ``StoreFullError`` naming the file.
    """
    application = profile.application
    brought = before or Brought()
    with naming_file(paths.directory):
        _take_away_what_is_gone(paths, brought)
        for relative in _list_left_out(paths.directory, application.exclude_from_backup):
            if relative.name != _INSTALLED or not application.install_command:
                _bring(paths, relative, brought)
        env = env_of(profile, paths.directory)
        if keep_env and env is not None and _make_parents(paths, env):
            if env not in brought.identities:
                (paths.beside / env).unlink(missing_ok=True)
            _bring(paths, env, brought)
    return brought


@task(cache_policy=NO_CACHE, persist_result=False)
def keep_what_was_made(paths: TreePaths, since: datetime) -> int:
    """Given the folders after an undo, give the present one what was made in the one beside since then.

    Only files whose name the present one does not have, such as uploads; return how many. Killed, it can be
    called again. Raise ``AccessDeniedError`` or ``StoreFullError`` naming the file.
    """
    back = TreePaths(directory=paths.beside, beside=paths.directory, aside=paths.aside)
    with naming_file(paths.beside):
        made = [*_list_made(paths.beside, since)] if paths.beside.is_dir() else []
        new = [relative for relative in made if not os.path.lexists(paths.directory / relative)]
        kept = [relative for relative in new if _make_parents(back, relative)]
        for relative in kept:
            (paths.beside / relative).rename(paths.directory / relative)
    return len(kept)


def _list_made(root: Path, since: datetime) -> Iterator[Path]:
    """Yield, relative to the root, the files that are there since then, whatever time they were given."""
    for path in list_files(root, ()):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_ctime >= since.timestamp():
            yield path.relative_to(root)


def _list_left_out(root: Path, patterns: tuple[str, ...], below: Path = Path()) -> Iterator[Path]:
    """Yield, relative to the root, every name that the backup leaves out, but nothing in such a folder."""
    with suppress(FileNotFoundError):
        for entry in sorted(os.scandir(root / below), key=lambda entry: entry.name):
            if any(fnmatch(entry.name, pattern) for pattern in patterns):
                yield below / entry.name
            elif entry.is_dir(follow_symlinks=False):
                yield from _list_left_out(root, patterns, below / entry.name)


def _bring(paths: TreePaths, relative: Path, brought: Brought) -> None:
    """Give the new tree this file, link or folder, unless it has one there that we did not bring.

    One that is gone is left out.
    """
    source, target = paths.directory / relative, paths.beside / relative
    if not _make_parents(paths, relative) or not _is_ours_to_bring(relative, target, brought):
        return
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(source.lstat().st_mode):
            if not os.path.lexists(target):
                _make_like(source, target)
                brought.identities[relative] = _identity(target)
            if _is_folder(target):
                for path in sorted(source.iterdir()):
                    _bring(paths, relative / path.name, brought)
        elif not _is_folder(target) and not _is_same(source, target):
            target.unlink(missing_ok=True)
            _give(source, target)
            if os.path.lexists(target):
                brought.identities[relative] = _identity(target)


def _give(source: Path, target: Path) -> None:
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
        _give_owner(source, target)
    elif stat.S_ISREG(mode):
        _give_second_name(source, target)


def _is_ours_to_bring(relative: Path, target: Path, brought: Brought) -> bool:
    """Whether nothing is there, or what we brought: not a file of the archive or of the install command."""
    known = brought.identities.get(relative)
    if not os.path.lexists(target):
        return known is None
    return _identity(target) == known


def _take_away_what_is_gone(paths: TreePaths, brought: Brought) -> None:
    """Take from the new tree what was brought and is gone: an old lock would keep the application down."""
    for relative in reversed(list(brought.identities)):
        target = paths.beside / relative
        if os.path.lexists(paths.directory / relative) or not os.path.lexists(target):
            continue
        if _identity(target) == brought.identities.pop(relative):
            if _is_folder(target):
                # Not of a folder that holds what others made.
                with suppress(OSError):
                    target.rmdir()
            else:
                target.unlink()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_same(source: Path, target: Path) -> bool:
    """Whether the new tree has what is there now; a copy is made anew, for the file may have been written."""
    if source.is_symlink() and target.is_symlink():
        return source.readlink() == target.readlink()
    return os.path.lexists(target) and _identity(source) == _identity(target)


def _make_parents(paths: TreePaths, relative: Path) -> bool:
    """Make the folders above a name as they are in the present tree; say if they can be its parents."""
    for parent in reversed(relative.parents[:-1]):
        target = paths.beside / parent
        if not os.path.lexists(target):
            _make_like(paths.directory / parent, target)
        if target.is_symlink() or not target.is_dir():
            return False
    return True


def _make_like(model: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(stat.S_IMODE(model.stat().st_mode))
    _give_owner(model, folder)


def _give_second_name(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_SECOND_NAME:
            raise
        shutil.copy2(source, target)
        _give_owner(source, target)


def _give_owner(model: Path, target: Path) -> None:
    status = model.lstat()
    give_owner(target, status.st_uid, status.st_gid)
