"""What of a night is no run: escalations, alerts that started nothing, what is half done."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, Literal

from flows.decisions.credential_judgement import BAD, judge_ages
from tasks.records.credential_age import CredentialAge
from tasks.records.escalation import EscalationRecord
from tasks.records.figures import say_count, say_period
from tasks.records.last_night import Level, NightLine, SeenAlert
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

_ALERTS: Final[Mapping[Literal["waiting", "unmapped", "refused"], tuple[Level, str, str]]] = {
    "waiting": ("bad", "waits for its run", "Its run cannot be started: does the Prefect server answer?"),
    "refused": ("bad", "was refused", "Prefect does not start its run: correct the route in alerts.yaml."),
    "unmapped": (
        "note",
        "started nothing",
        "No route is for it: write one in alerts.yaml, or silence it where it comes from.",
    ),
}


def judge_escalations(
    profile: ServiceProfile,
    seen: tuple[EscalationRecord, ...] | Unknown,
    going_on: frozenset[str] | Unknown,
    since: datetime,
) -> Iterator[NightLine]:
    """Yield a line for each escalation that is open or ended since then."""
    if isinstance(seen, Unknown):
        yield say_unseen("escalations", seen)
        return
    for record in seen:
        opening, end = record.opening, record.end
        began = f"{opening.reason} Told: {', '.join(record.reached) or 'nobody'}."
        if end is None:
            how, take = f"open since {say_moment(opening.at, profile)}", f"acknowledge/{profile.name}"
            said = f"{began} To take it: {take}.{_say_stranded(record, going_on)}"
            yield NightLine(level="bad", what="escalation", how=how, said=said)
        elif end.at >= since:
            who = f" by {end.by}" if end.by else ""
            how = f"{end.kind}{who} {say_moment(end.at, profile)}"
            level: Level = "bad" if end.kind == "nobody left" else "note"
            yield NightLine(level=level, what="escalation", how=how, said=began)


def judge_alerts(profile: ServiceProfile, seen: tuple[SeenAlert, ...] | Unknown) -> Iterator[NightLine]:
    """Yield a line for all alerts of one name of which nothing was started."""
    if isinstance(seen, Unknown):
        yield say_unseen("alerts", seen)
        return
    for alert in seen:
        level, how, said = _ALERTS[alert.state]
        times = f", {say_count(alert.count, 'time')}" if alert.count > 1 else ""
        yield NightLine(
            level=level,
            what=f"alert {alert.name}",
            how=f"{how}{times}, last {say_moment(alert.last_seen, profile)}",
            said=" ".join(word for word in (f"{alert.reason}." if alert.reason else "", said) if word),
        )


def judge_credentials(
    profile: ServiceProfile, seen: tuple[CredentialAge, ...] | Unknown, now: datetime
) -> Iterator[NightLine]:
    """Yield a line for each credential that is overdue, soon due or half rotated, and one for the others."""
    if isinstance(seen, Unknown):
        yield say_unseen("credentials", seen)
        return
    judged = judge_ages(seen, now)
    for one in judged:
        how, said = one.verdict.lower(), one.to_do or ""
        if one.verdict in BAD:
            yield NightLine(level="bad", what=f"credential {one.age.name}", how=how, said=said)
        elif one.age.retires is not None:
            how = f"rotated, the old one is retired {say_moment(one.age.retires, profile)}"
            yield NightLine(level="note", what=f"credential {one.age.name}", how=how)
        elif one.verdict != "ok":
            yield NightLine(level="note", what=f"credential {one.age.name}", how=how, said=said)
    ages = [now - one.age.since for one in judged if one.verdict == "ok" and one.age.since is not None]
    if ages:
        how = f"{say_count(len(ages), 'is', 'are')} young enough, the oldest {say_period(max(ages))} old"
        yield NightLine(level="good", what="credentials", how=how)


def judge_half_done(seen: tuple[str, ...] | Unknown) -> Iterator[NightLine]:
    """Yield a line for each runbook whose journal is open."""
    if isinstance(seen, Unknown):
        yield say_unseen("journals", seen)
        return
    for runbook in seen:
        said = "Unless it runs right now, it was killed: its next run finishes or undoes what was begun."
        yield NightLine(level="bad", what=runbook, how="half done", said=said)


def say_unseen(what: str, unknown: Unknown) -> NightLine:
    """Return the line of what could not be seen."""
    return NightLine(level="bad", what=what, how="not seen", said=unknown.why)


def say_moment(moment: datetime, profile: ServiceProfile) -> str:
    """Return a time of the night as people say it."""
    return f"{moment.astimezone(profile.zone):%a %H:%M}"


def _say_stranded(record: EscalationRecord, going_on: frozenset[str] | Unknown) -> str:
    opening = record.opening
    if isinstance(going_on, Unknown) or going_on & {"", opening.id}:
        return ""
    return f" No run goes on with it: start escalate/{opening.service} with escalation {opening.id}."
