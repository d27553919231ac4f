"""Which files of the application's directory are its program."""

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tasks.records.service import ServiceProfile

# Not .json: an application keeps data in such files.
_SUFFIXES: Final = (".js", ".cjs", ".mjs", ".ts")
_MANIFESTS: Final = {"package.json", "package-lock.json"}
_FOREIGN: Final = {"node_modules", ".git"}
MOST: Final = 2000


def list_program_files(profile: ServiceProfile) -> dict[str, Path]:
    """Given a service, return its program's files by their paths below its directory, at most ``MOST``.

    Nothing of what the backup leaves out is among them, and nothing that was installed.
    """
    root, excluded = profile.application.directory, profile.application.exclude_from_backup
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_left_out(name, excluded))
        for name in sorted(names):
            if _is_program(name) and not _is_left_out(name, excluded):
                path = Path(place, name)
                found[path.relative_to(root).as_posix()] = path
                if len(found) == MOST:
                    return found
    return found


def _is_program(name: str) -> bool:
    return name.endswith(_SUFFIXES) or name in _MANIFESTS


def _is_left_out(name: str, excluded: tuple[str, ...]) -> bool:
    return name in _FOREIGN or any(fnmatch(name, pattern) for pattern in excluded)
