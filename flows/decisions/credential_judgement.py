"""Which credentials are overdue, expire, or are left half rotated; the worst first."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, get_args

from tasks.records.credential_age import AgeVerdict, CredentialAge, JudgedAge
from tasks.records.figures import say_count, say_period
from tasks.records.rotation import PARAMETERS, RUNBOOKS

RUNBOOK: Final = "credential-report"
BAD: Final = frozenset({"EXPIRED", "OVERDUE", "NOT SET", "not retired"})
_SOON: Final = timedelta(days=30)
# A retirement that did not happen by itself within this needs a person.
_LATE: Final = timedelta(hours=3)
_RANKS: Final = {verdict: rank for rank, verdict in enumerate(get_args(AgeVerdict))}


def judge_ages(ages: Sequence[CredentialAge], now: datetime) -> tuple[JudgedAge, ...]:
    """Given credentials, return each with its verdict, the worst first and the oldest of those."""
    judged = [_judge(age, now) for age in ages]
    return tuple(sorted(judged, key=lambda one: (_RANKS[one.verdict], one.age.since or now)))


def conclude(service: str, judged: Sequence[JudgedAge]) -> str:
    """Given the verdicts on all services' credentials, return what a service's run ends with."""
    own = [one for one in judged if one.age.service == service]
    bad = [one.to_do for one in own if one.verdict in BAD and one.to_do]
    if bad:
        return f"{service}: {' '.join(bad)}"
    soon = [one.age.name for one in own if one.verdict == "due soon"]
    also = f" Due soon: {', '.join(soon)}." if soon else ""
    return f"{service}: {say_count(len(own), 'credential')}, none of them overdue.{also}"


def _judge(age: CredentialAge, now: datetime) -> JudgedAge:
    verdict = _find_verdict(age, now)
    return JudgedAge(age=age, verdict=verdict, to_do=_say_to_do(age, verdict, now))


def _find_verdict(age: CredentialAge, now: datetime) -> AgeVerdict:
    if not age.is_set:
        return "not known" if age.problem else "NOT SET"
    if age.expires is not None and age.expires <= now.date():
        return "EXPIRED"
    if age.retires is not None and age.retires + _LATE < now:
        return "not retired"
    if age.since is None or age.problem is not None:
        return "not known"
    due = age.since + age.rotate_every
    if due <= now:
        return "OVERDUE"
    ends = age.expires is not None and age.expires <= (now + _SOON).date()
    return "due soon" if ends or due <= now + min(_SOON, age.rotate_every / 5) else "ok"


def _say_to_do(age: CredentialAge, verdict: AgeVerdict, now: datetime) -> str | None:
    whose = f" ({age.owner})" if age.owner else ""
    act = _say_act(age.name)
    match verdict:
        case "EXPIRED":
            return f"{age.name} expired on {age.expires}: {_say_renewal(age.name)}{whose}."
        case "OVERDUE" if age.since is not None:
            at_least = "at least " if age.source == "first seen" else ""
            old, limit = say_period(now - age.since), say_period(age.rotate_every)
            return f"{age.name} is {at_least}{old} old, the policy is {limit}: {act}{whose}."
        case "NOT SET":
            return f"{age.name} is not set in {age.held_in}: set it, or take it out of the profile{whose}."
        case "not retired":
            return (
                f"The old {age.name} should be retired since {age.retires:%Y-%m-%d %H:%M} UTC: {act} again."
            )
        case "not known" if age.problem is not None:
            return f"{age.name}: {age.problem}"
        case _:
            return None


def _say_renewal(name: str) -> str:
    # PostgreSQL keeps the date when the password is replaced, and the rotation refuses one that is past.
    if name == "database-password":
        return "let the database's administrator say ALTER ROLE ... VALID UNTIL 'infinity', or a later date"
    return _say_act(name)


def _say_act(name: str) -> str:
    for credential, runbook in RUNBOOKS.items():
        if credential == name:
            told = "".join(f" with {what}={value}" for what, value in PARAMETERS.get(credential, {}).items())
            return f"start {runbook}{told}"
    return "replace it by hand"
