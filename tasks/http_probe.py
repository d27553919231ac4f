"""Ask a service from outside whether it is healthy, and whether its users can log in."""

import ssl
import time
from functools import cache

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from tasks.credentials import resolve
from tasks.errors import RunbookError, UnreachableError
from tasks.process_manager import observe_application
from tasks.records.service import ServiceProfile

_SECONDS = 10.0
_POLL_SECONDS = 0.2
_LEAST_SECONDS = 0.5
_TOKEN_FIELDS = ("token", "accessToken", "access_token")


class Health(BaseModel):
    """What a health URL answered; ``problem`` is a sentence when the service is not healthy."""

    model_config = ConfigDict(frozen=True)

    url: str
    seconds: float
    problem: str | None


@task(cache_policy=NO_CACHE, persist_result=False)
def probe_health(url: str) -> Health:
    """Given a health URL, return what it answered. A service that is down is an answer, not an error."""
    return _ask(url, _SECONDS)


@task(cache_policy=NO_CACHE, persist_result=False)
def await_health(profile: ServiceProfile) -> Health:
    """Given a service that was started, return its health as soon as it is healthy.

    Raise ``UnreachableError`` with its last problem if it is not within ``application.start_within``.
    """
    application = profile.application
    deadline = time.monotonic() + application.start_within.total_seconds()
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
        time.sleep(_POLL_SECONDS)


@task(cache_policy=NO_CACHE, persist_result=False)
def probe_login(profile: ServiceProfile) -> str | None:
    """Given a service, log its probe user in; return None if that works or the profile has no login.

    Otherwise return a sentence that says what was answered. Raise ``ConfigurationError`` or
    ``AccessDeniedError`` if the reference to the password leads nowhere.
    """
    login = profile.application.login
    if login is None:
        return None
    body = {login.user_field: login.user, login.password_field: resolve(login.password)}
    try:
        response = httpx.post(login.url, json=body, timeout=_SECONDS, verify=_trust())
        answer = response.json() if response.status_code == httpx.codes.OK else None
    except httpx.HTTPError as error:
        return f"The login at {login.url} does not answer ({type(error).__name__})."
    except ValueError:
        return f"The login of {login.user} at {login.url} answered 200, but no JSON."
    if response.status_code != httpx.codes.OK:
        return f"The login of {login.user} at {login.url} answered {response.status_code}, not 200."
    if not isinstance(answer, dict) or not any(answer.get(field) for field in _TOKEN_FIELDS):
        return f"The login of {login.user} at {login.url} answered 200, but no token."
    return None


@cache
def _trust() -> ssl.SSLContext:
    """Read the certificates of the authorities once: that takes longer than a healthy answer."""
    return httpx.create_ssl_context()


def _ask(url: str, seconds: float) -> Health:
    trusted = _trust()
    started = time.monotonic()
    problem: str | None = None
    try:
        response = httpx.get(url, timeout=seconds, verify=trusted)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        body = response.json() if is_json else None
        status = body.get("status") if isinstance(body, dict) else None
        if not response.is_success:
            problem = f"it answered {response.status_code}"
        elif status != "OK":
            problem = f"its status is {status!r}, not 'OK'"
    except httpx.HTTPError as error:
        problem = f"it does not answer ({type(error).__name__})"
    except ValueError:
        problem = "its answer is no JSON"
    return Health(url=url, seconds=time.monotonic() - started, problem=problem)


def _say_status(profile: ServiceProfile) -> str:
    try:
        return observe_application.fn(profile).detail
    except RunbookError as error:
        return str(error).removesuffix(".")
