"""Write the application's env file, so that nothing but the wanted values changes, whoever kills or meets us.

What is written is another file beside it, which takes its place when it is complete and proven: who reads
meanwhile, and who is killed meanwhile, finds either the old one or the new one.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from tasks.environment_editing import edit
from tasks.environment_file import decode, parse, read_content
from tasks.errors import AccessDeniedError, RefusedError
from tasks.host_errors import naming_file
from tasks.host_folder import host_folder, sync_folder
from tasks.records.service import ServiceProfile
from tasks.service_lock import hold_file

_MARK: Final = b"\xef\xbb\xbf"
_LEFTOVER: Final = "{name}.unfinished"
_LONGEST_WAIT: Final = timedelta(seconds=30)
# The kernel gives a new file these itself, and only some users may set them.
_KERNELS_OWN: Final = ("security.", "trusted.")


@dataclass(frozen=True)
class _Found:
    """The file as it was read; symbolic links are followed."""

    path: Path
    status: os.stat_result
    content: bytes

    def is_same(self, other: "_Found") -> bool:
        return (self.path, self.content) == (other.path, other.content) and all(
            getattr(self.status, name) == getattr(other.status, name)
            for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_mode", "st_uid", "st_gid")
        )


def write_variables(
    profile: ServiceProfile,
    changes: Mapping[str, str | None],
    expected: Mapping[str, str | None],
    after: str | None = None,
) -> None:
    """Given a service, set variables of its env file (None takes one out), all of them or none.

    ``expected`` is what some of them were when the change was planned: another value by now, unless it is
    the wanted one, is a conflict. One that is new goes behind ``after``. Raise ``RefusedError`` for a
    conflict or a value that cannot be written, ``StoreFullError``, ``AccessDeniedError`` or another error
    that names the file: then nothing was changed.
    """
    with hold_file(
        host_folder(profile) / "env-file.lock",
        f"The env file of {profile.name}",
        "a change of its variables",
        "a run",
        _LONGEST_WAIT,
        lambda _: None,
    ):
        found = _read(profile)
        text = decode(profile, found.content)
        _refuse_conflict(profile, parse(text), changes, expected)
        edited = edit(text, changes, after)
        with naming_file(found.path):
            _forget_killed(found.path)
            if edited != text:
                mark = _MARK if found.content.startswith(_MARK) else b""
                _put_in_place(profile, found, mark + edited.encode("utf-8"))


def _read(profile: ServiceProfile) -> _Found:
    content = read_content(profile)
    with naming_file(profile.env_path):
        path = profile.env_path.resolve(strict=True)
        return _Found(path, path.stat(), content)


def _refuse_conflict(
    profile: ServiceProfile,
    present: Mapping[str, str],
    changes: Mapping[str, str | None],
    expected: Mapping[str, str | None],
) -> None:
    for name, value in expected.items():
        found = present.get(name)
        if found != value and not (name in changes and found == changes[name]):
            raise RefusedError(
                f"{profile.name}: somebody else changed {name} in {profile.env_path} meanwhile: find out who "
                "and why, then start this again; the file was left as it is."
            )


def _forget_killed(path: Path) -> None:
    """Remove what a killed writer left; we hold the lock, so nobody is at work on it."""
    _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(_LEFTOVER.format(name=path.name))


def _put_in_place(profile: ServiceProfile, found: _Found, content: bytes) -> None:
    if found.status.st_nlink > 1:
        raise RefusedError(
            f"{profile.name}: {found.path} has {found.status.st_nlink} names (hard links), and would be "
            "changed under one only: remove the others, or change it by hand."
        )
    beside = _beside(found.path)
    try:
        _write_beside(beside, found, content)
        if beside.read_bytes() != content:
            raise AccessDeniedError(f"{beside}: it reads otherwise than it was written: see to the disk.")
        if not _read(profile).is_same(found):
            raise RefusedError(
                f"{profile.name}: somebody else is changing {found.path} right now: start this again when "
                "they have finished; the file was left as they made it."
            )
        beside.replace(found.path)
    finally:
        # Also on a disk that lets nothing be written any more; what it says then is not the cause.
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    sync_folder(found.path.parent)


def _write_beside(beside: Path, found: _Found, content: bytes) -> None:
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        _take_after(file.fileno(), found)
        os.fsync(file.fileno())


def _take_after(descriptor: int, found: _Found) -> None:
    """Give the new file what the old one has beside its content, or fail: who may read it stays the same."""
    wanted, status = found.status, os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
    for name in os.listxattr(found.path):
        try:
            os.setxattr(descriptor, name, os.getxattr(found.path, name))
        except OSError:
            if not name.startswith(_KERNELS_OWN):
                raise
    # Last, as it opens the file to others: the owner's change would also take special bits away.
    os.fchmod(descriptor, wanted.st_mode & 0o7777)
