"""The folder in which this host keeps what must survive a kill: private, and on a local disk."""

import os
import pwd
import tempfile
from pathlib import Path
from typing import IO

from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.host_errors import naming_file
from tasks.records.service import ServiceProfile


def host_folder(profile: ServiceProfile) -> Path:
    """Given a service, return its private folder on this host, made if it is missing.

    Raise ``AccessDeniedError`` if the worker may not make it or it is another user's, ``ConfigurationError``
    if it is open to others.
    """
    folder = profile.state_directory / profile.name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except PermissionError:
        raise AccessDeniedError(
            f"{profile.name}: the worker may not make {folder}: make it for its user, mode 700, or correct "
            "state_directory in the profile."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{profile.name}: {folder} cannot be made ({error.strerror}): correct state_directory in the "
            "profile."
        ) from None
    if found.st_uid != os.geteuid():
        # Even root's files there would lock the worker out.
        raise AccessDeniedError(
            f"{profile.name}: {folder} belongs to the user {name_user(found.st_uid)}: run this as that user."
        )
    if found.st_mode & 0o077:
        raise ConfigurationError(f"{profile.name}: {folder} is open to others: run chmod 700 on it.")
    return folder


def name_user(user: int) -> str:
    """Given a user's number, return the name, or the number where this host has none for it."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def open_private(path: Path) -> IO[str]:
    """Open a file of the folder to read and append, for its owner only; it is made if it is missing.

    Raise what ``naming_file`` does where the disk takes none, as one that is mounted to be read only.
    """
    with naming_file(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def append_line(path: Path, line: bytes) -> None:
    """Append a line so that it is there after a power cut; raise what ``naming_file`` does if it cannot be.

    What a killed writer left of a last line goes first: nobody was told that it was written.
    """
    with naming_file(path):
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            end = whole_lines(file.read())
            file.truncate(len(end))
            _write_all(file.fileno(), line + b"\n")
            os.fsync(file.fileno())
        if is_new:
            sync_folder(path.parent)


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a file in the place of the one before, to be there after a power cut; raise ``OSError``.

    Who reads it meanwhile gets the one or the other, whole. What fails leaves nothing beside it.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def whole_lines(content: bytes) -> bytes:
    """Return the content without what follows its last line's end."""
    return content[: content.rfind(b"\n") + 1]


def sync_folder(folder: Path) -> None:
    """Make the folder's list of names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
