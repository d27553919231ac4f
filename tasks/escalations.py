"""What became of each escalation, kept on the service's host: it outlives every run, and the engine.

``<state_directory>/<service>/escalations/<id>.jsonl``: its opening, then a line a step, on the disk before
the step counts. One lock for all of a service's: whom to tell is claimed under it, so nobody is told twice.
"""

import fcntl
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from tasks.errors import ConfigurationError, NotFoundError
from tasks.host_errors import naming_file
from tasks.host_folder import append_line, host_folder, open_private, sync_folder, whole_lines
from tasks.records.escalation import EscalationRecord, EscalationStep, Opening
from tasks.records.service import ServiceProfile

_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")


@task(cache_policy=NO_CACHE, persist_result=False)
def begin_escalation(profile: ServiceProfile, opening: Opening, level: str) -> EscalationRecord:
    """Given why people are needed and the level that begins, return the escalation that tells them.

    One that is open already is joined: the same outage may be noticed twice. One of an outage that is over by
    now is not: its next run ends it, and would end with it what is told of a service that is healthy.
    """
    with _locked(profile) as folder:
        for record in reversed(_read_all(folder)):
            if record.end is not None:
                continue
            if opening.reason == record.opening.reason:
                return record
            if record.opening.was_down and not opening.was_down:
                continue
            joined = EscalationStep(at=opening.at, kind="joined", level=level, said=opening.reason)
            _append(folder, record.opening.id, joined.model_dump_json(exclude_defaults=True))
            return record.model_copy(update={"steps": (*record.steps, joined)})
        _append(folder, opening.id, opening.model_dump_json())
        return EscalationRecord(opening=opening)


@task(cache_policy=NO_CACHE, persist_result=False)
def read_escalation(profile: ServiceProfile, escalation: str) -> EscalationRecord:
    """Given an escalation's id, return it.

    Raise ``NotFoundError`` if this host has none of that id, ``ConfigurationError`` if its file is none.
    """
    with _locked(profile) as folder:
        return _read(folder, escalation)


@task(cache_policy=NO_CACHE, persist_result=False)
def list_escalations(profile: ServiceProfile) -> tuple[EscalationRecord, ...]:
    """Given a service, return all its escalations, oldest first."""
    with _locked(profile) as folder:
        return tuple(_read_all(folder))


@task(cache_policy=NO_CACHE, persist_result=False)
def record_step(profile: ServiceProfile, escalation: str, step: EscalationStep) -> None:
    """Given a step of an escalation, write it down: it is on the disk after this.

    Raise ``NotFoundError`` if there is no such escalation, ``StoreFullError`` if there is no room.
    """
    with _locked(profile) as folder:
        _read(folder, escalation)
        _append(folder, escalation, step.model_dump_json(exclude_defaults=True))


@task(cache_policy=NO_CACHE, persist_result=False)
def claim_telling(profile: ServiceProfile, escalation: str, step: EscalationStep) -> bool:
    """Given whom a run is about to tell, write that down and return True.

    Return False if another run did, or the escalation has ended: then nobody is to be told.
    """
    with _locked(profile) as folder:
        record = _read(folder, escalation)
        if record.end is not None or (step.level, step.contact) in record.begun:
            return False
        _append(folder, escalation, step.model_dump_json(exclude_defaults=True))
        return True


@task(cache_policy=NO_CACHE, persist_result=False)
def claim_end(profile: ServiceProfile, escalation: str, step: EscalationStep) -> bool:
    """Given how an escalation ends, write that down and return True; False if it has ended already."""
    with _locked(profile) as folder:
        if _read(folder, escalation).end is not None:
            return False
        _append(folder, escalation, step.model_dump_json(exclude_defaults=True))
        return True


def name_escalation(now: datetime) -> str:
    """Return the id of a new escalation; ids sort by time."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _read_all(folder: Path) -> list[EscalationRecord]:
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        # An old one that is damaged keeps nobody from being told of what is wrong now.
        with suppress(NotFoundError, ConfigurationError, OSError):
            found.append(_read(folder, path.stem))
    return found


def _read(folder: Path, escalation: str) -> EscalationRecord:
    # The id comes from a form or a link, and becomes the name of a file.
    path = folder / f"{escalation}.jsonl" if _ID.fullmatch(escalation) else None
    try:
        lines = whole_lines(path.read_bytes()).split(b"\n")[:-1] if path is not None else []
    except FileNotFoundError:
        lines = []
    if not lines:
        raise NotFoundError(f"There is no escalation '{escalation[:40]}' on this host: see {folder}.")
    try:
        return EscalationRecord(
            opening=Opening.model_validate_json(lines[0]),
            steps=tuple(EscalationStep.model_validate_json(line) for line in lines[1:]),
        )
    except ValidationError:
        raise ConfigurationError(
            f"{path} is no escalation of ours: somebody or another version wrote it. See what it says, tell "
            "people by hand, and move the file away."
        ) from None


def _append(folder: Path, escalation: str, line: str) -> None:
    append_line(folder / f"{escalation}.jsonl", line.encode())


@contextmanager
def _locked(profile: ServiceProfile) -> Generator[Path]:
    folder = host_folder(profile) / "escalations"
    with naming_file(folder):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
        with open_private(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
