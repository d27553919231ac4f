"""Figures as people read them: one wording for decisions' sentences, tables and artifacts."""

from datetime import datetime, timedelta, tzinfo

_KILO = 1000
_HUNDRED = 100
_FEW_SECONDS = 10


def say_bytes(count: int) -> str:
    """Given bytes, return "812 bytes", "14.2 MB" or "142 MB": decimal units, three digits at most."""
    if count < _KILO:
        return say_count(count, "byte")
    size, units = count / _KILO, ["kB", "MB", "GB", "TB"]
    while round(size) >= _KILO and len(units) > 1:
        size /= _KILO
        units.pop(0)
    return f"{size:.1f} {units[0]}" if size < _HUNDRED else f"{size:,.0f} {units[0]}"


def say_gain(gained: float) -> str:
    """Given bytes more or less than before, return "+14.2 MB", "-812 bytes" or "unchanged"."""
    whole = round(gained)
    return f"{'-' if whole < 0 else '+'}{say_bytes(abs(whole))}" if whole else "unchanged"


def say_count(count: int, noun: str, plural: str | None = None) -> str:
    """Given 10482 and "document", return "10,482 documents"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def say_duration(seconds: float) -> str:
    """Given seconds, return "0.4 s", "8 s", "3 min 20 s", "5 h 3 min" or "2 days 4 h"."""
    if seconds < _FEW_SECONDS:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return _join(say_count(days, "day"), hour, "h")
    if hours:
        return _join(f"{hours} h", minute, "min")
    if minutes:
        return _join(f"{minutes} min", second, "s")
    return f"{second} s"


def say_period(period: timedelta) -> str:
    """Given a period, return it in the words of ``say_duration``."""
    return say_duration(period.total_seconds())


def say_time(moment: datetime, zone: tzinfo) -> str:
    """Given a moment, return "2025-03-01 02:00 CET": as the operator's clock shows it."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def shorten(text: str, most: int = 200) -> str:
    """Given a text of any length, return it on one line of at most ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _join(large: str, small: int, unit: str) -> str:
    return f"{large} {small} {unit}" if small else large
