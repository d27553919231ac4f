"""The record of an incident around its acts: which one it is, who agreed, and the document at its end."""

import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from flows.decisions.incident import (
    APPROVING,
    RUNBOOK,
    IncidentPlan,
    choose_credentials,
    find_killed,
    make_incident_report,
)
from flows.decisions.incident_findings import count_refusals
from flows.incident_investigating import investigate
from tasks.approval import approve
from tasks.errors import ConfigurationError, RefusedError
from tasks.incident_rendering import publish_incident, render_incident
from tasks.incidents import (
    IncidentLog,
    find_document,
    list_open_incidents,
    name_incident,
    open_incident,
    write_document,
)
from tasks.records.credential_care import CredentialName
from tasks.records.incident import CLOSED, IncidentOpening, IncidentRecord, IncidentReport
from tasks.records.personal_data import mask_email
from tasks.records.service import ServiceProfile
from tasks.records.trail import Event
from tasks.run_context import Run, read_clock
from tasks.trail import record_event


def choose(
    profile: ServiceProfile,
    run: Run,
    suspicion: str,
    wanted: Sequence[CredentialName],
    since: datetime | None,
) -> IncidentRecord:
    """Return the incident that a killed run left, or a new one, which is not on the disk yet.

    Raise ``ConfigurationError`` if a credential is wanted that the profile does not have.
    """
    now = read_clock()
    killed = find_killed(list_open_incidents(profile), now)
    if killed is not None:
        return killed
    chosen, missing = choose_credentials(profile, wanted)
    if missing:
        raise ConfigurationError(
            f"{profile.name}: the profile has no credentials.{missing[0].replace('-', '_')}: name others, or "
            "none for all that it has."
        )
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=profile.zone)
    opening = IncidentOpening(
        id=name_incident(now),
        at=now,
        service=profile.name,
        by=run.started_by,
        host=socket.gethostname(),
        run=run.name,
        suspicion=suspicion.strip() or "nobody said what.",
        since=since or now - profile.incident.look_back,
        credentials=chosen,
    )
    return IncidentRecord(opening=opening)


def begin(profile: ServiceProfile, run: Run, plan: IncidentPlan, record: IncidentRecord) -> IncidentLog:
    """Put the incident on the disk, and return what writes to it.

    Raise ``RefusedError`` if another run dealt with it while this one waited.
    """
    if plan.incident != record.opening.id:
        raise RefusedError(
            f"{profile.name}: another run dealt with the incident {plan.incident} while this one waited. "
            "Nothing was changed."
        )
    opened = open_incident(profile, record.opening)
    return IncidentLog(profile, opened, run.name)


def agree(profile: ServiceProfile, run: Run, plan: IncidentPlan, log: IncidentLog) -> None:
    """Return when a person agreed to the incident's plan, once, or the profile asks for none.

    Raise ``RefusedError`` if the answer is no: then the incident is closed.
    """
    if log.record.is_over(APPROVING):
        return
    try:
        approve(profile, plan, run)
    except RefusedError as error:
        log.write(CLOSED, "left out", said=str(error))
        raise
    log.write(APPROVING, "done", said="A person agreed, or the profile asks for nobody.")
    record_event(profile, run, RUNBOOK, "began", plan=plan.digest, outcome=plan.summary)


def write_down(
    profile: ServiceProfile, run: Run, plan: IncidentPlan, log: IncidentLog
) -> tuple[IncidentReport, Path]:
    """Investigate, show the document, keep it on the host in full, and close the incident."""
    opening = log.record.opening
    found = investigate(profile, log.record, read_clock())
    report = make_incident_report(profile, log.record, found)
    document = find_document(profile, opening.id)
    publish_incident(report, count_refusals(found, opening, mask_email), str(document), profile.zone)
    write_document(document, render_incident(report, count_refusals(found, opening, str), profile.zone))
    log.write(CLOSED, "done", said=report.headline)
    end: Event = "finished" if report.well else "failed"
    record_event(profile, run, RUNBOOK, end, plan=plan.digest, outcome=report.headline)
    return report, document
