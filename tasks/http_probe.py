"""Ask a service from outside whether it is healthy, and whether its users can log in."""

import time
from collections.abc import Iterator

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from tasks.errors import RunbookError, UnreachableError
from tasks.http_exchange import Exchange, exchange
from tasks.log_masking import mask
from tasks.login_probing import attempt_login
from tasks.process_manager import observe_application
from tasks.records.evidence import HealthAnswer, HealthFacts
from tasks.records.figures import shorten
from tasks.records.service import ServiceProfile

_JSON = "application/json"
_LONGEST_WORD = 40
_SECONDS = 10.0
_OBSERVE_SECONDS = 4.5
_REQUESTS = 3
_PAUSE_SECONDS = 0.15
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 2.0
_LEAST_SECONDS = 0.5


class Health(BaseModel):
    """What a health URL answered; ``problem`` is a sentence when the service is not healthy."""

    model_config = ConfigDict(frozen=True)

    url: str
    seconds: float
    problem: str | None


@task(cache_policy=NO_CACHE, persist_result=False)
def probe_health(url: str, seconds: float = _SECONDS) -> Health:
    """Given a health URL, return what it answered. A service that is down is an answer, not an error."""
    return _ask(url, seconds)


@task(cache_policy=NO_CACHE, persist_result=False)
def await_health(profile: ServiceProfile) -> Health:
    """Given a service that was started, return its health as soon as it is healthy.

    Raise ``UnreachableError`` with its last problem if it is not within ``application.start_within``, and at
    once when its process manager has given it up.
    """
    application = profile.application
    deadline = time.monotonic() + application.start_within.total_seconds()
    look_at = time.monotonic() + _LOOK_SECONDS
    while True:
        remaining = deadline - time.monotonic()
        health = _ask(application.health_url, min(_SECONDS, max(_LEAST_SECONDS, remaining)))
        if health.problem is None:
            return health
        if time.monotonic() + _POLL_SECONDS > deadline:
            raise UnreachableError(
                f"{profile.name}: {health.url} was not healthy within "
                f"{application.start_within.total_seconds():.0f} s of the start, {health.problem}; "
                f"{_say_status(profile)}: see the log of {application.process_name}."
            )
        if time.monotonic() > look_at:
            _refuse_given_up(profile)
            look_at = time.monotonic() + _LOOK_SECONDS
        time.sleep(_POLL_SECONDS)


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_health(profile: ServiceProfile) -> HealthFacts:
    """Given a service, return what its health URL answers to up to three requests, within 5 s in all.

    Raise ``ConfigurationError`` if the URL is none: a service that is down is an answer.
    """
    return HealthFacts(answers=tuple(_ask_often(profile, profile.application.health_url)))


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_public_health(profile: ServiceProfile) -> HealthFacts | None:
    """Given a service, return what users get where they ask for its health; None if it has no such URL.

    Raise ``ConfigurationError`` if the URL is none.
    """
    url = profile.application.public_url
    return None if url is None else HealthFacts(answers=tuple(_ask_often(profile, url)))


@task(cache_policy=NO_CACHE, persist_result=False)
def probe_login(profile: ServiceProfile) -> str | None:
    """Given a service, log its probe user in; return None if that works or the profile has no login.

    Otherwise return a sentence that says what was answered. Raise ``ConfigurationError`` or
    ``AccessDeniedError`` if the reference to the password leads nowhere.
    """
    login = profile.application.login
    if login is None:
        return None
    return attempt_login(login, _SECONDS).problem


def _ask(url: str, seconds: float) -> Health:
    found = exchange(url, seconds)
    return Health(url=url, seconds=found.seconds, problem=_judge(found))


def _judge(found: Exchange) -> str | None:
    if found.failure is not None:
        return found.problem
    if not httpx.codes.is_success(found.status_code):
        return f"it answered {found.status_code}"
    kind = found.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        return f"its answer is {shorten(kind, _LONGEST_WORD) or 'of no type'}, not {_JSON}"
    if (body := found.read_json()) is None:
        return "its answer is no JSON"
    status = body.get("status") if isinstance(body, dict) else None
    if status is None:
        return "its answer has no status"
    return None if status == "OK" else f"its status is {shorten(repr(status), _LONGEST_WORD)}, not 'OK'"


def _ask_often(profile: ServiceProfile, url: str) -> Iterator[HealthAnswer]:
    """Ask more than once, so that one instance of several that is ill, and one that blinks, is seen.

    Whether it answers too slowly is for a decision to say.
    """
    deadline = time.monotonic() + _OBSERVE_SECONDS
    patience = profile.outage.slow_after.total_seconds()
    for number in range(_REQUESTS):
        if number:
            time.sleep(_PAUSE_SECONDS)
        remaining = deadline - time.monotonic()
        if number and remaining < _LEAST_SECONDS:
            return
        answer = _tell(url, exchange(url, remaining))
        # What only our own limit cut short says nothing.
        if number and answer.failure == "timed out" and remaining <= patience:
            return
        yield answer


def _tell(url: str, found: Exchange) -> HealthAnswer:
    body = found.read_json()
    fields = body if isinstance(body, dict) else {}
    problem, error = _judge(found), fields.get("error") or fields.get("message")
    return HealthAnswer(
        url=url,
        seconds=found.seconds,
        problem=problem,
        status_code=found.status_code or None,
        failure=found.failure,
        error=shorten(mask(str(error), frozenset())) if problem and error else None,
    )


def _refuse_given_up(profile: ServiceProfile) -> None:
    """Raise if no process of the application will be started again by itself."""
    try:
        status = observe_application.fn(profile)
    except RunbookError:
        return
    if status.instances and all(instance.state == "errored" for instance in status.instances):
        given_up = all(instance.given_up for instance in status.instances)
        ended = "its process manager has given it up" if given_up else "it failed and nothing starts it again"
        raise UnreachableError(
            f"{profile.name}: {profile.application.process_name} does not start, {ended}; {status.detail}: "
            "see its log."
        )


def _say_status(profile: ServiceProfile) -> str:
    try:
        return observe_application.fn(profile).detail
    except RunbookError as error:
        return str(error).removesuffix(".")
