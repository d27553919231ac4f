"""What all lines of a service's logs say together: known meanings, starts, errors, last words. Pure.

A line may have several meanings, as "❌ Database connection failed: connect ECONNREFUSED 127.0.0.1:27017".
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from flows.decisions.log_signature_table import FIREBASE_ERROR, SIGNATURES, SLOW_REQUEST, Signature
from tasks.records.logs import LogExtract, LogFacts, LogLine, LogSignature
from tasks.records.service import ServiceProfile

_MOST_LAST_WORDS = 10
_BY_NAME: Mapping[str, Signature] = {signature.name: signature for signature in SIGNATURES}


def find_signature(name: str) -> Signature:
    """Given a signature's name, return it from the table; raise ``KeyError`` if it has none of that name."""
    return _BY_NAME[name]


def recognize(extract: LogExtract, profile: ServiceProfile) -> LogFacts:
    """Given all lines since a moment, return what they say: known meanings, starts, errors, last words."""
    errors = [line for line in extract.lines if line.level == "error"]
    signatures = tuple(_count(extract.lines))
    started = _last_with(profile.application.started_line, extract.lines)
    return LogFacts(
        since=extract.since,
        sources=extract.sources,
        unreadable=extract.unreadable,
        signatures=signatures,
        started_at=extract.lines[started].at if started is not None else None,
        firebase_started=_is_firebase_up(extract.lines, started, profile),
        errors=len(errors),
        slow_requests=sum(found.count for found in signatures if found.name == SLOW_REQUEST),
        last_words=tuple(line.text for line in errors[-_MOST_LAST_WORDS:]),
    )


def meanings_of(text: str) -> tuple[Signature, ...]:
    """Given a line, return all that it means."""
    lowered = text.lower()
    return tuple(
        signature
        for signature in SIGNATURES
        if any(word in lowered for word in signature.words) and signature.pattern.search(text)
    )


def _count(lines: Iterable[LogLine]) -> list[LogSignature]:
    """Return the meanings that occur, the most frequent first."""
    meanings = lru_cache(maxsize=None)(meanings_of)
    found: dict[str, list[LogLine]] = {}
    for line in lines:
        for signature in meanings(line.text):
            found.setdefault(signature.name, []).append(line)
    counted = [_sum_up(name, same) for name, same in found.items()]
    return sorted(counted, key=lambda signature: (-signature.count, signature.name))


def _sum_up(name: str, lines: list[LogLine]) -> LogSignature:
    times = [line.at for line in lines if line.at is not None]
    return LogSignature(
        name=name,
        count=len(lines),
        first=min(times, default=None),
        last=max(times, default=None),
        example=lines[-1].text,
    )


def _last_with(words: str, lines: tuple[LogLine, ...]) -> int | None:
    return next((place for place in reversed(range(len(lines))) if words in lines[place].text), None)


def _is_firebase_up(lines: tuple[LogLine, ...], started: int | None, profile: ServiceProfile) -> bool | None:
    """Firebase's line may come before the one that ends the start; an error after it takes it back."""
    if profile.firebase is None or started is None:
        return None
    at = lines[started].at
    begun = at - profile.application.start_within if at is not None else None
    fails = _BY_NAME[FIREBASE_ERROR].pattern
    up = False
    for line in lines:
        if begun is None or line.at is None or line.at >= begun:
            up = profile.firebase.started_line in line.text or (up and not fails.search(line.text))
    return up
