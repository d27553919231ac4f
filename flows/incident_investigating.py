"""What happened, as far as logs, users, providers and our own trail can tell; and whether it serves again."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from flows.decisions.admins import choose_before
from flows.decisions.failed_logins import find_failed_logins
from flows.decisions.incident_findings import find_new_admins, find_unseen
from flows.decisions.remediation import tell_problem
from tasks.audit_reading import read_audit
from tasks.errors import RunbookError, UnreachableError
from tasks.http_probe import await_health, observe_public_health, probe_login
from tasks.known_admins import read_known_admins
from tasks.log_reading import read_logs
from tasks.records.accounts import AttemptExtract
from tasks.records.incident import Fact, IncidentOpening, IncidentRecord, Investigation
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.records.trail import CheckedTrail
from tasks.trail import check_trail
from tasks.users import observe_admins

T = TypeVar("T")


def investigate(profile: ServiceProfile, record: IncidentRecord, now: datetime) -> Investigation:
    """Given an incident, return what can be found out about it; what cannot is named."""
    opening, audit = record.opening, profile.users.audit
    sources = (
        read_audit(profile, [audit.failed_login, audit.unauthorized], opening.since, now),
        _see(lambda: find_failed_logins(read_logs(profile, opening.since), profile)),
    )
    admins = _see(lambda: observe_admins(profile))
    login = profile.application.login
    probe = login.user if login is not None else None
    before = choose_before(read_known_admins(profile), opening.since)
    trail = _see(lambda: check_trail(profile))
    unknown = [one for one in (*sources, admins, trail) if isinstance(one, Unknown)]
    read = tuple(one for one in sources if isinstance(one, AttemptExtract))
    known = () if isinstance(admins, Unknown) else tuple(one for one in admins if one.email != probe)
    return Investigation(
        at=now,
        read=read,
        new_admins=tuple(find_new_admins(known, before, opening, now)),
        acts=(*record.facts, *(() if isinstance(trail, Unknown) else _tell_trail(trail, opening))),
        unseen=(
            *(f"{one.why}." for one in unknown),
            *find_unseen(before, created_known=any(one.created for one in known)),
            *(f"{one.where}: {one.left_out:,} older entries were too many." for one in read if one.left_out),
        ),
        admins=tuple(one.email for one in known),
        probe=probe,
    )


def prove_serving(profile: ServiceProfile) -> str:
    """Return in words how the service was seen to serve; raise ``UnreachableError`` if it does not."""
    health = await_health(profile)
    if (problem := probe_login(profile)) is not None:
        raise UnreachableError(problem)
    public = observe_public_health(profile)
    if public is not None and (outside := tell_problem(profile.outage, public)) is not None:
        raise UnreachableError(f"{profile.application.public_url} does not serve users: {outside}.")
    said = [f"It is healthy (it answered in {health.seconds:.2f} s)"]
    said += ["the probe user logs in"] if profile.application.login else []
    said += ["and users reach it from outside"] if public is not None else []
    return f"{', '.join(said)}."


def _tell_trail(trail: CheckedTrail, opening: IncidentOpening) -> tuple[Fact, ...]:
    source = "the audit trail of our runbooks"
    wrong = tuple(Fact(text=finding, source=source) for finding in trail.findings)
    acts = (
        Fact(
            text=f"{line.at:%Y-%m-%d %H:%M} UTC: {line.runbook} {line.event}, by {line.started_by}.",
            source=source,
        )
        for line in trail.lines
        # What came after the opening is among the incident's own steps.
        if opening.since <= line.at < opening.at and line.event in {"finished", "failed"}
    )
    return (*wrong, *acts)


def _see(observe: Callable[[], T]) -> T | Unknown:
    try:
        return observe()
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
