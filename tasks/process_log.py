"""What the application said last, as its process manager and its log files have it.

A mark is taken before an act: what is read after it was said since.
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.log_masking import collect_secrets, mask
from tasks.process_manager import manager_of
from tasks.records.process import LogMark
from tasks.records.service import ServiceProfile

# As much of a file is read, from its end: an application that talks a lot is not to fill our memory.
_BYTES = 1 << 20
_POLL_SECONDS = 0.2
_MOST_LINES = 20_000

_ONCE = task(cache_policy=NO_CACHE, persist_result=False)


@_ONCE
def mark_process_log(profile: ServiceProfile) -> LogMark:
    """Given a service, return where the logs of its application end now.

    Raise what the process manager raises, ``AccessDeniedError`` if a log may not be looked at.
    """
    return _mark(profile)


@_ONCE
def read_process_log(profile: ServiceProfile, lines: int, after: LogMark | None = None) -> tuple[str, ...]:
    """Given a service, return the last lines of its application, or those since a mark, secrets masked.

    So many of each file at most, those of errors last. Raise what ``mark_process_log`` raises.
    """
    journal = manager_of(profile).read_journal(lines, after.at if after else None)
    found = [*(journal or ()), *_read_files(after or _mark(profile), lines, whole=after is None)]
    return tuple(mask("\n".join(found), _secrets_of(profile)).splitlines())


@_ONCE
def await_started_line(profile: ServiceProfile, mark: LogMark, times: int) -> bool | None:
    """Given a mark, return whether the log says so often within ``start_within`` that a start is complete.

    None if no log is kept. Raise what ``mark_process_log`` raises.
    """
    deadline = time.monotonic() + profile.application.start_within.total_seconds()
    while True:
        journal = manager_of(profile).read_journal(_MOST_LINES, mark.at)
        if journal is None and not mark.ends:
            return None
        found = (*(journal or ()), *_read_files(mark, _MOST_LINES))
        if sum(profile.application.started_line in line for line in found) >= times:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _mark(profile: ServiceProfile) -> LogMark:
    application = profile.application
    own = [application.directory / path for path in application.log_files]
    ends = {}
    for path in (*own, *manager_of(profile).list_log_files()):
        with naming_file(path):
            status = path.stat() if path.exists() else None
            ends[str(path)] = (status.st_ino, status.st_size) if status else (0, 0)
    return LogMark(at=datetime.now(UTC), ends=ends)


def _read_files(mark: LogMark, lines: int, *, whole: bool = False) -> list[str]:
    found: list[str] = []
    for name, (inode, size) in mark.ends.items():
        path = Path(name)
        with naming_file(path):
            if path.is_file():
                found += _read_end(path, 0 if whole else inode, size)[-lines:]
    return found


def _read_end(path: Path, inode: int, size: int) -> list[str]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        # Another file by now, or emptied since: all of it is new.
        begin = size if inode == status.st_ino and size <= status.st_size else 0
        file.seek(max(begin, status.st_size - _BYTES))
        return file.read(_BYTES).decode(errors="replace").splitlines()


def _secrets_of(profile: ServiceProfile) -> frozenset[str]:
    try:
        return collect_secrets(read_variables(profile))
    except ConfigurationError:
        # It is gone, which may be what is wrong; one that is there and we may not read stops us.
        return frozenset()
