"""What is done about a suspected breach, in which order, and what it came to. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from tasks.records.credential_care import CredentialName
from tasks.records.figures import say_count
from tasks.records.incident import IncidentRecord, IncidentReport, Investigation
from tasks.records.rotation import RUNBOOKS, RotationEvent
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK: Final = "security-incident"
TELLING: Final = "telling people"
APPROVING: Final = "approval"
KEEPING: Final = "keeping what would be lost"
LOGGING: Final = "more logging"
REPLACING: Final = "replacing "
ENDING: Final = "ending sessions"
SERVING: Final = "proving that it serves"

Progress = Literal["not in force", "old one not retired", "old one refused"]

# An incident that was killed longer ago is another one.
SAME_FOR: Final = timedelta(days=1)


class IncidentPlan(RunbookPlan):
    """The plan of an incident, with what is replaced."""

    incident: str
    credentials: tuple[CredentialName, ...]


def choose_credentials(
    profile: ServiceProfile, wanted: Sequence[CredentialName]
) -> tuple[tuple[CredentialName, ...], tuple[CredentialName, ...]]:
    """Return which of the wanted are replaced, in the safe order, and which the profile does not have."""
    known = tuple(name for name, _ in profile.credentials.rotatable())
    chosen = tuple(name for name in known if not wanted or name in wanted)
    return chosen, tuple(name for name in wanted if name not in known)


def find_killed(records: Sequence[IncidentRecord], now: datetime) -> IncidentRecord | None:
    """Return the incident that a killed run left, to go on with; None if there is none, or it is too old."""
    recent = [one for one in records if now - one.opening.at < SAME_FOR]
    return recent[-1] if recent else None


def list_containment(credentials: Sequence[CredentialName]) -> tuple[str, ...]:
    """Return the steps that contain, in their order."""
    return (LOGGING, *(f"{REPLACING}{name}" for name in credentials), ENDING)


def plan_incident(profile: ServiceProfile, record: IncidentRecord) -> IncidentPlan:
    """Given an incident as it is, return what is still to be done about it."""
    opening = record.opening
    left = [step for step in list_containment(opening.credentials) if not record.is_over(step)]
    done = len(list_containment(opening.credentials)) - len(left)
    goes_on = f" It goes on where a run was killed: {done} steps are done." if record.steps and done else ""
    return IncidentPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=f"{profile.name}: {opening.suspicion} Everything below is replaced without grace; everybody "
        f"is logged out, and the application is restarted for each.{goes_on}",
        acts=tuple(_describe(profile, step) for step in left),
        rests_on={"incident": opening.id, "looked back to": opening.since.isoformat()},
        incident=opening.id,
        credentials=opening.credentials,
    )


def _describe(profile: ServiceProfile, step: str) -> PlannedAct:
    if step == LOGGING:
        names = ", ".join(profile.incident.debug_variables) or "nothing: the profile names no variables"
        return PlannedAct(
            what=f"Set in the env file: {names}",
            why="What happens from now on is to be seen; it counts with the next restart",
            undo="take them out again, and restart-service",
        )
    if step == ENDING:
        return PlannedAct(
            what="End the application's sessions in the database, where its rotation did not",
            why="Who is connected stays connected, whatever the password is",
            undo="nothing: the application opens others",
        )
    name = step.removeprefix(REPLACING)
    return PlannedAct(
        what=f"Replace {name} without grace",
        why="Whoever has the old one is to be refused",
        undo="none once it is proven; until then it goes back by itself",
    )


def find_progress(history: Sequence[RotationEvent], credential: CredentialName, since: datetime) -> Progress:
    """Return how far a rotation of this incident came before its run was killed.

    One that was begun before, which the incident only finished, is none of it: its value may be known, too.
    """
    # The ids of rotations begin with the time, and sort by it.
    first = f"{since.astimezone(UTC):%Y%m%dT%H%M%S}"
    of_it = [one for one in history if one.credential == credential and one.rotation >= first]
    rotated = [one.rotation for one in of_it if one.event == "rotated"]
    if not rotated:
        return "not in force"
    retired = {one.rotation for one in of_it if one.event == "retired"}
    return "old one refused" if rotated[-1] in retired else "old one not retired"


def make_incident_report(
    profile: ServiceProfile, record: IncidentRecord, investigation: Investigation
) -> IncidentReport:
    """Given what was done and found out, return the document's content: the answer first."""
    wanted = (*list_containment(record.opening.credentials), SERVING)
    failed = [step for step in wanted if not record.is_over(step)]
    open_doors = [step for step in failed if step != LOGGING]
    replaced = say_count(len(record.opening.credentials), "credential")
    if open_doors or not record.opening.credentials:
        why = (
            f"What failed: {', '.join(failed)}." if failed else "The profile names no credentials to replace."
        )
        headline = f"{profile.name}: NOT contained. {why}"
    else:
        headline = (
            f"{profile.name}: contained. {replaced} replaced, the old ones are refused, and it is healthy."
        )
        headline += f" But {LOGGING} failed." if failed else ""
    return IncidentReport(
        record=record,
        investigation=investigation,
        headline=headline,
        well=not failed and bool(record.opening.credentials),
        to_do=tuple(_list_to_do(profile, record, investigation, failed)),
    )


def _list_to_do(
    profile: ServiceProfile, record: IncidentRecord, investigation: Investigation, failed: Sequence[str]
) -> Iterator[str]:
    for step in failed:
        yield f"{_say_remedy(step)} {_say_why(record, step)}"
    chosen, care = set(record.opening.credentials), profile.credentials
    if spared := [name for name, _ in care.rotatable() if name not in chosen]:
        yield f"Not asked for, and still what they were: {', '.join(spared)}."
    if profile.database.kind == "mongodb":
        yield (
            "MongoDB leaves open what was opened with the old password, until its client closes it: see "
            "who is connected, and shut strangers out at the firewall or by a restart of mongod."
        )
    if care.others:
        yield f"Only people can replace: {', '.join(one.name for one in care.others)}."
    yield (
        "If somebody was on the host itself, replace what the operator has there as well: what the profile "
        "refers to by file: or env:, as database.admin_url and the keys of backup.destination."
    )
    if investigation.new_admins:
        yield "Ask who made the new administrators; one that nobody knows is ended by disable-user."
    if profile.incident.debug_variables:
        names = ", ".join(profile.incident.debug_variables)
        yield f"When it is over, take {names} out of {profile.env_path} and start restart-service."
    yield "Find and mend the hole that it came through: npm audit, the log above, what was deployed last."
    yield "Decide with whoever is responsible for data protection whether it has to be reported, and by when."


def _say_remedy(step: str) -> str:
    by_step = {
        f"{REPLACING}{name}": f"Replace {name} by {runbook}, with emergency."
        for name, runbook in RUNBOOKS.items()
    }
    return {
        **by_step,
        f"{REPLACING}stripe-key": "Roll the key in Stripe's Dashboard, the old one ending at once, leave "
        "the new one where credentials.stripe_key.handed_over says, and start rotate-stripe-keys.",
        LOGGING: "Turn on more logging by hand.",
        ENDING: "End the sessions by reset-connections, with all_of_the_application.",
        SERVING: "Bring the service back: outage-triage.",
    }[step]


def _say_why(record: IncidentRecord, step: str) -> str:
    found = record.find(step)
    return found.said if found is not None and found.said else "It was not reached."
