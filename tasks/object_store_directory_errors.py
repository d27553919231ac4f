"""What the operating system says about a file of the store, and what that means to us."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tasks.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ConfigurationError,
    NotFoundError,
    RunbookError,
    StoreFullError,
    UnreachableError,
)

_OURS: Final[dict[int | None, tuple[type[RunbookError], str]]] = {
    errno.ENOSPC: (StoreFullError, "there is no room left: free some or give the backups a larger disk"),
    errno.EDQUOT: (StoreFullError, "the quota is used up: free some room or raise the quota"),
    errno.EFBIG: (StoreFullError, "the file is larger than this file system or user may have"),
    errno.EACCES: (AccessDeniedError, "permission denied: make the worker's user the owner of the folder"),
    errno.EPERM: (
        AccessDeniedError,
        "not permitted: is the folder ours, and does its disk take hard links?",
    ),
    errno.EROFS: (AccessDeniedError, "the disk is read-only: check it and mount it for writing"),
    errno.ENOENT: (NotFoundError, "there is no such object"),
    errno.EISDIR: (NotFoundError, "that is a folder, not an object"),
    errno.EEXIST: (AlreadyExistsError, "it is there already"),
    errno.ENOTDIR: (ConfigurationError, "a part of the key is a file, not a folder"),
    errno.ENAMETOOLONG: (ConfigurationError, "the name is too long for this file system"),
    errno.EINVAL: (ConfigurationError, "this file system does not take such a name"),
    errno.ENOTSUP: (ConfigurationError, "this file system makes no hard links: use another"),
}


@contextlib.contextmanager
def translated(root: Path, key: str) -> Iterator[None]:
    """Raise the operating system's errors as ours, naming the store and the key."""
    try:
        yield
    except OSError as error:
        raise _ours(error, root, key) from error


def _ours(error: OSError, root: Path, key: str) -> RunbookError:
    place = f"{root.as_uri()}: {key or 'the folder'}"
    if isinstance(error, FileNotFoundError) and not root.is_dir():
        return UnreachableError(f"{place}: the folder itself is gone: is its disk still mounted?")
    known = _OURS.get(error.errno)
    if known is None:
        reason = error.strerror or type(error).__name__
        return UnreachableError(f"{place}: the disk does not answer as it should ({reason}): check it.")
    kind, sentence = known
    return kind(f"{place}: {sentence}.")
