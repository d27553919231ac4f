"""Stripe's webhook endpoints: those of one address, made, disabled and deleted; each may be done twice."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import stripe

from tasks.errors import NotFoundError
from tasks.records.observation import Record
from tasks.stripe_asking import ask_stripe

MOST: Final = 16
# In an endpoint's metadata; the value is the rotation's id.
MARK: Final = "runbook_rotation"
_PAGE: Final = 100


class Endpoint(Record):
    """A webhook endpoint, without its secret, which Stripe shows once."""

    identity: str
    url: str
    enabled: bool
    events: tuple[str, ...]
    created: int
    description: str | None
    metadata: dict[str, str]
    api_version: str | None
    is_for_connect: bool

    @property
    def rotation(self) -> str | None:
        """Return the id of the rotation that made it, None if a person did."""
        return self.metadata.get(MARK)


class Endpoints:
    """The endpoints that a key can see: those of its account and mode."""

    def __init__(self, client: stripe.StripeClient, whose: str) -> None:
        """Take what asks, and how the key is called in a sentence."""
        self._endpoints, self._whose = client.v1.webhook_endpoints, whose

    def list_all(self) -> tuple[Endpoint, ...]:
        """Return all; raise what Stripe says instead."""

        def collect() -> list[stripe.WebhookEndpoint]:
            return list(self._endpoints.list({"limit": _PAGE}).auto_paging_iter())

        return tuple(_read(one) for one in ask_stripe(collect, self._whose))

    def make_like(self, old: Endpoint, rotation: str) -> tuple[Endpoint, str]:
        """Make an endpoint like another, marked with the rotation; return it with its secret."""
        told: dict[str, Any] = {
            "url": old.url,
            "enabled_events": list(old.events),
            "metadata": {**old.metadata, MARK: rotation},
        }
        if old.description:
            told["description"] = old.description
        if old.api_version:
            told["api_version"] = old.api_version
        if old.is_for_connect:
            told["connect"] = True
        params: Any = told
        made = ask_stripe(lambda: self._endpoints.create(params), self._whose)
        return _read(made), str(made.secret)

    def disable(self, identity: str) -> None:
        """Let an endpoint get no more events."""
        with suppress(NotFoundError):
            ask_stripe(lambda: self._endpoints.update(identity, {"disabled": True}), self._whose)

    def delete(self, identity: str) -> None:
        """Delete an endpoint; one that is gone is no error."""
        with suppress(NotFoundError):
            ask_stripe(lambda: self._endpoints.delete(identity), self._whose)


def _read(found: stripe.WebhookEndpoint) -> Endpoint:
    metadata: Mapping[str, Any] = found.to_dict().get("metadata") or {}
    return Endpoint(
        identity=found.id,
        url=found.url,
        enabled=found.status == "enabled",
        events=tuple(found.enabled_events),
        created=found.created,
        description=found.description,
        metadata={name: str(value) for name, value in metadata.items()},
        api_version=found.api_version,
        is_for_connect=found.application is not None,
    )
