"""Runbook row P6: the secret that Stripe signs its events with. Each endpoint has one, shown at its creation.

A second endpoint with the same address and events is made, so every event comes by both while both are
enabled, and none is lost. Its metadata carries the rotation's id, so that it is found after a kill.
"""

import re
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import stripe

from tasks.environment_file import read_variables
from tasks.errors import ConfigurationError, RefusedError, RunbookError
from tasks.known_good import fingerprint
from tasks.records.credential_care import StripeWebhookSecret
from tasks.records.rotation import CredentialFacts, Kept, Stage
from tasks.records.service import ServiceProfile
from tasks.rotation_files import read_kept, read_open
from tasks.stripe_asking import open_stripe
from tasks.stripe_endpoints import MOST, Endpoint, Endpoints
from tasks.stripe_events import count_waiting, want_verified

_CREDENTIAL: Final = "stripe-webhook-secret"
_FORM: Final = re.compile(r"whsec_[A-Za-z0-9+/=_-]{10,}")
_DISABLE: Final = "disable the old endpoint at Stripe"
_DELETE: Final = "delete the old endpoint at Stripe"


class StripeWebhookRotator:
    """The endpoint that leads to the application, and its successor."""

    def __init__(self, profile: ServiceProfile, terms: StripeWebhookSecret) -> None:
        """Take the service and what its profile says of the secret."""
        self._profile, self._terms = profile, terms
        self._beside = (terms.previous_variable,) if terms.previous_variable else ()

    def observe(self) -> CredentialFacts:
        """Return how the secret and its endpoint are now; refuse if it is not clear which that is."""
        present = read_variables(self._profile)
        every = self._endpoints().list_all()
        here = self._list_here(every)
        terms, names = self._terms, (self._terms.variable, *self._beside)
        return CredentialFacts(
            credential=_CREDENTIAL,
            identity=self._profile.application.process_name,
            variables={
                name: fingerprint(self._profile, name, present[name])[:12] if name in present else None
                for name in names
            },
            provider={one.identity: "enabled" if one.enabled else "disabled" for one in here},
            making=f"Make a second Stripe endpoint for {terms.endpoint_url} with the same events",
            testing="Look at Stripe whether it is enabled for the same events",
            proving=f"Send test events signed with the new, the old and a wrong secret to {terms.probe_url}",
            undoing="the second endpoint is deleted; events come by the first one all the time",
            stages=(
                Stage(name=_DISABLE, after=terms.grace, unset=self._beside),
                Stage(name=_DELETE, after=terms.soak),
            ),
            warnings=self._warn(here),
            refusal=self._refuse(present, every, here),
        )

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return the secret of a new endpoint, after deleting what this rotation made before."""
        self.discard(rotation, before, None)
        endpoints = self._endpoints()
        old = self._find_present(self._list_here(endpoints.list_all()))
        if old is None:
            raise RefusedError(
                f"{self._profile.name}: it is not clear any more which endpoint leads to "
                f"{self._terms.endpoint_url}: see Developers, Webhooks in Stripe's Dashboard."
            )
        made, secret = endpoints.make_like(old, rotation)
        values: dict[str, str | None] = {self._terms.variable: secret}
        for name in self._beside:
            values[name] = read_variables(self._profile)[self._terms.variable]
        return Kept(rotation, values, {"endpoint": made.identity, "old_endpoint": old.identity})

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Delete the endpoints that carry this rotation's id."""
        del pending, making
        endpoints = self._endpoints()
        for one in endpoints.list_all():
            if one.rotation == rotation and one.identity not in before:
                endpoints.delete(one.identity)

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """An endpoint is enabled from its creation on."""

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """The old endpoint was enabled all the time."""

    def accepts(self, values: Kept) -> bool:
        """Return whether Stripe signs events with the secret: its endpoint is enabled.

        A secret that a person put there belongs to an endpoint that is neither of the two.
        """
        secret = values.value(self._terms.variable)
        if _FORM.fullmatch(secret) is None:
            return False
        enabled = {one.identity for one in self._list_here(self._endpoints().list_all()) if one.enabled}
        pending, previous = (
            read_kept(self._profile, _CREDENTIAL, which) for which in ("pending", "previous")
        )
        facts = self._recall(values)
        if pending is not None and secret == pending.value(self._terms.variable):
            return facts.get("endpoint") in enabled
        if previous is not None and secret == previous.value(self._terms.variable):
            return facts["old_endpoint"] in enabled if "old_endpoint" in facts else bool(enabled)
        if "endpoint" in values.facts:
            return values.facts["endpoint"] in enabled
        return bool(enabled - {facts.get("endpoint"), facts.get("old_endpoint")})

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Raise ``RunbookError`` if the new endpoint is not enabled for what the old one is."""
        del previous
        here = {one.identity: one for one in self._list_here(self._endpoints().list_all())}
        new, old = here.get(pending.facts["endpoint"]), here.get(pending.facts["old_endpoint"])
        if new is None or not new.enabled or (old is not None and {*new.events} != {*old.events}):
            raise RunbookError(
                f"{self._profile.name}: the new endpoint at Stripe is not enabled for the events of the old "
                "one: somebody changed one of them meanwhile."
            )

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return which signatures every process accepts; raise ``UnreachableError`` if not the right ones."""
        self._want(f"whsec_{secrets.token_hex(16)}", "a wrong secret", accepted=False)
        self._want(pending.value(self._terms.variable), "the new secret", accepted=True)
        old = "the old one is refused"
        if self._beside:
            self._want(previous.value(self._terms.variable), "the old secret", accepted=True)
            old = "one signed with the old one too"
        return (
            f"Every process accepts a test event signed with the new secret, {old}, a forged one is refused."
        )

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return how many events of before the new endpoint the old one has still to deliver."""
        facts = self._recall(previous)
        here = {one.identity: one for one in self._list_here(self._endpoints().list_all())}
        new, old = here.get(facts.get("endpoint", "")), here.get(facts.get("old_endpoint", ""))
        if stage != _DISABLE or new is None or old is None or not old.enabled:
            return None
        count = count_waiting(self._open(), new.created, old.events, self._terms.key_variable)
        if not count:
            return None
        events = "1 event is" if count == 1 else f"{count} events are"
        return f"{events} older than the new endpoint and still to be delivered"

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """Disable or delete the old endpoint."""
        del previous
        facts = self._recall(pending)
        old = facts.get("old_endpoint")
        if old is None or old == facts.get("endpoint"):
            raise ConfigurationError(
                f"{self._profile.name}: it is not known any more which endpoint is the old one: {stage} by "
                "hand, in the Dashboard."
            )
        endpoints = self._endpoints()
        if stage == _DISABLE:
            endpoints.disable(old)
        else:
            endpoints.delete(old)

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return how the old endpoint and secret were seen to be out of use; raise if they are not."""
        old = self._recall(previous).get("old_endpoint", "")
        left = [one for one in self._endpoints().list_all() if one.identity == old]
        if any(one.enabled or stage == _DELETE for one in left):
            raise RefusedError(
                f"{self._profile.name}: Stripe still has the old endpoint {old}: {stage}, in the Dashboard."
            )
        self._want(previous.value(self._terms.variable), "the old secret", accepted=False)
        gone = "deleted" if stage == _DELETE else "disabled"
        return f"The old endpoint is {gone}, and an event signed with its secret is refused."

    def _want(self, secret: str, whose: str, *, accepted: bool) -> None:
        want_verified(self._profile, self._terms.probe_url, secret, whose, accepted=accepted)

    def _refuse(
        self, present: Mapping[str, str], every: tuple[Endpoint, ...], here: tuple[Endpoint, ...]
    ) -> str | None:
        terms = self._terms
        if _FORM.fullmatch(present.get(terms.variable, "")) is None:
            return f"{terms.variable} in {self._profile.env_path} is no signing secret (whsec_): correct it."
        enabled = [one.identity for one in here if one.enabled]
        if self._find_present(here) is None:
            found = (
                f"{len(enabled)} enabled endpoints ({', '.join(enabled)})"
                if enabled
                else "no enabled endpoint"
            )
            return (
                f"Stripe has {found} for {terms.endpoint_url}, and it has to be one: put that right in its "
                "Dashboard, at Developers, Webhooks, or correct endpoint_url in the profile."
            )
        if len(every) >= MOST:
            return f"Stripe has {MOST} endpoints already, the most it allows: delete one that is not used."
        return None

    def _find_present(self, here: tuple[Endpoint, ...]) -> Endpoint | None:
        """Return the endpoint whose secret is in force: the one enabled, or while in grace the new one."""
        left = read_open(self._profile, _CREDENTIAL)
        enabled = [one for one in here if one.enabled]
        if left is not None:
            enabled = [one for one in enabled if one.identity == left.facts.get("endpoint")]
        return enabled[0] if len(enabled) == 1 else None

    def _list_here(self, every: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        return tuple(one for one in every if one.url == self._terms.endpoint_url)

    def _recall(self, values: Kept) -> Mapping[str, str]:
        """Return what the provider calls both, which only the new values carry."""
        if "endpoint" in values.facts:
            return values.facts
        pending = read_kept(self._profile, _CREDENTIAL, "pending")
        if pending is not None and pending.rotation == values.rotation:
            return pending.facts
        left = read_open(self._profile, _CREDENTIAL)
        return left.facts if left is not None and left.rotation == values.rotation else {}

    def _warn(self, here: tuple[Endpoint, ...]) -> tuple[str, ...]:
        if self._beside:
            both = (
                "During the grace the application takes each event twice, once by each endpoint: it has to "
                "know by an event's id what it has dealt with."
            )
            return (both,)
        one_only = (
            "The application accepts one secret only: during the grace it refuses each event that comes by "
            "the other endpoint. None is lost, since each comes by both, but Stripe counts these as failed."
        )
        return (one_only, *self._warn_of_waiting(here))

    def _warn_of_waiting(self, here: tuple[Endpoint, ...]) -> tuple[str, ...]:
        """Return how many events of before come by the present endpoint only, if any still do."""
        present, now = self._find_present(here), int(time.time())
        if present is None:
            return ()
        count = count_waiting(self._open(), now, present.events, self._terms.key_variable)
        if not count:
            return ()
        events = "1 event is" if count == 1 else f"{count} events are"
        lost = (
            f"{events} still to be delivered by the present endpoint only, and will be refused from the "
            "restart on: start this when Stripe has delivered them, or see to them by hand afterwards."
        )
        return (lost,)

    def _endpoints(self) -> Endpoints:
        return Endpoints(self._open(), self._terms.key_variable)

    def _open(self) -> stripe.StripeClient:
        return open_stripe(read_variables(self._profile).get(self._terms.key_variable, ""), self._terms.url)
