"""See whether the application's files on this host can run: syntax, packages, permissions, what changed."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.errors import AccessDeniedError, ConfigurationError, RunbookError
from tasks.file_access import user_of, why_unreadable, why_unwritable
from tasks.host_errors import naming_file
from tasks.known_good import KnownFile, KnownGood, know_file, recall_healthy
from tasks.log_masking import mask
from tasks.own_processes import find_own_processes, find_starters
from tasks.program_check import Checked, check_program
from tasks.program_dependencies import list_missing_dependencies
from tasks.program_files import MOST, list_program_files
from tasks.records.evidence import ApplicationFacts
from tasks.records.observation import Complaint
from tasks.records.service import ServiceProfile

_MANIFEST = "package.json"
_MOST_CHANGED = 10


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_files(profile: ServiceProfile) -> ApplicationFacts:
    """Given a service, return what is wrong with its files, and what changed since it was healthy last.

    Raise ``ConfigurationError`` if its directory or Node.js is missing, ``AccessDeniedError`` if the worker
    may not look, ``UnreachableError`` if Node.js does not manage to.
    """
    directory = profile.application.directory
    with naming_file(directory):
        is_folder = directory.is_dir()
    if not is_folder:
        raise ConfigurationError(
            f"{profile.name}: the application's directory {directory} does not exist: restore it, or correct "
            "application.directory."
        )
    processes, known = find_own_processes(profile), recall_healthy(profile)
    checked = check_program(profile, processes, known.node if known else None)
    with naming_file(directory):
        unreadable = tuple(_judge_access(profile, processes, checked))
        _refuse_blindness(profile, checked, unreadable)
        changed_at, changed = _look_for_changes(profile, known)
        return ApplicationFacts(
            directory=str(directory),
            syntax_errors=(*_mask(profile, checked.syntax_errors), *_judge_manifest(directory)),
            missing_dependencies=(*checked.missing, *_list_missing(directory, known)),
            unreadable=unreadable,
            changed_at=changed_at,
            changed_files=changed,
        )


def _mask(profile: ServiceProfile, complaints: Iterable[Complaint]) -> Iterator[Complaint]:
    try:
        secrets = frozenset(read_variables(profile).values())
    except RunbookError:
        secrets = frozenset()
    for complaint in complaints:
        yield complaint.model_copy(update={"problem": mask(complaint.problem, secrets)})


def _judge_manifest(directory: Path) -> Iterator[Complaint]:
    try:
        json.loads((directory / _MANIFEST).read_bytes())
    except ValueError:
        yield Complaint(name=_MANIFEST, problem="cannot be parsed: it is no JSON")
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        # An application can do without one; that it cannot be read is said elsewhere.
        return


def _list_missing(directory: Path, known: KnownGood | None) -> Iterator[Complaint]:
    """Return what is wrong with the packages, but what was so when the service was healthy."""
    tolerated = known.tolerated if known else ()
    return (complaint for complaint in list_missing_dependencies(directory) if complaint not in tolerated)


def _judge_access(
    profile: ServiceProfile, processes: Sequence[psutil.Process], checked: Checked
) -> Iterator[Complaint]:
    application = profile.application
    user = user_of(processes or find_starters(profile), application.directory)
    # The env file by its full path, as everywhere.
    names = [str(profile.env_path), _MANIFEST, *checked.refused, *checked.files]
    for name in dict.fromkeys(names):
        with suppress(FileNotFoundError):
            if (problem := why_unreadable(user, application.directory / name)) is not None:
                yield Complaint(name=name, problem=problem)
    for folder in dict.fromkeys(path.parent for path in application.log_files):
        with suppress(FileNotFoundError):
            if (problem := why_unwritable(user, application.directory / folder)) is not None:
                yield Complaint(name=str(folder), problem=problem)


def _refuse_blindness(profile: ServiceProfile, checked: Checked, unreadable: Sequence[Complaint]) -> None:
    """Raise ``AccessDeniedError`` if we cannot read the entry file, and the application can."""
    entry = profile.application.entry_file.as_posix()
    if entry in checked.refused and entry not in {complaint.name for complaint in unreadable}:
        raise AccessDeniedError(
            f"{profile.name}: {entry} cannot be read by the worker: let its user read the program."
        )


def _look_for_changes(
    profile: ServiceProfile, known: KnownGood | None
) -> tuple[datetime | None, tuple[str, ...]]:
    """Return when a program's file changed last, and which are others than when it was healthy last."""
    before: Mapping[str, KnownFile] = known.files if known else {}
    now: dict[str, KnownFile] = {}
    files = list_program_files(profile)
    for name, path in files.items():
        with suppress(FileNotFoundError, PermissionError):
            now[name] = know_file(profile, path, before.get(name))
    newest = sorted(now, key=lambda name: now[name].changed_ns, reverse=True)
    changed_at = datetime.fromtimestamp(now[newest[0]].changed_ns / 1e9, UTC) if newest else None
    if known is None:
        return changed_at, ()
    changed = [
        name for name in newest if name not in before or before[name].fingerprint != now[name].fingerprint
    ]
    gone = sorted(before.keys() - files.keys()) if len(files) < MOST else []
    return changed_at, tuple([*changed, *gone][:_MOST_CHANGED])
