"""What the investigation of an incident comes to: refusals counted, new administrators. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from flows.decisions.admins import judge_admins
from flows.decisions.login_bursts import by_address, count_by_hour, list_suspects
from tasks.records.accounts import Account, AdminsThen, Attempt
from tasks.records.incident import Fact, IncidentOpening, Investigation, Refusals


def count_refusals(
    investigation: Investigation, opening: IncidentOpening, name: Callable[[str], str]
) -> Refusals:
    """Given what was read, count it; ``name`` says how a user is named, in full or masked.

    The log says what the audit log says too, so that only the fuller one counts.
    """
    fullest = max(investigation.read, key=lambda one: len(one.attempts), default=None)
    audit = [one for one in investigation.read if one.source == "audit log"]
    attempts = fullest.attempts if fullest is not None else ()
    admins = frozenset(name(email) for email in investigation.admins)

    def by_user(attempt: Attempt) -> str | None:
        if attempt.user is not None and attempt.user == investigation.probe:
            return "our probe user, in proofs of rotations"
        return name(attempt.user) if attempt.user is not None else None

    return Refusals(
        total=len(attempts),
        by_action=dict(Counter(one.action for one in attempts)),
        by_address=list_suspects((one for read in audit for one in read.attempts), by_address, by_user),
        by_user=list_suspects(attempts, by_user, by_address, admins),
        by_hour=count_by_hour(attempts, opening.since, investigation.at),
    )


def find_new_admins(
    admins: Sequence[Account], before: AdminsThen | None, opening: IncidentOpening, at: datetime
) -> Iterator[Fact]:
    """Yield who administers now and did not before the incident, and by what that is known."""
    new = set(judge_admins(opening.service, admins, before, None, at).new) if before is not None else set()
    for one in admins:
        made = one.created is not None and opening.since <= one.created <= at
        if not made and one.email not in new:
            continue
        known = [
            f"was made {one.created:%Y-%m-%d %H:%M} UTC" if made else "",
            f"was none at the look of {before.at:%Y-%m-%d %H:%M} UTC"
            if before is not None and one.email in new
            else "",
        ]
        yield Fact(
            text=f"{one.email} is an administrator, and {' and '.join(filter(None, known))}.",
            source="the application's users, and list-admins",
        )


def find_unseen(before: AdminsThen | None, *, created_known: bool) -> Iterator[str]:
    """Yield what nobody can tell of administrators."""
    if before is None:
        yield (
            "Who was an administrator before is not known: list-admins had not run by then"
            + (", so only accounts that were made since are seen." if created_known else ".")
        )
