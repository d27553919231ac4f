"""Whether people fail to log in, or somebody tries: the report of both logs, and when people are needed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from flows.decisions.log_report import find_deafness
from flows.decisions.login_bursts import by_address, by_user, count_by_hour, find_bursts, list_suspects
from tasks.records.accounts import Account, Attempt, AttemptExtract
from tasks.records.failed_logins import Burst, LoginReport, Suspect
from tasks.records.figures import say_count, say_period
from tasks.records.logs import LogExtract
from tasks.records.observation import Unknown
from tasks.records.personal_data import mask_email
from tasks.records.service import ServiceProfile

CAUSE: Final = "failed logins"
_MOST_TOLD: Final = 3


def find_failed_logins(extract: LogExtract, profile: ServiceProfile) -> AttemptExtract | Unknown:
    """Given all that the logs say, return the failed logins; Unknown if no log can be read."""
    if deafness := find_deafness(extract):
        return Unknown(why=deafness.removesuffix("."))
    pattern = re.compile(profile.users.failed_login_line)
    attempts = tuple(
        Attempt(at=line.at, source="log", action=profile.users.audit.failed_login, user=found["user"])
        for line in extract.lines
        if line.at is not None and (found := pattern.search(line.text)) is not None
    )
    return AttemptExtract(source="log", where="the log", attempts=attempts, left_out=extract.left_out)


def make_login_report(
    profile: ServiceProfile,
    sources: Sequence[AttemptExtract | Unknown],
    admins: Sequence[Account] | Unknown,
    span: tuple[datetime, datetime],
    reported: datetime | None,
) -> LoginReport:
    """Given what both logs have, return the report; ``reported`` is when the last one was made.

    Where there was none, what was over a period ago is old.
    """
    since, at = span
    alarm = profile.users.alarm
    read = [one for one in sources if isinstance(one, AttemptExtract)]
    last = reported if reported is not None else at - alarm.within
    bursts = _keep_larger(burst for one in read for burst in find_bursts(one, alarm, last))
    # The same failure is in both: the fuller one is shown, and the audit log, which knows addresses, first.
    shown = max(read, key=lambda one: len(one.attempts), default=None)
    attempts = shown.attempts if shown is not None else ()
    known = (
        frozenset(mask_email(one.email) for one in admins) if not isinstance(admins, Unknown) else frozenset()
    )
    report = LoginReport(
        service=profile.name,
        since=since,
        at=at,
        headline="",
        read=tuple(read),
        unread=tuple(_say_unread(sources, admins)),
        total=len(attempts),
        by_address=_list(read, attempts, known, of_addresses=True),
        by_user=_list(read, attempts, known, of_addresses=False),
        by_hour=count_by_hour(attempts, since, at),
        bursts=bursts,
    )
    return report.model_copy(update={"headline": conclude_logins(report, profile)})


def conclude_logins(report: LoginReport, profile: ServiceProfile) -> str:
    """Return the report's one sentence: what is too much, or that nothing is."""
    over = say_period(report.at - report.since)
    if not report.alarming:
        past = "; there were too many at once, which was reported before" if report.bursts else ""
        return f"{report.service}: {say_count(report.total, 'failed login')} in {over}{past}."
    within = say_period(profile.users.alarm.within)
    told = [_say_burst(burst, within) for burst in report.alarming[:_MOST_TOLD]]
    more = len(report.alarming) - len(told)
    told += [f"and {more:,} more"] if more else []
    return f"{report.service}: too many failed logins: {'; '.join(told)}."


def _say_burst(burst: Burst, within: str) -> str:
    number = f"{burst.count:,} within {within}, by the {burst.source}, where {burst.limit:,} are too many"
    if burst.kind == "all":
        return f"{number}, of all users together"
    return f"{number}, {'from' if burst.kind == 'address' else 'of the user'} {burst.subject}"


def _keep_larger(bursts: Iterable[Burst]) -> tuple[Burst, ...]:
    """Return one burst of each that both sources tell of, the largest first."""
    largest: dict[tuple[str, str], Burst] = {}
    for burst in bursts:
        known = largest.get((burst.kind, burst.subject))
        if known is None or (burst.is_new, burst.count) > (known.is_new, known.count):
            largest[burst.kind, burst.subject] = burst
    order = {"address": 0, "user": 1, "all": 2}
    return tuple(sorted(largest.values(), key=lambda one: (not one.is_new, order[one.kind], -one.count)))


def _list(
    read: Sequence[AttemptExtract], attempts: Sequence[Attempt], admins: frozenset[str], *, of_addresses: bool
) -> tuple[Suspect, ...]:
    if of_addresses:
        # Only the audit log knows any.
        from_audit = [one for extract in read if extract.source == "audit log" for one in extract.attempts]
        return list_suspects(from_audit, by_address, by_user)
    return list_suspects(attempts, by_user, by_address, admins)


def _say_unread(
    sources: Sequence[AttemptExtract | Unknown], admins: Sequence[Account] | Unknown
) -> Iterator[str]:
    for one in sources:
        if isinstance(one, Unknown):
            yield f"{one.why}."
        elif one.left_out:
            yield f"{one.where}: {one.left_out:,} older entries are too many to be counted."
    if isinstance(admins, Unknown):
        yield f"Who administers is not known: {admins.why}."
