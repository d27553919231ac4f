"""Which rotator a credential has: the one place that knows all of them."""

from tasks.errors import ConfigurationError
from tasks.records.credential_care import CredentialName
from tasks.records.service import ServiceProfile
from tasks.rotator import Rotator
from tasks.rotator_database import DatabaseRotator
from tasks.rotator_jwt import JwtRotator
from tasks.rotator_mongodb import MongodbUsers
from tasks.rotator_postgresql import PostgresqlUsers
from tasks.rotator_s3 import S3Rotator
from tasks.rotator_sendgrid import SendGridRotator
from tasks.rotator_stripe_key import StripeKeyRotator
from tasks.rotator_stripe_webhook import StripeWebhookRotator


def open_rotator(profile: ServiceProfile, credential: CredentialName) -> Rotator:
    """Given a credential, return how it is rotated; raise ``ConfigurationError`` if no profile says so."""
    wanted = profile.credentials
    if credential == "jwt-secret" and wanted.jwt_secret is not None:
        return JwtRotator(profile, wanted.jwt_secret)
    if credential == "database-password" and wanted.database_password is not None:
        users = MongodbUsers if profile.database.kind == "mongodb" else PostgresqlUsers
        return DatabaseRotator(profile, wanted.database_password, users(profile))
    if credential == "s3" and wanted.s3 is not None:
        return S3Rotator(profile, wanted.s3)
    if credential == "sendgrid-key" and wanted.sendgrid_key is not None:
        return SendGridRotator(profile, wanted.sendgrid_key)
    if credential == "stripe-key" and wanted.stripe_key is not None:
        return StripeKeyRotator(profile, wanted.stripe_key)
    if credential == "stripe-webhook-secret" and wanted.stripe_webhook_secret is not None:
        return StripeWebhookRotator(profile, wanted.stripe_webhook_secret)
    field = credential.replace("-", "_")
    raise ConfigurationError(
        f"{profile.name}: the profile has no credentials.{field}: write there how it is rotated, see "
        "docs/reference/service-profile.md."
    )
