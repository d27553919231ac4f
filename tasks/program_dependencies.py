"""Which of an application's packages are missing, or have a version that its package.json does not want.

They are looked for where Node.js does. What may be missing, as an optional package, is not looked for.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nodesemver import satisfies  # type: ignore[import-untyped]

from tasks.records.observation import Complaint

_FOLDER: Final = "node_modules"
_MOST: Final = 10
# npm's own name for another package, as npm:@scope/name@^1.2.3
_ALIAS = re.compile(r"npm:@?[^@]+@(?P<range>.+)")
# A folder, an archive, a repository, a tag, a workspace: nothing that a version could be compared with.
_RANGE = re.compile(r"[\s\d.xX*^~<>=|v+-]+|.*\d+\.\d+.*")
_PLACE = re.compile(r"[:/]")


def list_missing_dependencies(directory: Path) -> tuple[Complaint, ...]:
    """Given the application's directory, return its packages that are missing or wrong, at most ten.

    Raise ``OSError`` if a file is there and cannot be read. Without a package.json there is none.
    """
    manifest = _read(directory / "package.json")
    if manifest is None:
        return ()
    found = [*_judge_wanted(directory, manifest), *_judge_installed(directory)]
    return tuple({complaint.name: complaint for complaint in reversed(found)}.values())[::-1][:_MOST]


def _judge_wanted(directory: Path, manifest: dict[str, Any]) -> Iterator[Complaint]:
    optional = _mapping(manifest.get("optionalDependencies"))
    for name, wanted in _mapping(manifest.get("dependencies")).items():
        if name in optional:
            continue
        installed = _find(directory, name)
        if installed is None:
            yield Complaint(name=name, problem=f"is not installed, package.json wants {_say(wanted)}")
        elif not _is_wanted(installed, wanted):
            yield Complaint(
                name=name, problem=f"is installed as {_say(installed)}, package.json wants {_say(wanted)}"
            )


def _judge_installed(directory: Path) -> Iterator[Complaint]:
    """Yield what npm installed, by its own list, and is gone: packages of packages are in it too."""
    packages = _mapping((_read(directory / _FOLDER / ".package-lock.json") or {}).get("packages"))
    for place, about in packages.items():
        if any(_mapping(about).get(word) for word in ("optional", "devOptional", "dev", "peer", "link")):
            continue
        if place.startswith(f"{_FOLDER}/") and not _is_there(directory / place):
            name = place.rpartition(f"{_FOLDER}/")[2]
            yield Complaint(name=name, problem=f"was installed and is gone from {place}")


def _find(directory: Path, name: str) -> str | None:
    """Return the version that Node.js would find, "" if it does not say one, None if there is none."""
    resolved = directory.resolve()
    for folder in (resolved, *resolved.parents):
        package = folder / _FOLDER / name
        if _is_there(package):
            return str((_read(package / "package.json") or {}).get("version", ""))
    return None


def _is_there(package: Path) -> bool:
    """Tell whether Node.js would find the package: an install that was broken off leaves folders behind."""
    return any((package / name).is_file() for name in ("package.json", "index.js"))


def _is_wanted(installed: str, wanted: object) -> bool:
    if not isinstance(wanted, str) or not installed:
        return True
    if alias := _ALIAS.fullmatch(wanted):
        wanted = alias["range"]
    if _PLACE.search(wanted) or not _RANGE.fullmatch(wanted):
        return True
    try:
        return bool(satisfies(installed, wanted, loose=True))
    except ValueError:
        # Neither of them is a version: nobody can say.
        return True


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a package.json says, nothing if it is no JSON, and None if it is not there."""
    try:
        return _mapping(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _say(value: object) -> str:
    """Say a version or a range; an address may hold a password."""
    return value if isinstance(value, str) and not _PLACE.search(value) else "another source"
