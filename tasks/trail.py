"""The audit trail: who or what changed a service, by which plan, and how it ended.

Each line carries the hash of the one before, so that none can be altered, taken out or put in without being
noticed; a copy of each in the store makes a cut end noticed as well.
"""

import fcntl
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from pydantic import ValidationError

from tasks.errors import AlreadyExistsError, RunbookError
from tasks.host_folder import append_line, host_folder, open_private, whole_lines
from tasks.object_store import ObjectStore
from tasks.opening_stores import open_store
from tasks.records.service import ServiceProfile
from tasks.records.trail import CheckedTrail, Event, TrailLine
from tasks.retrying import is_transient
from tasks.run_context import Run

BEGINNING: Final = "0" * 64


def record_event(  # noqa: PLR0913  who, what, by which plan, and how it ended
    profile: ServiceProfile, run: Run, runbook: str, event: Event, *, plan: str = "", outcome: str = ""
) -> TrailLine:
    """Given what happened, write it down on this host and copy it to the store; return the line.

    A store that does not answer gets its copy with a later line.
    """
    folder = host_folder(profile)
    path = folder / "trail.jsonl"
    with _locked(folder / "trail.lock"):
        lines = _lines(path)
        line = TrailLine(
            number=len(lines) + 1,
            at=datetime.now(UTC),
            service=profile.name,
            runbook=runbook,
            event=event,
            run=run.name,
            started_by=run.started_by,
            host=socket.gethostname(),
            plan=plan,
            outcome=outcome,
            previous=_hash_of(lines[-1]) if lines else BEGINNING,
        ).sealed()
        content = line.model_dump_json().encode()
        append_line(path, content)
        try:
            _copy(open_store(profile.backup.destination), profile.name, [*lines, content])
        except RunbookError as error:
            get_run_logger().warning("The audit trail could not be copied to the store: %s", error)
    return line


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=is_transient,
)
def check_trail(profile: ServiceProfile) -> CheckedTrail:
    """Given a service, return its trail and a sentence for everything wrong with it.

    Raise ``UnreachableError`` if the store, which has the copies, does not answer.
    """
    folder = host_folder(profile)
    with _locked(folder / "trail.lock"):
        # A run that is writing has its line here first and in the store a moment later.
        lines = _lines(folder / "trail.jsonl")
        copies = _read_copies(open_store(profile.backup.destination), profile.name)
    parsed = (_parse(content) for content in lines)
    return CheckedTrail(
        lines=tuple(line for line in parsed if line is not None),
        findings=(*_break_in_chain(lines), *_differences(lines, copies)),
    )


def _break_in_chain(lines: list[bytes]) -> Iterator[str]:
    previous = BEGINNING
    for number, content in enumerate(lines, start=1):
        line = _parse(content)
        if line is None:
            yield f"Line {number} is no line of the trail: it was altered."
            previous = ""
            continue
        if line.hash != line.expected_hash:
            yield f"Line {number} ({line.at:%Y-%m-%d %H:%M} {line.runbook}) was altered."
        elif line.number != number or (previous and line.previous != previous):
            yield f"Line {number} ({line.at:%Y-%m-%d %H:%M} {line.runbook}) does not follow the one before."
        previous = line.hash


def _differences(lines: list[bytes], copies: dict[str, bytes]) -> Iterator[str]:
    here = {_copy_name(number): (number, content) for number, content in enumerate(lines, start=1)}
    for name in sorted(copies.keys() - here.keys()):
        yield f"{name} is in the store and not on this host: the trail's end was cut off, or it was added."
    for name in sorted(here.keys() - copies.keys()):
        yield f"Line {here[name][0]} is on this host and not in the store: added by hand, or never copied."
    for name in sorted(here.keys() & copies.keys()):
        number, content = here[name]
        if content != copies[name]:
            yield f"Line {number} differs from its copy in the store: one of them was altered."


def _copy(store: ObjectStore, service: str, lines: list[bytes]) -> None:
    """Copy what the store does not have yet; what it has is never written again."""
    known = {stored.key for stored in store.list_keys(_prefix(service))}
    for number, content in enumerate(lines, start=1):
        key = f"{_prefix(service)}{_copy_name(number)}"
        if key not in known:
            try:
                store.write_if_absent(key, content)
            except AlreadyExistsError:
                continue


def _read_copies(store: ObjectStore, service: str) -> dict[str, bytes]:
    keys = [stored.key for stored in store.list_keys(_prefix(service))]
    return {key.removeprefix(_prefix(service)): store.read(key) for key in keys}


def _prefix(service: str) -> str:
    return f"{service}/trail/"


def _copy_name(number: int) -> str:
    return f"{number:010d}.json"


def _lines(path: Path) -> list[bytes]:
    try:
        # Only a line feed ends a line: splitlines would take an altered one for another end.
        return whole_lines(path.read_bytes()).split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _parse(content: bytes) -> TrailLine | None:
    """Return the line, or None if these are not the very bytes that were written for it."""
    try:
        line = TrailLine.model_validate_json(content)
    except ValidationError:
        return None
    return line if line.model_dump_json().encode() == content else None


def _hash_of(content: bytes) -> str:
    line = _parse(content)
    return line.hash if line is not None else ""


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with open_private(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
