"""Whose a file is that takes another's place."""

import os
from contextlib import suppress
from pathlib import Path


def give_owner(path: Path, user: int, group: int) -> None:
    """Given a path, give it to this user and this group, as far as we may: whoever is not root, to the group.

    A web server reads by the group what an application's user wrote. POSIX lets an owner give a file to a
    group that he is in; what he may not give stays with his own.
    """
    if os.geteuid() == 0:
        os.chown(path, user, group, follow_symlinks=False)
    else:
        with suppress(PermissionError):
            os.chown(path, -1, group, follow_symlinks=False)
