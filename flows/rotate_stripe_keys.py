"""Runbook row P6: replace Stripe's secret key, or the secret that Stripe signs its events with."""

from typing import Any, Final, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rotating import rotate
from tasks.conclusion import failing_in_one_sentence
from tasks.profiles import load_service
from tasks.records.credential_care import CredentialName
from tasks.rotator_stripe_key import lies_there
from tasks.run_context import observe_run

_CREDENTIALS: Final[dict[str, CredentialName]] = {
    "key": "stripe-key",
    "webhook-secret": "stripe-webhook-secret",
}


@flow(name="rotate-stripe-keys", flow_run_name="{service}: {which}")
@failing_in_one_sentence
def rotate_stripe_keys(
    service: str,
    which: Literal["key", "webhook-secret"] = "key",
    emergency: bool = False,
    dry_run: bool = False,
    finish: str = "",
) -> State[Any]:
    """Replace Stripe's secret key, which a person rolls, or a webhook's signing secret, by a second endpoint.

    Trigger: by hand, when it is due or leaked; by security-incident; by itself when the grace is over.

    Preconditions: the profile has credentials.stripe_key, or credentials.stripe_webhook_secret and a key that
    may write webhook endpoints. For the key, a person with access to Stripe's Dashboard.

    Steps: finish or undo what a killed run left; look at the credential; show the plan; wait for approval
    where the profile asks for it.

    The key: unless it lies at credentials.stripe_key.handed_over already, wait until a person rolled it in
    the Dashboard, left the new one there and said so in the form; check its form, mode, account and rights
    against the present one's; keep it, and wipe it where it lay; write it into the env file; restart
    gracefully; prove that every process has it; when the grace is over, prove that the old one is refused.
    One that Stripe still accepts is for a person to expire; it is looked at again an hour later.

    The webhook secret: make a second endpoint with the same address and events, and keep its secret; write
    both secrets into the env file where the application reads a previous one; restart gracefully; prove by
    signed test events which secrets every process accepts. When the grace is over and nothing older waits for
    delivery, disable the old endpoint, take the old secret out, and prove that it is refused; later delete
    the endpoint.

    Rollback: until the new one is proven, any failure puts the old one back. A new key is left again where it
    was handed over; a second endpoint is deleted. A killed run is finished by the next one if the new one was
    kept by then.

    Args:
        service: The service's name, as in its profile.
        which: "key" is the secret key, "webhook-secret" what Stripe signs its events with.
        emergency: No grace: the old one is retired at once, and an earlier rotation's grace ends too.
        dry_run: Show the plan and stop.
        finish: The id of a rotation in grace: finish that, and begin no other. The runbook sets it itself.
    """
    profile, run, credential = load_service(service), observe_run(), _CREDENTIALS[which]
    ask = which == "key" and not (dry_run or finish or lies_there(profile))
    return rotate(profile, run, credential, emergency=emergency, dry_run=dry_run, ask=ask, finish=finish)
