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
# A clock may be a little ahead of ours.
_AHEAD = timedelta(days=1)

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
            return _place(naive, letters, zone)
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
    found = dates.parse(text, default=here.replace(hour=0, minute=0, second=0, microsecond=0))
    if found <= here + _AHEAD:
        return found
    if _YEAR.search(stamp) is None:
        # Syslog leaves the year out: in January, December was last year's.
        return found.replace(year=found.year - 1)
    # Day first, then, if that is no time to come.
    other = dates.parse(text, default=here, dayfirst=True)
    return min(found, other)


def _place(naive: datetime, letters: str, zone: ZoneInfo) -> datetime | None:
    if naive.tzinfo is not None:
        return naive.astimezone(UTC)
    if not letters:
        return naive.astimezone(UTC)
    if letters in {"Z", "UTC", "GMT"}:
        return naive.replace(tzinfo=UTC)
    if offset := _OFFSET.search(letters):
        ahead = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        return naive.replace(tzinfo=timezone(-ahead if offset["sign"] == "-" else ahead)).astimezone(UTC)
    return _place_by_letters(naive, letters, zone)


def _place_by_letters(naive: datetime, letters: str, zone: ZoneInfo) -> datetime | None:
    """Letters as IST mean several zones: the service's or the host's, or the only one that there is."""
    here = naive.astimezone().tzinfo
    for preferred in (zone, here):
        if naive.replace(tzinfo=preferred).tzname() == letters:
            return naive.replace(tzinfo=preferred).astimezone(UTC)
    offsets = {
        naive.replace(tzinfo=found).utcoffset()
        for found in _zones_called(letters)
        if naive.replace(tzinfo=found).tzname() == letters
    }
    offset = offsets.pop() if len(offsets) == 1 else None
    return naive.replace(tzinfo=timezone(offset)).astimezone(UTC) if offset is not None else None


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
