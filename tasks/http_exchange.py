"""One HTTP request within a time limit that nothing exceeds, and what became of it."""

import errno
import ipaddress
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import httpx

from tasks.errors import ConfigurationError
from tasks.records.figures import say_duration
from tasks.time_limits import run_together

Failure = Literal["refused", "timed out", "unknown host", "tls", "broken off"]

_MOST_BYTES = 1 << 16
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}


@dataclass(frozen=True)
class Exchange:
    """What became of a request: an answer, or ``failure`` and its ``problem``, the end of a sentence."""

    began: datetime
    seconds: float
    status_code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    failure: Failure | None = None
    problem: str | None = None

    @property
    def silence(self) -> str | None:
        """Why nothing is said of what was asked (no answer, a failure, too many requests), or None."""
        busy = self.status_code == httpx.codes.TOO_MANY_REQUESTS
        if self.failure is not None or busy or httpx.codes.is_server_error(self.status_code):
            return self.problem or f"it answered {self.status_code}"
        return None

    def read_json(self) -> Any:
        """Return the body as JSON, None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def exchange(url: str, seconds: float, method: str = "GET", **content: Any) -> Exchange:
    """Given a request (``content`` as httpx takes it), return what became of it; redirects are answers.

    Only the first 64 kB of a body are read. Raise ``ConfigurationError`` if the URL is none.
    """
    trusted = trust()
    began, started = datetime.now(UTC), time.monotonic()
    found = run_together([lambda: _send(url, seconds, trusted, method, content)], seconds)[0]
    took = time.monotonic() - started
    match found:
        case None:
            return Exchange(began, took, failure="timed out", problem=_say_late(seconds))
        case httpx.HTTPError():
            failure, problem = explain(found, seconds)
            return Exchange(began, took, failure=failure, problem=problem)
        case (status_code, headers, body):
            return Exchange(began, took, status_code, headers, body)


def trust() -> ssl.SSLContext:
    """Return what certificates are held to; SSL_CERT_FILE and SSL_CERT_DIR are respected."""
    return _read_authorities(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _read_authorities(*places: str | None) -> ssl.SSLContext:
    """Read them once: that takes longer than a healthy answer."""
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError):
        named = next(place for place in places if place)
        raise ConfigurationError(
            f"The authorities' certificates cannot be read from {named}: correct SSL_CERT_FILE or "
            "SSL_CERT_DIR of the worker."
        ) from None


def explain(error: BaseException, seconds: float) -> tuple[Failure, str]:
    """Given why a request got no answer, return its kind and the end of a sentence."""
    for cause in _causes(error):
        match cause:
            case httpx.TimeoutException() | TimeoutError():
                return "timed out", _say_late(seconds)
            case ssl.SSLError():
                return "tls", _say_distrust(cause)
            case socket.gaierror():
                return "unknown host", f"its name is not known ({cause.strerror})"
            case ConnectionRefusedError():
                return "refused", "nobody listens there (connection refused)"
            case OSError() if cause.errno in _NO_WAY:
                return "timed out", f"no way leads there ({cause.strerror})"
    return "broken off", f"it broke the connection off ({type(error).__name__})"


def _say_distrust(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message})"
    return f"it does not speak TLS as it should ({error.reason or 'no reason given'})"


def _is_here(url: str) -> bool:
    """Tell whether it is on this host: a proxy that the environment names would ask another one."""
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _say_late(seconds: float) -> str:
    return f"it did not answer within {say_duration(seconds)}"


def _send(
    url: str, seconds: float, trusted: ssl.SSLContext, method: str, content: Mapping[str, Any]
) -> tuple[int, Mapping[str, str], bytes] | httpx.HTTPError:
    body = b""
    try:
        with (
            httpx.Client(timeout=seconds, verify=trusted, trust_env=not _is_here(url)) as client,
            client.stream(method, url, **content) as response,
        ):
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
            return response.status_code, response.headers, body[:_MOST_BYTES]
    except httpx.HTTPError as error:
        return error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ConfigurationError(f"{url} is no URL ({error}): correct it in the profile.") from None
