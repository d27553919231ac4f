"""Find the time at the beginning of a log's line, whatever its form. Pure but for the host's time zone."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from dateutil import parser as dates

_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_DAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?"
_HEAD = re.compile(
    rf"""
    ^[\s\[(<"']{{0,3}}
    (?P<stamp>
        \d{{4}}-\d\d-\d\d[T ]{_CLOCK}
      | \d{{4}}/\d\d/\d\d[T ,]{{1,2}}{_CLOCK}
      | \d{{1,2}}[/.]\d{{1,2}}[/.]\d{{4}},?\s+{_CLOCK}(?:\s?[AaPp][Mm]\b)?
      | \d{{1,2}}[ /-]{_MONTH}[ /-]\d{{4}}[ :]{_CLOCK}
      | {_DAY}{_MONTH}\s+\d{{1,2}}(?:,?\s+\d{{4}})?,?\s+{_CLOCK}(?:\s?[AaPp][Mm]\b)?
      | {_DAY}\d{{1,2}}\s+{_MONTH}(?:\s+\d{{4}})?\s+{_CLOCK}
    )
    (?P<zone>\s?(?:Z\b|(?:GMT|UTC)?[+-]\d\d(?::?\d\d)?\b)|\s[A-Z]{{3,5}}\b(?!:))?
    (?P<end>\s\([A-Z][^)]*\))?
    [\])>"']{{0,2}}(?:[:,]?\s|[:,]|$)
    """,
    re.VERBOSE,
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?$")
_BETWEEN_DATE_AND_CLOCK = re.compile(r"(?<=\d{4}):(?=\d)")
_YEAR = re.compile(r"\d{4}")
_DAY_AND_MONTH = re.compile(r"\d{1,2}(?P<between>[/.])\d{1,2}[/.]\d{4}")
# A clock may be a little ahead of ours.
_AHEAD, _STEP = timedelta(days=1), timedelta(minutes=1)

Split = tuple[datetime | None, str]


def make_reader(now: datetime, zone: ZoneInfo) -> Callable[[str], Split]:
    """Given the time and the service's zone, return what splits a line into its time and the rest.

    A time is aware, UTC, or None where the line has none that can be understood; the rest is then all of it.
    One without a zone is the host's; a zone's letters are first looked for in the service's zone.
    """

    @lru_cache(maxsize=4096)
    def read(stamp: str, letters: str) -> datetime | None:
        try:
            naive = _read_stamp(stamp, now)
            return _place(naive, letters, zone, now)
        except (ValueError, OverflowError):
            return None

    def split(line: str) -> Split:
        head = _HEAD.match(line)
        if head is None:
            return None, line
        letters = (head["zone"] or "").strip()
        known = not letters.isalpha() or letters == "Z" or bool(_zones_called(letters))
        at = read(head["stamp"], letters if known else "")
        if at is None:
            return None, line
        # What is no zone is the line's first word, as INFO.
        return at, line[head.end() :] if known else line[head.end("stamp") :].lstrip()

    return split


def _read_stamp(stamp: str, now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(stamp.replace(",", "."))
    except ValueError:
        pass
    text = _BETWEEN_DATE_AND_CLOCK.sub(" ", stamp)
    here = now.astimezone().replace(tzinfo=None)
    today = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if numbers := _DAY_AND_MONTH.match(stamp):
        day_first = dates.parse(text, default=today, dayfirst=True)
        if numbers["between"] == ".":
            return day_first
        # A log is read for what it said last: the later one that is no time to come is meant.
        both = (dates.parse(text, default=today), day_first)
        return max((moment for moment in both if moment <= here + _AHEAD), default=min(both))
    found = dates.parse(text, default=today)
    if found <= here + _AHEAD:
        return found
    # Syslog leaves the year out: in January, December was last year's.
    return found if _YEAR.search(stamp) else found.replace(year=found.year - 1)


def _place(naive: datetime, letters: str, zone: ZoneInfo, now: datetime) -> datetime | None:
    if naive.tzinfo is not None:
        return naive.astimezone(UTC)
    if not letters:
        return _place_here(naive, now)
    if letters in {"Z", "UTC", "GMT"}:
        return naive.replace(tzinfo=UTC)
    if offset := _OFFSET.search(letters):
        ahead = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        return naive.replace(tzinfo=timezone(-ahead if offset["sign"] == "-" else ahead)).astimezone(UTC)
    return _place_by_letters(naive, letters, zone)


def _place_here(naive: datetime, now: datetime) -> datetime:
    """Return a time of the host's zone; of the hour that comes twice, the later one unless it is to come."""
    both = [moment.astimezone(UTC) for moment in _list_folds(naive)]
    return max((moment for moment in both if moment <= now + _STEP), default=min(both))


def _place_by_letters(naive: datetime, letters: str, zone: ZoneInfo) -> datetime | None:
    """Letters as IST mean several zones: the service's or the host's, or the only one that there is."""
    folds = _list_folds(naive)
    for preferred in (*(fold.replace(tzinfo=zone) for fold in folds), *(fold.astimezone() for fold in folds)):
        if preferred.tzname() == letters:
            return preferred.astimezone(UTC)
    everywhere = (fold.replace(tzinfo=found) for fold in folds for found in _zones_called(letters))
    offsets = {moment.utcoffset() for moment in everywhere if moment.tzname() == letters}
    offset = offsets.pop() if len(offsets) == 1 else None
    return naive.replace(tzinfo=timezone(offset)).astimezone(UTC) if offset is not None else None


def _list_folds(naive: datetime) -> tuple[datetime, datetime]:
    """Return both moments that a clock may mean: they differ in the hour that comes twice."""
    return naive.replace(fold=0), naive.replace(fold=1)


@lru_cache(maxsize=64)
def _zones_called(letters: str) -> tuple[tzinfo, ...]:
    return tuple(zone for zone, names in _names_of_zones() if letters in names)


@lru_cache(maxsize=1)
def _names_of_zones() -> tuple[tuple[ZoneInfo, frozenset[str]], ...]:
    """Return every zone with its letters in winter and in summer; ``posix/`` and the like are copies."""
    seasons = (datetime(2025, 1, 1), datetime(2025, 7, 1))  # noqa: DTZ001  a zone is put to them below
    found = []
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        names = frozenset(filter(None, (season.replace(tzinfo=zone).tzname() for season in seasons)))
        found.append((zone, names))
    return tuple(found)
