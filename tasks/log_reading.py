"""All logs of a service from one place: merged by time, masked, and what could not be read named with why."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.log_entries import Entry, Reading, judge_level
from tasks.log_masking import collect_secrets, mask
from tasks.log_reading_database import read_database_logs
from tasks.log_reading_files import read_application_log, read_system_log
from tasks.log_reading_journal import read_journal
from tasks.log_reading_pm2 import read_pm2_logs
from tasks.log_reading_windows import read_event_log
from tasks.log_times import make_reader
from tasks.records.logs import LogExtract, LogLine
from tasks.records.observation import Complaint
from tasks.records.service import ServiceProfile

_MOST_LINES = 10_000
_LONGEST, _LONGEST_READ = 4000, 1 << 16
# All sources together; one program may take most of it.
_SECONDS = 4.5
_LEAST_SECONDS = 0.2


@task(cache_policy=NO_CACHE, persist_result=False)
def read_logs(profile: ServiceProfile, since: datetime) -> LogExtract:
    """Given a service, return what all its logs say since a moment (aware), secrets masked.

    A source that cannot be read is named with why. Raise ``ConfigurationError`` or ``AccessDeniedError`` if
    the env file cannot be read: nobody would know what to mask.
    """
    secrets = collect_secrets(read_variables(profile))
    readings = list(_read_sources(profile, since))
    lines, left_out = _merge(readings, since, secrets)
    return LogExtract(
        since=since,
        sources=tuple(dict.fromkeys(reading.source for reading in readings)),
        unreadable=tuple(
            Complaint(name=found.name, problem=mask(found.problem, secrets))
            for reading in readings
            for found in reading.complaints
        ),
        lines=lines,
        left_out=left_out,
    )


def _read_sources(profile: ServiceProfile, since: datetime) -> Iterator[Reading]:
    """Read one source after the other: it is the parsing that takes time, and one core does that."""
    ends_at = time.monotonic() + _SECONDS
    split = make_reader(datetime.now(UTC), profile.zone)
    application, system = profile.application, profile.system_logs

    def left() -> float:
        return max(_LEAST_SECONDS, ends_at - time.monotonic())

    copies: frozenset[Path] = frozenset()
    if application.process_manager == "pm2":
        readings, copies = read_pm2_logs(application, since, split, left() / 2)
        yield from readings
    for file in application.log_files:
        if (application.directory / file).resolve() not in {copy.resolve() for copy in copies}:
            yield read_application_log(application.directory, file, since, split)
    if system.journal_unit is not None:
        yield read_journal(system.journal_unit, since, split, left() / 2)
    if system.windows_source is not None:
        yield read_event_log(system.windows_source, since, left() / 2)
    for path in system.files:
        yield read_system_log(path, application.process_name, since, split)
    for pattern in system.database_files:
        yield from read_database_logs(pattern, since, split)


def _merge(
    readings: Sequence[Reading], since: datetime, secrets: frozenset[str]
) -> tuple[tuple[LogLine, ...], int]:
    """Return all entries in one order, and how many of the oldest are left out."""
    placed = [
        (entry.at or reading.written_at or since, reading.source, entry)
        for reading in readings
        for entry in reading.entries
    ]
    # Sorting is stable: what one source says stays in its order.
    in_order = _without_copies(sorted(placed, key=lambda found: found[0]))
    newest = in_order[-_MOST_LINES:]
    lines = tuple(
        LogLine(
            at=entry.at,
            source=source,
            level=entry.level or judge_level(entry.text),
            text=mask(entry.text[:_LONGEST_READ], secrets)[:_LONGEST],
        )
        for source, entry in newest
    )
    return lines, len(in_order) - len(newest)


def _without_copies(placed: Sequence[tuple[datetime, str, Entry]]) -> list[tuple[str, Entry]]:
    """Leave out what another source says at the same moment in the same words, as Winston's two files do."""
    first: dict[tuple[datetime, str], str] = {}
    kept = []
    for _, source, entry in placed:
        if entry.at is None or first.setdefault((entry.at, entry.text), source) == source:
            kept.append((source, entry))
    return kept
