"""How other clocks differ from this host's: wrong time breaks tokens, signatures and certificates."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.http_exchange import exchange
from tasks.records.evidence import ClockReading
from tasks.records.service import ServiceProfile
from tasks.time_limits import run_together

_SECONDS = 4.0
# A Date header has whole seconds, cut off.
_STEP = 1.0
_AWS = "https://s3.{region}.amazonaws.com"


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_clocks(profile: ServiceProfile) -> tuple[ClockReading, ...]:
    """Given a service, ask every clock that it knows of for the time; one that does not answer is left out.

    Those are its own, its upstreams' and its backup store's; the database's comes with its own observation.
    Raise ``ConfigurationError`` if a URL is none.
    """
    acts: list[Callable[[], ClockReading | None]] = [
        partial(_read_application, profile.application.health_url),
        *(partial(_read_header, source, url) for source, url in _list_places(profile)),
    ]
    return tuple(reading for reading in run_together(acts, _SECONDS) if reading is not None)


def _list_places(profile: ServiceProfile) -> Iterator[tuple[str, str]]:
    """Yield whose clock is where, each host once; a request for "/" costs nobody anything."""
    named = [(upstream.name, upstream.url) for upstream in profile.upstreams]
    destination = profile.backup.destination
    if destination.url.startswith("s3:"):
        named.append(("backup store", destination.endpoint_url or _AWS.format(region=destination.region)))
    places = {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/": name for name, url in reversed(named)}
    for place, name in reversed(places.items()):
        yield name, place


def _read_application(url: str) -> ClockReading | None:
    found = exchange(url, _SECONDS)
    body = found.read_json()
    moment = _read_moment(body.get("timestamp")) if isinstance(body, dict) else None
    return None if moment is None else compare_clock("application", moment, found.began, found.seconds)


def _read_moment(said: object) -> datetime | None:
    """Return the moment that a body says; None unless it says one with its offset."""
    try:
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _read_header(source: str, url: str) -> ClockReading | None:
    found = exchange(url, _SECONDS, "HEAD")
    try:
        moment = parsedate_to_datetime(found.headers.get("date", ""))
        # What a cache answers is as old as it says.
        age = timedelta(seconds=int(found.headers.get("age", "0")))
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        moment += age + timedelta(seconds=_STEP / 2)
    except (ValueError, OverflowError):
        return None
    return compare_clock(source, moment, found.began, found.seconds, _STEP / 2)


def compare_clock(
    source: str, moment: datetime, began: datetime, seconds: float, step: float = 0.0
) -> ClockReading:
    """Given the moment that a clock told, and when and for how long it was asked, return how it differs."""
    middle = began + timedelta(seconds=seconds / 2)
    return ClockReading(
        source=source,
        seconds=(moment - middle).total_seconds(),
        uncertainty=seconds / 2 + step,
    )
