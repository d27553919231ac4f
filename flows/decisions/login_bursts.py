"""Refused attempts, counted: by address, by user, by hour, and where there were too many at once. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from tasks.records.accounts import Attempt, AttemptExtract
from tasks.records.failed_logins import Burst, Suspect
from tasks.records.personal_data import mask_email
from tasks.records.user_care import LoginAlarm

_MOST_PERIODS = 48
_HOUR = timedelta(hours=1)

Grouping = Callable[[Attempt], str | None]


def by_address(attempt: Attempt) -> str | None:
    """Return what an attempt is counted under: where it came from."""
    return attempt.address


def by_user(attempt: Attempt) -> str | None:
    """Return what an attempt is counted under: whom it tried, masked."""
    return mask_email(attempt.user) if attempt.user is not None else None


def list_suspects(
    attempts: Iterable[Attempt], group: Grouping, other: Grouping, admins: frozenset[str] = frozenset()
) -> tuple[Suspect, ...]:
    """Return each group with its number, the largest first; ``admins`` are masked addresses."""
    groups = _group(attempts, group)
    suspects = (
        Suspect(
            name=name,
            count=len(found),
            others=len({seen for one in found if (seen := other(one)) is not None}),
            first=min(one.at for one in found),
            last=max(one.at for one in found),
            is_admin=name in admins,
        )
        for name, found in groups.items()
    )
    return tuple(sorted(suspects, key=lambda one: (-one.count, one.name)))


def find_bursts(extract: AttemptExtract, alarm: LoginAlarm, reported: datetime) -> Iterator[Burst]:
    """Yield where more came within a period than the profile allows; what came after ``reported`` is new."""
    limits: tuple[tuple[Literal["address", "user", "all"], Grouping, int], ...] = (
        ("address", by_address, alarm.from_one_address),
        ("user", by_user, alarm.of_one_user),
        ("all", lambda _: "", alarm.in_all),
    )
    for kind, group, limit in limits:
        for subject, found in _group(extract.attempts, group).items():
            moments = sorted(one.at for one in found)
            spans = list(_find_crowded(moments, alarm.within, limit))
            if spans:
                last = max(last for _, last, _ in spans)
                yield Burst(
                    kind=kind,
                    subject=subject,
                    source=extract.source,
                    count=max(count for _, _, count in spans),
                    limit=limit,
                    first=spans[0][0],
                    last=last,
                    is_new=last > reported,
                )


def _find_crowded(
    moments: Sequence[datetime], within: timedelta, limit: int
) -> Iterator[tuple[datetime, datetime, int]]:
    """Yield every period with so many, that ends with one of them: its first, its last, how many."""
    begin = 0
    for end, moment in enumerate(moments):
        while moment - moments[begin] >= within:
            begin += 1
        if end - begin + 1 >= limit:
            yield moments[begin], moment, end - begin + 1


def count_by_hour(
    attempts: Iterable[Attempt], since: datetime, until: datetime
) -> tuple[tuple[datetime, int], ...]:
    """Return how many there were from hour to hour, or of longer periods where that would be too many."""
    moments = [one.at for one in attempts]
    step = _HOUR * max(1, -(-int((until - since) / _HOUR) // _MOST_PERIODS))
    begin = since.replace(minute=0, second=0, microsecond=0)
    number = int((until - begin) / step) + 1
    counts = [0] * number
    for moment in moments:
        place = int((moment - begin) / step)
        if 0 <= place < number:
            counts[place] += 1
    return tuple((begin + step * place, count) for place, count in enumerate(counts))


def _group(attempts: Iterable[Attempt], group: Grouping) -> dict[str, list[Attempt]]:
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        name = group(attempt)
        if name is not None:
            groups[name].append(attempt)
    return groups
