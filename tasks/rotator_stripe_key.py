"""Runbook row P6: Stripe's secret key, which no key can make: a person rolls it in the Dashboard.

The person leaves the new key where the profile's ``handed_over`` says, and the run takes it from there.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from prefect import task
from prefect.context import TaskRunContext

from tasks.environment_file import read_variables
from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    RefusedError,
)
from tasks.handed_over import find_handed_over, leave_again, wipe_handed_over
from tasks.known_good import fingerprint
from tasks.patience import comes_true
from tasks.records.credential_care import StripeKey
from tasks.records.figures import say_period
from tasks.records.rotation import CredentialFacts, Kept, Stage
from tasks.records.service import ServiceProfile
from tasks.stripe_abilities import StripeKeyFacts, examine_key, recall_key, remember_key
from tasks.stripe_asking import ask_stripe, open_stripe

_FORM: Final = re.compile(r"(?:sk|rk)_(?P<mode>live|test)_[A-Za-z0-9_]{10,}")
_KNOWN_EVERYWHERE_SECONDS = 20.0


def _once_a_run(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    return f"handed-over-{parameters['profile'].name}-{context.task_run.flow_run_id}"


@task(persist_result=True, cache_key_fn=_once_a_run)
def lies_there(profile: ServiceProfile) -> bool:
    """Given a service, return whether a new Stripe key lay there when the run began.

    A run that waited begins anew: what came meanwhile does not take the place of the person's answer.
    """
    terms = profile.credentials.stripe_key
    return terms is not None and find_handed_over(terms.handed_over) is not None


class StripeKeyRotator:
    """The key in the env file, and its successor that a person hands over."""

    def __init__(self, profile: ServiceProfile, terms: StripeKey) -> None:
        """Take the service and what its profile says of the key."""
        self._profile, self._terms = profile, terms

    def observe(self) -> CredentialFacts:
        """Return how the key is now, by what was known of it last if Stripe does not accept it any more."""
        name, place = self._terms.variable, self._terms.handed_over
        key = read_variables(self._profile).get(name, "")
        form = _FORM.fullmatch(key)
        known = self._know(key) if form else None
        return CredentialFacts(
            credential="stripe-key",
            identity=self._profile.application.process_name,
            variables={name: fingerprint(self._profile, name, key)[:12] if key else None},
            provider={known.account: "its account"} if known is not None and known.account else {},
            making=(
                f"Take the new key from {place}, compare account, mode and rights with the old one's, and "
                "wipe it there"
            ),
            testing="Ask Stripe with it for what the application asks, without changing anything",
            proving=f"Compare the fingerprint of {name} that every process runs with",
            undoing=f"the new key is left at {place} again",
            stages=(Stage(name="see that the old key has ended at Stripe", after=self._terms.grace),),
            warnings=self._warn(),
            refusal=None
            if form
            else f"{name} in {self._profile.env_path} is no Stripe key: correct it first.",
        )

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return the key that was handed over; raise ``RunbookError`` if it cannot follow the old one."""
        del before
        name, place = self._terms.variable, self._terms.handed_over
        new = (find_handed_over(place) or "").strip()
        if not new:
            raise ConfigurationError(
                f"{self._profile.name}: there is no new key at {place}: roll it in Stripe's Dashboard, leave "
                "it there, readable for the worker's user only, and start this again."
            )
        self._compare(new, read_variables(self._profile).get(name, ""))
        return Kept(rotation, {name: new})

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Leave the new key where it was handed over: the old one may end, and nobody is shown it again."""
        del rotation, before, making
        # One of a rotation in grace was in the env file alone.
        if pending is not None and (key := pending.value(self._terms.variable)):
            leave_again(self._terms.handed_over, key)

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """Wipe the key where it was handed over: it is kept by now. Another one there is somebody else's."""
        del previous
        lying = find_handed_over(self._terms.handed_over)
        if lying is not None and lying.strip() == pending.value(self._terms.variable):
            wipe_handed_over(self._terms.handed_over)

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """Only a person could."""

    def accepts(self, values: Kept) -> bool:
        """Return whether Stripe knows the key."""
        return self._is_known(values.value(self._terms.variable))

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Raise ``RunbookError`` if the new key is of another account, or may less than the old one."""
        self._compare(pending.value(self._terms.variable), previous.value(self._terms.variable))

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return None: no payment is begun only to prove it."""

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return None: Stripe shows only people when a key was used."""

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """Only a person can end a key; a roll does."""

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return how the old key was refused; raise ``RefusedError`` if Stripe still accepts it."""
        del stage
        if self.accepts(previous):
            raise RefusedError(
                f"{self._profile.name}: Stripe still accepts the old key: expire it in the Dashboard, at "
                "Developers, API keys."
            )
        return "Stripe refuses the old key (401)."

    def _compare(self, new: str, old: str) -> None:
        name, form, old_form = self._profile.name, _FORM.fullmatch(new), _FORM.fullmatch(old)
        if form is None:
            raise ConfigurationError(
                f"{name}: what lies at {self._terms.handed_over} is no secret or restricted Stripe key "
                "(sk_ or rk_): leave the right one there."
            )
        if new == old:
            raise ConfigurationError(
                f"{name}: the key at {self._terms.handed_over} is the present one: roll it in Stripe's "
                "Dashboard, and leave the new one there."
            )
        if old_form is not None and form["mode"] != old_form["mode"]:
            raise ConfigurationError(
                f"{name}: the new key is of {form['mode']} mode, the present one of {old_form['mode']} mode: "
                "leave the right one there."
            )
        if not comes_true(lambda: self._is_known(new), _KNOWN_EVERYWHERE_SECONDS):
            raise DeadCredentialError(
                f"{name}: Stripe does not accept the new key (401), it is dead or mistyped: leave a key "
                "that works."
            )
        self._compare_rights(self._examine(new, "the new key"), self._know(old))

    def _compare_rights(self, new: StripeKeyFacts, old: StripeKeyFacts | None) -> None:
        name = self._profile.name
        if old is None:
            return
        if old.account is not None and new.account is not None and new.account != old.account:
            raise ConfigurationError(
                f"{name}: the new key is of the account {new.account}, the present one of {old.account}: "
                "leave the right one there."
            )
        missing = [what for what in old.able if what not in new.able]
        if old.account is not None and new.account is None:
            missing.append("read the account")
        if missing:
            raise AccessDeniedError(
                f"{name}: Stripe accepts the new key, but it is too narrow (403): it may not "
                f"{', '.join(missing)}, which the present one may: give it these rights in the Dashboard."
            )

    def _know(self, key: str) -> StripeKeyFacts | None:
        """Return what Stripe says of a key; what it said last, if it does not accept it any more."""
        mark = fingerprint(self._profile, self._terms.variable, key)
        try:
            facts = self._examine(key, self._terms.variable)
        except DeadCredentialError:
            return recall_key(self._profile, mark)
        remember_key(self._profile, mark, facts)
        return facts

    def _examine(self, key: str, whose: str) -> StripeKeyFacts:
        return examine_key(open_stripe(key, self._terms.url), whose)

    def _is_known(self, key: str) -> bool:
        if _FORM.fullmatch(key) is None:
            return False
        client = open_stripe(key, self._terms.url)
        try:
            ask_stripe(client.v1.balance.retrieve, "the key")
        except DeadCredentialError:
            return False
        except AccessDeniedError:
            return True
        return True

    def _warn(self) -> tuple[str, ...]:
        place = self._terms.handed_over
        if find_handed_over(place) is not None:
            return (f"The new key lies at {place} already.",)
        grace = self._terms.grace
        ends = f"live for {say_period(grace)}" if grace else "end at once (it is missed until the restart)"
        what_to_do = (
            f"Roll the key in Stripe's Dashboard (Developers, API keys), let the old one {ends} there, and "
            f"leave the new one at {place}, readable for the worker's user only: never in this form, which "
            "Prefect stores in clear. Then approve."
        )
        return (what_to_do,)
