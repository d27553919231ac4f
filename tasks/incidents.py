"""Security incidents, kept on the service's host: a killed run's is gone on with, its document is never lost.

``<state_directory>/<service>/incidents/<id>.jsonl``: the opening, then a line a step, on the disk before the
step counts; ``<id>.md`` beside it is the document, with the names of people. Both are private.
"""

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.host_folder import append_line, host_folder, replace_file, whole_lines
from tasks.records.incident import IncidentOpening, IncidentRecord, IncidentStep
from tasks.records.service import ServiceProfile

_FOLDER: Final = "incidents"


@task(cache_policy=NO_CACHE, persist_result=False)
def list_open_incidents(profile: ServiceProfile) -> tuple[IncidentRecord, ...]:
    """Given a service, return its incidents whose run did not end, oldest first."""
    found = (_read(path) for path in sorted(_folder(profile).glob("*.jsonl")))
    return tuple(record for record in found if record is not None and not record.is_closed)


@task(cache_policy=NO_CACHE, persist_result=False)
def open_incident(profile: ServiceProfile, opening: IncidentOpening) -> IncidentRecord:
    """Given why, open an incident, or return it as it is if it was opened before.

    It is on the disk after this. Raise ``StoreFullError`` if there is no room.
    """
    path = _path(profile, opening.id)
    known = _read(path) if path.exists() else None
    if known is not None:
        return known
    append_line(path, opening.model_dump_json().encode())
    return IncidentRecord(opening=opening)


class IncidentLog:
    """One incident that is being written."""

    def __init__(self, profile: ServiceProfile, record: IncidentRecord, run: str) -> None:
        """Take the incident as it is, and the run that goes on with it."""
        self._profile, self._run = profile, run
        self.record = record

    def write(self, step: str, outcome: str, **content: Any) -> None:
        """Put a step down, on the disk when this returns."""
        line = IncidentStep.model_validate(
            {"at": datetime.now(UTC), "step": step, "outcome": outcome, "run": self._run, **content}
        )
        append_line(_path(self._profile, self.record.opening.id), line.model_dump_json().encode())
        self.record = self.record.model_copy(update={"steps": (*self.record.steps, line)})


def name_incident(now: datetime) -> str:
    """Return the id of a new incident; ids sort by time."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def find_document(profile: ServiceProfile, incident: str) -> Path:
    """Return where an incident's document is, or will be."""
    return _path(profile, incident).with_suffix(".md")


def write_document(path: Path, text: str) -> None:
    """Given a document, put it in its place, for the worker's user only; raise if there is no room."""
    with naming_file(path):
        replace_file(path, text.encode())


def _read(path: Path) -> IncidentRecord | None:
    """Return an incident; None for one that was killed before its opening was written."""
    lines = whole_lines(path.read_bytes()).splitlines()
    if not lines:
        return None
    try:
        opening = IncidentOpening.model_validate(json.loads(lines[0]))
        steps = tuple(IncidentStep.model_validate(json.loads(line)) for line in lines[1:])
    except (ValueError, ValidationError):
        raise ConfigurationError(
            f"{path} is no incident of ours: somebody or another version wrote it. Move it away."
        ) from None
    return IncidentRecord(opening=opening, steps=steps)


def _path(profile: ServiceProfile, incident: str) -> Path:
    return _folder(profile) / f"{incident}.jsonl"


def _folder(profile: ServiceProfile) -> Path:
    folder = host_folder(profile) / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
