"""Ask SendGrid by its own library, within a limit that nothing exceeds; its errors become ours."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from typing import Final

from python_http_client.client import Response  # type: ignore[import-untyped]  # SendGrid's ships no types
from python_http_client.exceptions import HTTPError  # type: ignore[import-untyped]  # likewise
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]  # likewise

from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    RunbookError,
    UnreachableError,
)
from tasks.time_limits import run_together

SECONDS: Final = 10.0
SOCKET_SECONDS = 4.0

# At DEBUG it writes the key into the log.
logging.getLogger(Response.__module__).setLevel(logging.INFO)


def open_sendgrid(key: str, url: str) -> SendGridAPIClient:
    """Given a key and where SendGrid is, return what asks; nothing is asked yet."""
    client = SendGridAPIClient(key, host=url.rstrip("/"))
    client.client.timeout = SOCKET_SECONDS
    return client


def ask_sendgrid(act: Callable[[], Response], whose: str) -> Response:
    """Given a request, return SendGrid's answer.

    Raise ``DeadCredentialError`` if it does not know the key, ``AccessDeniedError`` if the key may not do
    this, ``ConfigurationError`` if it cannot be a key, ``UnreachableError`` if it is busy, down or silent.
    ``whose`` names the key in the sentence.
    """
    found = run_together([lambda: _ask(act, whose)], SECONDS)[0]
    if found is None:
        raise UnreachableError(f"SendGrid did not answer within {SECONDS:g} s.")
    return found


def _ask(act: Callable[[], Response], whose: str) -> Response:
    try:
        return act()
    except HTTPError as error:
        # Not always one that HTTP knows: proxies have numbers of their own.
        status = int(error.status_code)
    except (OSError, HTTPException) as error:
        raise UnreachableError(f"SendGrid did not answer ({type(error).__name__}).") from None
    except ValueError:
        # Not from it: it carries the key along.
        raise ConfigurationError(
            f"SendGrid cannot be asked with {whose}: it is not one line of plain characters."
        ) from None
    if status == HTTPStatus.UNAUTHORIZED:
        raise DeadCredentialError(f"SendGrid refuses {whose} (401).")
    if status == HTTPStatus.FORBIDDEN:
        raise AccessDeniedError(f"SendGrid refuses {whose} (403).")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise UnreachableError(f"SendGrid answered {status}.")
    raise RunbookError(f"SendGrid answered {status}.")
