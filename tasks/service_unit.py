"""The file of the application's systemd unit: look at it, write it in one step, put it back."""

import hashlib
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.host_folder import name_user, sync_folder
from tasks.host_program import run_program
from tasks.process_manager_systemd import Systemd
from tasks.records.figures import shorten
from tasks.records.service import ServiceProfile
from tasks.records.unit import UnitFacts

_MODE = 0o644
_VERIFY_SECONDS = 30.0
_ENVIRONMENT = re.compile(r"^(\s*Environment\s*=)(.*)$", re.MULTILINE)
_SHOWN = re.compile(r"""["']?NODE_ENV=[\w-]+["']?""")

_ONCE = task(cache_policy=NO_CACHE, persist_result=False)


@_ONCE
def observe_unit(profile: ServiceProfile, path: Path, text: str) -> UnitFacts:
    """Given where the unit's file is and what it is to be, return what is there and what is in the way.

    Raise ``AccessDeniedError`` if it may not be read, ``UnreachableError`` if systemd does not answer.
    """
    with naming_file(path):
        present = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    verified = _verify(path.name, text)
    return UnitFacts(
        path=path,
        present=_without_values(present) if present is not None else None,
        digest=_digest(path),
        enabled=_systemd(profile).read("UnitFileState") == "enabled",
        problems=(*_find_problems(profile, path), *(verified or ())),
        verified=verified is not None,
    )


@_ONCE
def write_unit(path: Path, text: str) -> None:
    """Given a unit's file, put the text in its place in one step; the file of before stays beside it.

    Raise ``AccessDeniedError`` or ``StoreFullError``.
    """
    beside, before = path.with_name(f".{path.name}.new"), _before(path)
    with naming_file(path):
        if path.exists():
            shutil.copy2(path, before)
        owner = path.parent.stat()
        with beside.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), _MODE)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)


@_ONCE
def put_unit_back(path: Path, digest: str) -> None:
    """Given a unit's file that we wrote, or were about to, and the digest of what was there, put that back.

    It may be called again. Raise ``ConfigurationError`` if the file of before is not to be found.
    """
    with naming_file(path):
        path.with_name(f".{path.name}.new").unlink(missing_ok=True)
        if not digest:
            path.unlink(missing_ok=True)
        elif _digest(path) != digest:
            # One from an earlier installation may lie there.
            if _digest(_before(path)) != digest:
                raise ConfigurationError(f"{_before(path)} is not what {path} was: put that right by hand.")
            _before(path).replace(path)
        sync_folder(path.parent)


@_ONCE
def enable_unit(profile: ServiceProfile) -> None:
    """Given a service, let systemd read its unit and start it with the host; raise what systemctl says."""
    _systemd(profile).load_files()
    _systemd(profile).command("enable")


@_ONCE
def load_units(profile: ServiceProfile) -> None:
    """Let systemd read the files of its units anew."""
    _systemd(profile).load_files()


@_ONCE
def disable_unit(profile: ServiceProfile) -> None:
    """Given a service whose unit is loaded, let it start with the host no more."""
    _systemd(profile).command("disable")


@_ONCE
def is_unit_gone(profile: ServiceProfile, path: Path) -> bool:
    """Given a unit's file, return whether it is gone and systemd knows no such unit either."""
    return not path.exists() and _systemd(profile).read("LoadState") == "not-found"


@_ONCE
def stop_removed_unit(profile: ServiceProfile) -> None:
    """Given a service whose unit is gone, stop what systemd still runs of it; raise what systemctl says."""
    if _systemd(profile).read("ActiveState") not in {"inactive", "failed"}:
        _systemd(profile).command("stop")


def _systemd(profile: ServiceProfile) -> Systemd:
    return Systemd(profile.name, profile.application)


def _before(path: Path) -> Path:
    # systemd takes no file for a unit that ends like this.
    return path.with_name(f"{path.name}.before")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _without_values(text: str) -> str:
    """Leave of Environment= the names: people write secrets there."""

    def mask(found: re.Match[str]) -> str:
        said = found[2].strip()
        names = ", ".join(re.findall(r"([A-Za-z_]\w*)=", said))
        return found[0] if _SHOWN.fullmatch(said) else f"{found[1]}*** ({names or 'continued'})"

    return _ENVIRONMENT.sub(mask, text.replace("\\\n", " "))


def _find_problems(profile: ServiceProfile, path: Path) -> Iterator[str]:
    application, unit = profile.application, profile.application.unit
    if unit is None:
        raise ConfigurationError(f"{profile.name}: the profile has no application.unit.")
    if not path.parent.is_dir():
        yield f"{path.parent} is no folder: correct application.unit.directory."
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        yield (
            f"The worker's user {name_user(os.geteuid())} may not write in {path.parent}: let it by an ACL "
            "of that folder, and use systemctl by polkit, as the runbook's page says."
        )
    if path.is_symlink():
        yield f"{path} is a symbolic link: the unit is masked, or somebody else's. Remove it first."
    entry = application.directory / application.entry_file
    with naming_file(entry):
        is_there = entry.is_file()
    if not is_there:
        yield f"{entry} is not there: correct application.entry_file."
    if not os.access(unit.node, os.X_OK):
        yield f"{unit.node} is no program: correct application.unit.node."
    try:
        pwd.getpwnam(unit.user)
    except KeyError:
        yield f"This host has no user {unit.user}: make it, or correct application.unit.user."


def _verify(name: str, text: str) -> tuple[str, ...] | None:
    """Return what systemd itself finds wrong with a unit's file; None if it cannot be asked."""
    if (program := shutil.which("systemd-analyze")) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(text, encoding="utf-8")
        finished = run_program([program, "verify", "--man=no", str(path)], seconds=_VERIFY_SECONDS)
    complaints = [line for line in finished.output.splitlines() if name in line]
    if finished.returncode == 0 and not complaints:
        return ()
    said = shorten("; ".join(complaints) or finished.output)
    return (f"systemd-analyze refuses the unit: {said.replace(f'{folder}/', '')}.",)
