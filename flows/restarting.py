"""Restart an application and prove that it serves again: gracefully first, and hard if that did not help."""

from dataclasses import dataclass
from typing import Literal

from flows.decisions.restart_judgement import find_unfinished, say_last_words
from tasks.availability import probing
from tasks.errors import RunbookError, UnreachableError
from tasks.http_probe import await_health, probe_health
from tasks.journal import Journal
from tasks.process_log import await_started_line, mark_process_log, read_process_log
from tasks.process_manager import (
    observe_application,
    reload_application,
    restart_application,
    start_application,
)
from tasks.records.availability import Restarted
from tasks.records.process import LogMark, ProcessStatus
from tasks.records.service import ServiceProfile

RELOADING = "restarting gracefully"
RESTARTING = "restarting hard"
PROVEN = "proven"
How = Literal["graceful", "hard"]
_LINES = 30


@dataclass(frozen=True)
class _Before:
    """How it was before the act; without a mark its log cannot be read, and ``note`` says why."""

    status: ProcessStatus
    mark: LogMark | None
    note: str = ""


@dataclass(frozen=True)
class _Proof:
    """What was done in the end, and how it is now."""

    how: Literal["graceful", "hard", "start"]
    status: ProcessStatus
    confirmed_by_log: bool
    notes: tuple[str, ...]


def restart(profile: ServiceProfile, journal: Journal, how: How = "graceful") -> Restarted:
    """Restart a service's application and prove it; each step is in the journal before it is done.

    One that does not run is started. Raise ``RunbookError``, with the last words of the application's log, if
    it does not come back; nothing is left half done then.
    """
    before = _look(profile)
    with probing(profile) as prober:
        try:
            proof = _restart(profile, journal, before, how)
        except RunbookError as error:
            raise UnreachableError(f"{error} {_last_words(profile, before)}".strip()) from error
    journal.write(PROVEN)
    return Restarted(
        how=proof.how,
        availability=prober.measure(),
        status=proof.status,
        confirmed_by_log=proof.confirmed_by_log,
        notes=proof.notes,
    )


def finish_restart(profile: ServiceProfile, journal: Journal) -> str:
    """Given the journal of a killed run, start what its restart may have left stopped; say how it is now."""
    if not (journal.has(RELOADING) or journal.has(RESTARTING)) or journal.has(PROVEN):
        return "Nothing is left to do of the restart."
    start_application(profile)
    try:
        await_health(profile)
    except RunbookError as error:
        return f"The application that was being restarted is started, but does not serve: {error}"
    return "The application that was being restarted is started and healthy."


def _restart(profile: ServiceProfile, journal: Journal, before: _Before, how: How) -> _Proof:
    notes = (before.note,) if before.note else ()
    if how == "graceful" and before.status.running:
        journal.write(RELOADING)
        try:
            reload_application(profile)
            return _prove(profile, before, "graceful", notes)
        except RunbookError as error:
            _refuse_while_it_serves(profile, error)
            notes = (*notes, f"The graceful restart did not help: {error}")
    journal.write(RESTARTING)
    restart_application(profile)
    return _prove(profile, before, "start" if before.status.stopped else "hard", notes)


def _refuse_while_it_serves(profile: ServiceProfile, error: RunbookError) -> None:
    """A hard restart of what cannot start anew would end what still serves."""
    if probe_health(profile.application.health_url).problem is None:
        raise UnreachableError(
            f"{error} The application still serves, so it was not restarted hard: start restart-service with "
            "how=hard if that may end."
        ) from error


def _prove(
    profile: ServiceProfile,
    before: _Before,
    how: Literal["graceful", "hard", "start"],
    notes: tuple[str, ...],
) -> _Proof:
    await_health(profile)
    said = _await_line(profile, before)
    status = observe_application(profile)
    if (problem := find_unfinished(before.status, status, log_says_started=bool(said))) is not None:
        raise UnreachableError(f"{profile.name}: after the {how} restart {problem}.")
    return _Proof(how, status, bool(said), notes)


def _await_line(profile: ServiceProfile, before: _Before) -> bool | None:
    if before.mark is None:
        return None
    application = profile.application
    said = await_started_line(profile, before.mark, max(1, len(before.status.instances)))
    if said is False:
        raise UnreachableError(
            f"{profile.name}: {application.process_name} is healthy, but its log did not say "
            f"'{application.started_line}' within {application.start_within.total_seconds():.0f} s of the "
            "restart: see whether application.started_line in the profile is what it says."
        )
    return said


def _look(profile: ServiceProfile) -> _Before:
    status = observe_application(profile)
    try:
        return _Before(status, mark_process_log(profile))
    except RunbookError as error:
        return _Before(status, None, f"The log could not be read, so it proves nothing: {error}")


def _last_words(profile: ServiceProfile, before: _Before) -> str:
    try:
        return say_last_words(read_process_log(profile, _LINES, before.mark))
    except RunbookError:
        # Why it does not come back is more than why its log cannot be read.
        return ""
