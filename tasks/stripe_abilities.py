"""Who a Stripe key is and what it may do, found by asking: no request of these changes anything.

``<state_directory>/<service>/stripe-keys.jsonl`` keeps that by the key's fingerprint: a roll in the Dashboard
may end the old key before its successor is compared with it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import stripe
from pydantic import ValidationError

from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    NotFoundError,
    RunbookError,
)
from tasks.host_folder import append_line, host_folder, whole_lines
from tasks.records.observation import Record
from tasks.records.service import ServiceProfile
from tasks.stripe_asking import ask_stripe
from tasks.time_limits import run_together

# A POST without what it needs is refused as incomplete if the key may do it, and with 403 if it may not.
_ACTS: Final[Mapping[str, tuple[str, str]]] = {
    "read the balance": ("get", "/v1/balance"),
    "read events": ("get", "/v1/events?limit=1"),
    "read payments": ("get", "/v1/payment_intents?limit=1"),
    "take payments": ("post", "/v1/payment_intents"),
    "refund": ("post", "/v1/refunds"),
    "read webhook endpoints": ("get", "/v1/webhook_endpoints?limit=1"),
    "make webhook endpoints": ("post", "/v1/webhook_endpoints"),
}
_SECONDS: Final = 30.0


class StripeKeyFacts(Record):
    """Whose a key is and what it may do; ``account`` is None where it may not read that."""

    account: str | None
    able: tuple[str, ...]


class _Known(StripeKeyFacts):
    key: str


def examine_key(client: stripe.StripeClient, whose: str) -> StripeKeyFacts:
    """Given a key's client, return what Stripe says of it.

    Raise ``DeadCredentialError`` if Stripe does not accept it, ``UnreachableError`` if that cannot be asked.
    """
    asked = list(_ACTS)
    acts: list[Callable[[], bool]] = [partial(_may, client, *_ACTS[name], whose) for name in asked]
    may = run_together(acts, _SECONDS)
    return StripeKeyFacts(
        account=_find_account(client, whose),
        able=tuple(name for name, can in zip(asked, may, strict=True) if can),
    )


def recall_key(profile: ServiceProfile, mark: str) -> StripeKeyFacts | None:
    """Given a key's fingerprint, return what was known of it last, or None."""
    try:
        lines = whole_lines(_path(profile).read_bytes()).splitlines()
        known = [_Known.model_validate_json(line) for line in lines]
    except FileNotFoundError:
        return None
    except ValidationError:
        raise ConfigurationError(f"{_path(profile)} is no list of ours: move it away.") from None
    found = [one for one in known if one.key == mark]
    return StripeKeyFacts(account=found[-1].account, able=found[-1].able) if found else None


def remember_key(profile: ServiceProfile, mark: str, facts: StripeKeyFacts) -> None:
    """Given what is known of a key, keep it under its fingerprint."""
    if recall_key(profile, mark) != facts:
        known = _Known(key=mark, account=facts.account, able=facts.able)
        append_line(_path(profile), known.model_dump_json().encode())


def _path(profile: ServiceProfile) -> Path:
    return host_folder(profile) / "stripe-keys.jsonl"


def _find_account(client: stripe.StripeClient, whose: str) -> str | None:
    try:
        return str(ask_stripe(client.v1.accounts.retrieve_current, whose).id)
    except DeadCredentialError:
        raise
    except AccessDeniedError:
        return None


def _may(client: stripe.StripeClient, method: str, path: str, whose: str) -> bool:
    act: Callable[[], Any] = partial(client.raw_request, method, path)
    try:
        ask_stripe(act, whose)
    except DeadCredentialError:
        raise
    except AccessDeniedError:
        return False
    except NotFoundError:
        return True
    except RunbookError as error:
        # Incomplete, but not forbidden; what is unreachable is told.
        if type(error) is not RunbookError:
            raise
        return True
    return True
