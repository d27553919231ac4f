"""What a runbook measured each time it ran, kept on the host, so that there is something to compare with.

A file of the host, ``<state_directory>/<service>/history/<name>.jsonl``, one measurement a line. It is no
journal: nothing depends on it but trends, and a line that nobody can read is left out.
"""

import json
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.host_folder import append_line, host_folder, replace_file, whole_lines
from tasks.records.service import ServiceProfile

# A year of a measurement every quarter of an hour, and more of all others.
_MOST_BYTES = 16 << 20


class Measurement(BaseModel):
    """Figures of one moment, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime
    values: dict[str, float]


def record_measurement(profile: ServiceProfile, name: str, measurement: Measurement) -> None:
    """Given what was measured, keep it; raise ``StoreFullError`` if there is no room."""
    path = _path(profile, name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    append_line(path, json.dumps(measurement.model_dump(mode="json")).encode())
    if path.stat().st_size > _MOST_BYTES:
        _forget_older_half(path)


def read_history(profile: ServiceProfile, name: str) -> tuple[Measurement, ...]:
    """Given a service, return what was measured so far, oldest first; nothing where nothing was."""
    try:
        lines = whole_lines(_path(profile, name).read_bytes()).splitlines()
    except FileNotFoundError:
        return ()
    return tuple(found for line in lines if (found := _parse(line)) is not None)


def _forget_older_half(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    replace_file(path, b"".join(lines[len(lines) // 2 :]))


def _path(profile: ServiceProfile, name: str) -> Path:
    return host_folder(profile) / "history" / f"{name}.jsonl"


def _parse(line: bytes) -> Measurement | None:
    try:
        return Measurement.model_validate_json(line)
    except ValidationError:
        return None
