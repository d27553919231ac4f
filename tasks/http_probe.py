"""Ask a service from outside whether it is healthy."""

import time

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

_SECONDS = 10.0


class Health(BaseModel):
    """What a health URL answered; ``problem`` is a sentence when the service is not healthy."""

    model_config = ConfigDict(frozen=True)

    url: str
    seconds: float
    problem: str | None


@task(cache_policy=NO_CACHE, persist_result=False)
def probe_health(url: str) -> Health:
    """Given a health URL, return what it answered. A service that is down is an answer, not an error."""
    started = time.monotonic()
    problem: str | None = None
    try:
        response = httpx.get(url, timeout=_SECONDS)
        body = (
            response.json() if response.headers.get("content-type", "").startswith("application/json") else {}
        )
        if not response.is_success:
            problem = f"it answered {response.status_code}"
        elif body.get("status") != "OK":
            problem = f"its status is {body.get('status')!r}, not 'OK'"
    except httpx.HTTPError as error:
        problem = f"it does not answer ({type(error).__name__})"
    except ValueError:
        problem = "its answer is no JSON"
    return Health(url=url, seconds=time.monotonic() - started, problem=problem)
