"""Ask Stripe by its own library, within a limit that nothing exceeds; its errors become ours.

Stripe's own sentences show the end of the key, and what it sends back the secret of a new endpoint: neither
goes any further.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import stripe

from tasks.errors import AccessDeniedError, DeadCredentialError, NotFoundError, RunbookError, UnreachableError
from tasks.time_limits import run_together

T = TypeVar("T")

_SOCKET_SECONDS = 5.0
# Two tries, and the pause between them.
_SECONDS: Final = 15.0
_NOT_FOUND: Final = 404

# Below that it writes what it sends and receives into the log.
logging.getLogger("stripe").setLevel(logging.WARNING)


def open_stripe(key: str, url: str) -> stripe.StripeClient:
    """Given a key and where Stripe is, return what asks; nothing is asked yet.

    What breaks off is asked once more, with the same idempotency key: it is never done twice.
    """
    return stripe.StripeClient(
        key,
        base_addresses={"api": url.rstrip("/")},
        max_network_retries=1,
        http_client=stripe.RequestsClient(timeout=_SOCKET_SECONDS),
    )


def ask_stripe(act: Callable[[], T], whose: str) -> T:
    """Given a request, return what Stripe answered.

    Raise ``DeadCredentialError`` if it does not know the key, ``AccessDeniedError`` if the key may not do
    this, ``NotFoundError`` if there is no such object, ``UnreachableError`` if it is busy, down or silent.
    ``whose`` names the key in the sentence.
    """
    found = run_together([lambda: (_ask(act, whose),)], _SECONDS)[0]
    if found is None:
        raise UnreachableError(f"Stripe did not answer within {_SECONDS:g} s.")
    return found[0]


def _ask(act: Callable[[], T], whose: str) -> T:
    try:
        return act()
    except stripe.AuthenticationError:
        raise DeadCredentialError(f"Stripe does not accept {whose} (401).") from None
    except stripe.PermissionError:
        raise AccessDeniedError(f"Stripe accepts {whose}, which may not do this (403).") from None
    except stripe.InvalidRequestError as error:
        if error.http_status == _NOT_FOUND:
            raise NotFoundError("Stripe has no such object any more (404).") from None
        raise RunbookError(f"Stripe does not take the request ({error.code or error.http_status}).") from None
    except stripe.StripeError as error:
        said = (
            f"answered {error.http_status}"
            if error.http_status
            else f"did not answer ({type(error).__name__})"
        )
        raise UnreachableError(f"Stripe {said}.") from None
