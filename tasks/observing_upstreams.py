"""Whether what the application needs of others is there: Stripe, SendGrid, S3."""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.errors import RunbookError
from tasks.http_exchange import Exchange, exchange
from tasks.records.evidence import UpstreamFacts
from tasks.records.outage_care import Upstream
from tasks.records.service import ServiceProfile
from tasks.time_limits import run_together

State = Literal["answers", "down", "refuses the key"]

_SECONDS = 4.0


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_upstreams(profile: ServiceProfile) -> tuple[UpstreamFacts, ...]:
    """Given a service, ask all of its upstreams at once; return how each answered.

    Raise ``ConfigurationError`` if a URL is none: an upstream that is down is an answer.
    """
    variables = _read_keys(profile)
    acts: list[Callable[[], UpstreamFacts]] = [
        partial(_observe, upstream, variables) for upstream in profile.upstreams
    ]
    # Each ends by itself within _SECONDS.
    return tuple(found for found in run_together(acts, 2 * _SECONDS) if found is not None)


def _read_keys(profile: ServiceProfile) -> Mapping[str, str]:
    try:
        return read_variables(profile)
    except RunbookError:
        # The observation of the env file tells it; whether an upstream answers is seen without a key too.
        return {}


def _observe(upstream: Upstream, variables: Mapping[str, str]) -> UpstreamFacts:
    key = variables.get(upstream.bearer_variable or "")
    if key and not (key.isascii() and key.isprintable()):
        problem = f"{upstream.bearer_variable} has characters that no request can carry"
        return _tell(upstream, 0.0, "refuses the key", problem)
    found = exchange(upstream.url, _SECONDS, headers={"Authorization": f"Bearer {key}"} if key else {})
    if found.failure is not None:
        return _tell(upstream, found.seconds, "down", found.problem)
    return _judge(upstream, found, has_key=bool(key))


def _judge(upstream: Upstream, found: Exchange, *, has_key: bool) -> UpstreamFacts:
    answered = f"it answered {found.status_code}"
    if found.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _tell(upstream, found.seconds, "down", answered)
    # 403 is a key that lives and may not do this.
    if found.status_code == HTTPStatus.UNAUTHORIZED and has_key:
        return _tell(
            upstream, found.seconds, "refuses the key", f"{answered} to the key in {upstream.bearer_variable}"
        )
    return _tell(upstream, found.seconds, "answers")


def _tell(upstream: Upstream, seconds: float, state: State, problem: str | None = None) -> UpstreamFacts:
    where = urlsplit(upstream.url).netloc.rpartition("@")[2]
    return UpstreamFacts(name=upstream.name, where=where, state=state, seconds=seconds, problem=problem)
