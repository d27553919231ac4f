"""Whether the application's user may read or write a file: by trying, or else by owner, groups and mode."""

import os
import pwd
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

_OVERRIDE_ANY_MODE = 1 << 1  # CAP_DAC_OVERRIDE
# As os.access has them, and each three bits of a mode.
_READ, _WRITE, _PASS = os.R_OK, os.W_OK, os.X_OK
_ACL = "system.posix_acl_access"


@dataclass(frozen=True)
class FileUser:
    """Somebody who opens files."""

    name: str
    user: int
    groups: frozenset[int]
    any_mode: bool
    """Whether modes do not bind him, as they do not bind root."""
    is_us: bool = False
    """Whether we are him, with all his rights: what he may is then tried."""


def user_of(processes: Sequence[psutil.Process], directory: Path) -> FileUser:
    """Given the application's processes and directory, return the processes' user, or else the owner.

    Of several, the one that may most: nobody is said to be kept out who is not.
    """
    users = []
    for process in processes:
        with suppress(psutil.Error, OSError):
            users.append(_user_of_process(process))
    if users:
        found = max(users, key=lambda user: user.any_mode)
        return replace(found, is_us=found == _user_of_process(psutil.Process()))
    owner = directory.stat().st_uid
    if owner == os.geteuid():
        return replace(_user_of_process(psutil.Process()), is_us=True)
    groups: frozenset[int] = frozenset()
    with suppress(KeyError):
        entry = pwd.getpwuid(owner)
        groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return FileUser(_name(owner), owner, groups, any_mode=owner == 0)


def _user_of_process(process: psutil.Process) -> FileUser:
    user, group = process.uids().effective, process.gids().effective
    said = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{process.pid}/status")
        .read_text(encoding="ascii", errors="replace")
        .splitlines()
        if ":" in line
    )
    return FileUser(
        name=_name(user),
        user=user,
        groups=frozenset({group, *map(int, said["Groups"].split())}),
        any_mode=bool(int(said["CapEff"], 16) & _OVERRIDE_ANY_MODE),
    )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def why_unreadable(user: FileUser, file: Path) -> str | None:
    """Given a file that is there, return why the user cannot read it, as the end of a sentence, or None.

    Raise ``PermissionError`` if he could, for all that we are allowed to see.
    """
    path = Path(os.path.realpath(file))
    if (blocked := _why_unreachable(user, path)) is not None:
        return blocked
    if not stat.S_ISREG(path.stat().st_mode):
        return "is no file"
    return None if _may(user, path, _READ) else f"cannot be read by the user {user.name} ({_describe(path)})"


def why_unwritable(user: FileUser, folder: Path) -> str | None:
    """Given a folder that is there, return likewise why the user cannot make a file in it."""
    path = Path(os.path.realpath(folder))
    if (blocked := _why_unreachable(user, path)) is not None:
        return blocked
    if not stat.S_ISDIR(path.stat().st_mode):
        return "is no folder"
    return (
        None
        if _may(user, path, _WRITE | _PASS)
        else f"cannot be written to by the user {user.name} ({_describe(path)})"
    )


def _why_unreachable(user: FileUser, path: Path) -> str | None:
    for folder in reversed(path.parents):
        if not _may(user, folder, _PASS):
            return f"is in {folder}, which the user {user.name} may not enter ({_describe(folder)})"
    return None


def _may(user: FileUser, path: Path, wanted: int) -> bool:
    """Tell whether the user may do all of what is wanted; where nobody can know, he may."""
    if user.is_us:
        return os.access(path, wanted, effective_ids=True)
    status = path.stat()
    if user.any_mode or _has_acl(path):
        return True
    if status.st_uid == user.user:
        allowed = status.st_mode >> 6
    else:
        allowed = status.st_mode >> 3 if status.st_gid in user.groups else status.st_mode
    return allowed & wanted == wanted


def _has_acl(path: Path) -> bool:
    """Tell whether more than the mode says who may; its group's part then means something else."""
    try:
        os.getxattr(path, _ACL)
    except OSError:
        return False
    return True


def _describe(path: Path) -> str:
    status = path.stat()
    return f"{stat.filemode(status.st_mode)}, of {_name(status.st_uid)}"
