"""What a service looked like when it was healthy last: what changed since then is the first suspect.

``<state_directory>/<service>/known-good.json`` holds fingerprints only, made with a random key of this host
that is in a file of its own: without it nobody can try out which value a fingerprint is of.
"""

import hmac
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from tasks.environment_file import read_variables
from tasks.errors import RunbookError
from tasks.host_errors import naming_file
from tasks.host_folder import host_folder, replace_file, sync_folder
from tasks.own_processes import find_node_of, find_own_processes
from tasks.program_dependencies import list_missing_dependencies
from tasks.program_files import list_program_files
from tasks.records.observation import Complaint, Record
from tasks.records.service import ServiceProfile

_NAME: Final = "known-good.json"
_KEY_NAME: Final = "fingerprint-key"
_KEY_BYTES: Final = 32
# The kernel says when it was booted, and with it when a process started, in whole seconds.
_START_TOLERANCE_SECONDS: Final = 2.0
_KEY_CHECK: Final = "the key of these fingerprints"


class KnownFile(Record):
    """A file of the program; with the same size and times it is not read again."""

    size: int
    modified_ns: int
    changed_ns: int
    fingerprint: str


class KnownGood(Record):
    """What was true when the service was healthy last; no value of anything."""

    at: datetime
    key_check: str
    """A fingerprint of nothing in particular: with another key, no other can be compared either."""
    variables: dict[str, str]
    """By the variable's name, as ``fingerprint`` makes them."""
    files: dict[str, KnownFile]
    """By the path below the application's directory."""
    tolerated: tuple[Complaint, ...] = ()
    """What was wrong with its packages, and did it no harm."""
    node: str | None = None
    """The Node.js that ran it."""


@task(cache_policy=NO_CACHE, persist_result=False)
def remember_healthy(profile: ServiceProfile, at: datetime, accepted: bool = False) -> None:
    """Given a service that is healthy now, keep what it looks like; raise ``StoreFullError`` without room.

    What was changed after its processes started is not proven by its health, they do not run it yet: it is
    kept only if a person ``accepted`` it.
    """
    folder, before = host_folder(profile), recall_healthy(profile)
    processes = find_own_processes(profile)
    proven_until = _say_start(processes) if before and not accepted else None
    with naming_file(folder):
        remembered = KnownGood(
            at=at,
            key_check=fingerprint(profile, _KEY_CHECK, ""),
            variables=_know_variables(profile, before, proven_until),
            files=_know_files(profile, before.files if before else {}, proven_until),
            tolerated=list_missing_dependencies(profile.application.directory),
            node=find_node_of(processes) or (before.node if before else None),
        )
        replace_file(folder / _NAME, remembered.model_dump_json().encode())


def recall_healthy(profile: ServiceProfile) -> KnownGood | None:
    """Given a service, return what it looked like when it was healthy last.

    None if nothing is remembered, it cannot be read, or the key that it was made with is lost.
    """
    try:
        found = KnownGood.model_validate_json((host_folder(profile) / _NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.key_check == fingerprint(profile, _KEY_CHECK, "") else None


def fingerprint(profile: ServiceProfile, name: str, value: str | bytes) -> str:
    """Given a value, return its fingerprint: the same for the same name and value on this host only."""
    content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return hmac.digest(_key_of(profile), f"{name}\0".encode() + content, "sha256").hex()


def know_file(profile: ServiceProfile, path: Path, known: KnownFile | None) -> KnownFile:
    """Given a file, and what is known of it, return what it is now; it is read only if it was touched."""
    status = path.stat()
    times = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if known is not None and times == (known.size, known.modified_ns, known.changed_ns):
        return known
    return KnownFile(
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
        fingerprint=fingerprint(profile, "file", path.read_bytes()),
    )


def list_changed(profile: ServiceProfile, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Given an env file's variables, return the names of those that were otherwise when it was healthy."""
    known = recall_healthy(profile)
    if known is None:
        return ()
    now = {name: fingerprint(profile, name, value) for name, value in variables.items()}
    names = now.keys() | known.variables.keys()
    return tuple(sorted(name for name in names if now.get(name) != known.variables.get(name)))


def _say_start(processes: Iterable[psutil.Process]) -> int | None:
    """Return until when a change was before the first process' start, in nanoseconds."""
    started = []
    for process in processes:
        with suppress(psutil.Error):
            started.append(process.create_time())
    return int((min(started) + _START_TOLERANCE_SECONDS) * 1e9) if started else None


def _know_variables(
    profile: ServiceProfile, before: KnownGood | None, proven_until: int | None
) -> dict[str, str]:
    earlier = before.variables if before else {}
    try:
        variables = read_variables(profile)
        changed_ns = profile.env_path.stat().st_ctime_ns
    except (RunbookError, OSError):
        # It is healthy nevertheless: it was started with what the file said before.
        return earlier
    if proven_until is not None and changed_ns > proven_until:
        return earlier
    return {name: fingerprint(profile, name, value) for name, value in variables.items()}


def _know_files(
    profile: ServiceProfile, before: Mapping[str, KnownFile], proven_until: int | None
) -> dict[str, KnownFile]:
    known = {}
    for name, path in list_program_files(profile).items():
        earlier = before.get(name)
        # One that is gone meanwhile, or that only the application may read, is not remembered.
        with suppress(FileNotFoundError, PermissionError):
            now = know_file(profile, path, earlier)
            is_same = earlier is not None and earlier.fingerprint == now.fingerprint
            if is_same or proven_until is None or now.changed_ns <= proven_until:
                known[name] = now
            elif earlier is not None:
                known[name] = earlier
    return known


def _key_of(profile: ServiceProfile) -> bytes:
    path = host_folder(profile) / _KEY_NAME
    with naming_file(path):
        with suppress(FileNotFoundError):
            found = path.read_bytes()
            if len(found) == _KEY_BYTES:
                return found
            # Never written as a whole.
            path.unlink(missing_ok=True)
        _write_new(path, secrets.token_bytes(_KEY_BYTES))
        return path.read_bytes()


def _write_new(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, and only if nobody else did meanwhile."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(written)
    finally:
        written.unlink(missing_ok=True)
    sync_folder(path.parent)
