"""Who administers a service: who is new since the look before, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from tasks.records.accounts import Account, AdminReport, AdminsThen, KnownAdmin
from tasks.records.figures import say_count


def judge_admins(
    service: str, admins: Sequence[Account], before: AdminsThen | None, probe: str | None, at: datetime
) -> AdminReport:
    """Given who administers and who did at an earlier look, return the report.

    An administrator who could not log in then and can now is new: that is how one comes back.
    """
    now = {one.email for one in admins if one.active}
    then = {one.email for one in before.admins if one.active} if before is not None else now
    findings = tuple(_find(admins, probe))
    new, gone = tuple(sorted(now - then)), tuple(sorted(then - now))
    return AdminReport(
        service=service,
        at=at,
        headline=f"{service}: {say_count(len(now), 'active administrator')} of {len(admins):,}"
        + _compare(len(new), len(gone), first=before is None),
        admins=tuple(sorted(admins, key=lambda one: (one.email not in new, not one.active, one.email))),
        new=new,
        gone=gone,
        compared_with=before.at if before is not None else None,
        findings=findings,
    )


def remember(admins: Iterable[Account], at: datetime) -> AdminsThen:
    """Return what a later look is compared with."""
    known = (KnownAdmin(email=one.email, organization=one.organization, active=one.active) for one in admins)
    return AdminsThen(at=at, admins=tuple(sorted(known, key=lambda one: one.email)))


def choose_before(kept: Sequence[AdminsThen], moment: datetime) -> AdminsThen | None:
    """Given earlier looks, return the newest that is older than the moment; None if there is none."""
    return max((one for one in kept if one.at < moment), key=lambda one: one.at, default=None)


def _find(admins: Sequence[Account], probe: str | None) -> Iterator[str]:
    people = [one for one in admins if one.email != probe]
    if not any(one.active for one in people):
        yield "Nobody can administer: no administrator is active, beside the probe."
    for email, times in sorted(Counter(one.email for one in admins).items()):
        if times > 1:
            yield f"{times} accounts have the address {email}."
    organizations = {one.organization for one in people if one.organization is not None}
    without = organizations - {one.organization for one in people if one.active}
    for organization in sorted(without):
        yield f"No administrator of the organisation {organization} is active."


def _compare(new: int, gone: int, *, first: bool) -> str:
    if first:
        return "; there was no earlier look to compare with."
    if not new and not gone:
        return ", the same as before."
    changes = [f"{new:,} new" if new else "", f"{gone:,} no longer" if gone else ""]
    return f"; {', '.join(change for change in changes if change)}."
