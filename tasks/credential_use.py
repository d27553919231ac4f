"""What a credential did since a moment, as far as its provider tells; nothing of it is a secret."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.iam_keys import IamKeys
from tasks.records.credential_care import CredentialName, S3Credentials, StripeKey
from tasks.records.figures import say_count
from tasks.records.incident import Fact
from tasks.records.service import ServiceProfile
from tasks.stripe_asking import ask_stripe, open_stripe
from tasks.stuck_sessions import observe_application_sessions

_MOST_EVENTS: Final = 100
_DIGITS: Final = 4
_SILENT: Final[dict[CredentialName, str]] = {
    "jwt-secret": "A token that somebody else signed looks like one of ours.",
    "sendgrid-key": "SendGrid does not tell which key sent what: see there for mail that nobody meant.",
    "stripe-webhook-secret": "An event that somebody else signed looks like one of Stripe's: hold payments "
    "against Stripe's own list.",
}


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_credential_use(
    profile: ServiceProfile, credential: CredentialName, since: datetime
) -> tuple[Fact, ...]:
    """Given a credential, return what it did since; raise ``RunbookError`` if its provider does not say."""
    wanted = profile.credentials
    if credential == "s3" and wanted.s3 is not None:
        return tuple(_observe_s3(profile, wanted.s3, since))
    if credential == "stripe-key" and wanted.stripe_key is not None:
        return tuple(_observe_stripe(profile, wanted.stripe_key, since))
    if credential == "database-password":
        return tuple(_observe_database(profile))
    return (Fact(text=_SILENT[credential], source=credential),)


def _observe_s3(profile: ServiceProfile, terms: S3Credentials, since: datetime) -> Iterator[Fact]:
    keys = IamKeys(terms)
    ours = read_variables(profile).get(terms.key_id_variable)
    for key_id, key in keys.list_keys().items():
        used = keys.find_last_use(key_id)
        last = f"was used last at {used:%Y-%m-%d %H:%M} UTC" if used else "has no last use that IAM knows"
        whose = "The application's key" if key_id == ours else "A key that the application does not have"
        new = ", and was MADE SINCE" if key.made_at is not None and key.made_at >= since else ""
        yield Fact(text=f"{whose}, ...{key_id[-_DIGITS:]}, {last}{new}.", source=f"IAM user {terms.user}")
    yield Fact(text="Which objects were read is in the bucket's access log, if it has one.", source="S3")


def _observe_stripe(profile: ServiceProfile, terms: StripeKey, since: datetime) -> Iterator[Fact]:
    key = read_variables(profile).get(terms.variable, "")
    wanted: Any = {"created": {"gte": int(since.timestamp())}, "limit": _MOST_EVENTS}
    client = open_stripe(key, terms.url)
    events = ask_stripe(lambda: client.v1.events.list(wanted).data, f"the key of {terms.variable}")
    counted = Counter(event.type for event in events)
    kinds = ", ".join(f"{kind} ({times:,})" for kind, times in counted.most_common(10))
    more = " at least" if len(events) == _MOST_EVENTS else ""
    yield Fact(
        text=f"{say_count(len(events), 'event')}{more} of the account since: {kinds or 'none'}.",
        source="Stripe's events",
    )


def _observe_database(profile: ServiceProfile) -> Iterator[Fact]:
    found = observe_application_sessions.fn(profile)
    for one in found.sessions:
        yield Fact(
            text=f"{one.identity} of the application's user, {one.who}, open since "
            f"{one.identity.since:%Y-%m-%d %H:%M:%S} UTC, {one.state}.",
            source=found.where,
        )
    if profile.database.kind == "mongodb":
        yield Fact(text="Connections that did nothing at that moment are not told.", source=found.where)
