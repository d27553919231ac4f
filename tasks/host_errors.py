"""What this host's file system refuses, as the one error hierarchy has it."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import AccessDeniedError, SourceError, StoreFullError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM}


@contextmanager
def naming_file(place: Path) -> Generator[None]:
    """Make an ``OSError`` of the block one of ours, naming the file that it is about, or else the place.

    Raise ``StoreFullError``, ``AccessDeniedError`` or ``SourceError``.
    """
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else place
        if error.errno in _FULL:
            raise StoreFullError(f"{where}: there is no room left on the disk: free some.") from None
        if error.errno == errno.EROFS:
            raise AccessDeniedError(
                f"{where}: its disk can only be read: see dmesg for what is wrong with it, and mount it anew."
            ) from None
        if error.errno in _REFUSED:
            raise AccessDeniedError(
                f"{where}: the worker's user may not do that ({error.strerror}): give it the right to, or "
                "run it as the application's user."
            ) from None
        raise SourceError(f"{where}: {error.strerror}.") from None
