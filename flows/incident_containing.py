"""Shutting the doors: each step is written down, and one that fails keeps none of the others."""

from collections.abc import Callable, Iterator

from flows.decisions.connection_reset import list_all
from flows.decisions.incident import (
    ENDING,
    KEEPING,
    LOGGING,
    REPLACING,
    RUNBOOK,
    IncidentPlan,
    find_progress,
)
from flows.resetting import say_terminated, terminate
from flows.rotating import rotate
from tasks.credential_use import observe_credential_use
from tasks.environment_file import read_variables
from tasks.environment_writing import write_variables
from tasks.errors import RunbookError
from tasks.incidents import IncidentLog
from tasks.journal import Journal, list_open_journals
from tasks.mutation import mutating, settling
from tasks.records.credential_care import CredentialName
from tasks.records.figures import say_count
from tasks.records.incident import Fact, IncidentOpening
from tasks.records.rotation import RUNBOOKS
from tasks.records.service import ServiceProfile
from tasks.rotation_files import read_history, read_open
from tasks.run_context import Run
from tasks.stuck_sessions import observe_application_sessions
from tasks.users import end_all_sessions

_ROTATIONS = frozenset(RUNBOOKS.values())


def settle(profile: ServiceProfile, run: Run) -> None:
    """Close what a killed run left in the journal: the incident's own record says what was done."""
    with settling(profile, run, RUNBOOK) as journal:
        if journal is not None:
            journal.close("The incident goes on: its record says what was done.")


def attempt(log: IncidentLog, step: str, act: Callable[[], str]) -> None:
    """Do a step that is not over, and write down how it ended: a failure is an end too."""
    if log.record.is_over(step):
        return
    log.write(step, "begun")
    try:
        said = act()
    except RunbookError as error:
        log.write(step, "failed", said=str(error))
    else:
        log.write(step, "done", said=said)


def contain(profile: ServiceProfile, run: Run, plan: IncidentPlan, log: IncidentLog) -> None:
    """Keep what would be lost, then shut every door of the plan, in its order."""
    opening = log.record.opening
    if not log.record.is_over(KEEPING):
        log.write(KEEPING, "begun")
        facts = tuple(_keep(profile, opening))
        said = f"{say_count(len(facts), 'fact')} kept of what rotations and restarts wipe out."
        log.write(KEEPING, "done", said=said, facts=facts)
    if profile.incident.debug_variables:
        attempt(log, LOGGING, lambda: _log_more(profile, run, plan))
    elif not log.record.is_over(LOGGING):
        said = "The profile names no variables for it: incident.debug_variables."
        log.write(LOGGING, "left out", said=said)
    for name in opening.credentials:
        attempt(log, f"{REPLACING}{name}", lambda name=name: _replace(profile, run, name, opening))  # type: ignore[misc]
    attempt(log, ENDING, lambda: _end_sessions(profile, run, plan, opening))


def _keep(profile: ServiceProfile, opening: IncidentOpening) -> Iterator[Fact]:
    names: tuple[CredentialName, ...] = opening.credentials
    # Who is connected is worth knowing whether or not its password can be replaced.
    for name in (*names, *(() if "database-password" in names else ("database-password",))):
        try:
            yield from observe_credential_use(profile, name, opening.since)
        except RunbookError as error:
            yield Fact(text=f"What {name} did could not be seen: {error}", source=name)


def _log_more(profile: ServiceProfile, run: Run, plan: IncidentPlan) -> str:
    wanted, present = profile.incident.debug_variables, read_variables(profile)

    def write(journal: Journal) -> str:
        journal.write(LOGGING)
        write_variables(profile, wanted, {name: present.get(name) for name in wanted})
        return f"{', '.join(wanted)} set in {profile.env_path}; it counts with the next restart."

    return _act(profile, run, plan, write)


def _replace(profile: ServiceProfile, run: Run, name: CredentialName, opening: IncidentOpening) -> str:
    progress = find_progress(read_history(profile), name, opening.at)
    if progress == "old one refused" and RUNBOOKS[name] not in list_open_journals(profile):
        return "It was replaced before the run was killed, and the old one is refused."
    state = rotate(profile, run, name, emergency=progress == "not in force", approved=True)
    said = (state.message or "").removeprefix(f"{profile.name}: ")
    if read_open(profile, name) is not None:
        raise RunbookError(said)
    return said


def _end_sessions(profile: ServiceProfile, run: Run, plan: IncidentPlan, opening: IncidentOpening) -> str:
    history, terms = read_history(profile), profile.credentials.database_password
    progress = find_progress(history, "database-password", opening.at)
    # Only PostgreSQL tells which sessions the old password opened; those of now are the application's.
    ended_by_rotation = (
        progress == "old one refused"
        and terms is not None
        and terms.end_sessions
        and profile.database.kind == "postgresql"
    )

    def end(journal: Journal) -> str:
        said = "Those that the old password had opened were ended with its rotation"
        if not ended_by_rotation:
            found = list_all(observe_application_sessions(profile))
            ended = terminate(profile, found, {str(one.identity) for one in found}, journal)
            said = f"In the database: {say_terminated(ended)}"
        of_users = end_all_sessions(profile)
        users = f", and {say_count(of_users, 'session')} of users deleted" if of_users is not None else ""
        return f"{said}{users}."

    return _act(profile, run, plan, end)


def _act(profile: ServiceProfile, run: Run, plan: IncidentPlan, act: Callable[[Journal], str]) -> str:
    """Change something of the service, under its lock and with a line in its trail."""
    with mutating(profile, run, plan, _ROTATIONS) as journal:
        try:
            said = act(journal)
        except RunbookError as error:
            journal.close(f"It failed: {error}")
            raise
        journal.close(said)
    return said
