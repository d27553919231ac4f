"""What a service profile says of credentials: whose they are, how old they may be, how each is rotated."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.records.section import Reference, Section, WebAddress

CredentialName = Literal[
    "jwt-secret", "database-password", "s3", "stripe-key", "stripe-webhook-secret", "sendgrid-key"
]


class Terms(Section):
    """What every credential has: an owner, and an age at which it is due."""

    owner: str | None = Field(
        default=None, description="Who answers for it: a contact's name", examples=["System administrator"]
    )
    rotate_every: timedelta = Field(
        default=timedelta(days=365),
        gt=timedelta(0),
        description="Older than this it is overdue (ISO 8601 duration)",
        examples=["P365D"],
    )


class JwtSecret(Terms):
    """The secret that the application signs its tokens with, in application.jwt_secret_variable."""

    previous_variable: str | None = Field(
        default=None,
        description="The variable whose secret the application accepts too; without one all are logged out",
        examples=["JWT_SECRET_PREVIOUS"],
    )
    token_life: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="How long a token is valid: so long the previous secret stays (ISO 8601 duration)",
        examples=["PT24H"],
    )
    protected_url: WebAddress | None = Field(
        default=None,
        description="A GET that answers 401 to a bad token and something else to the probe user's",
        examples=["http://127.0.0.1:5000/api/payments"],
    )


class DatabasePassword(Terms):
    """The password in the URL of database.url_variable; database.admin_url sets it."""

    alternate: tuple[str, ...] = Field(
        default=(),
        max_length=2,
        description="Two users that take turns, so that the old one works until the new one is proven",
        examples=[["app_a", "app_b"]],
    )
    grace: timedelta = Field(
        default=timedelta(0),
        description="How long the user whose turn is over may still log in (ISO 8601 duration)",
        examples=["PT1H"],
    )
    end_sessions: bool = Field(
        default=True, description="End the sessions that were opened with the old password", examples=[True]
    )

    @model_validator(mode="after")
    def _two_take_turns(self) -> Self:
        if len(set(self.alternate)) == 1 or len(self.alternate) == 1:
            raise ValueError("alternate names two different users, or none")
        return self


class S3Credentials(Terms):
    """The access key of an IAM user, which may have two."""

    key_id_variable: str = Field(
        default="AWS_ACCESS_KEY_ID", description="Holds the key's id", examples=["AWS_ACCESS_KEY_ID"]
    )
    secret_variable: str = Field(
        default="AWS_SECRET_ACCESS_KEY",
        description="Holds the secret key",
        examples=["AWS_SECRET_ACCESS_KEY"],
    )
    user: str = Field(min_length=1, description="The IAM user whose key it is", examples=["uploads"])
    bucket: str = Field(min_length=1, description="The application's bucket", examples=["uploads"])
    prefix: str = Field(
        default="runbooks-probe/",
        description="Where the probe's object goes for a moment",
        examples=["runbooks-probe/"],
    )
    region: str = Field(default="us-east-1", description="The bucket's region", examples=["eu-central-1"])
    endpoint_url: WebAddress | None = Field(
        default=None, description="For a store that is not AWS itself", examples=["https://minio.example.com"]
    )
    iam_url: WebAddress | None = Field(
        default=None, description="For an IAM that is not AWS itself", examples=["https://iam.example.com"]
    )
    admin_key_id: Reference | None = Field(
        default=None,
        description="Reference to the id of a key that may manage the user's; AWS's own chain when left out",
        examples=["file:/etc/runbooks/iam-key-id"],
    )
    admin_secret: Reference | None = Field(
        default=None,
        description="Reference to that key's secret",
        examples=["file:/etc/runbooks/iam-secret"],
    )
    grace: timedelta = Field(
        default=timedelta(hours=1),
        description="The old key must be unused for so long before it is made inactive (ISO 8601 duration)",
        examples=["PT1H"],
    )
    soak: timedelta = Field(
        default=timedelta(days=7),
        description="It stays inactive for so long before it is deleted (ISO 8601 duration)",
        examples=["P7D"],
    )

    @model_validator(mode="after")
    def _admin_comes_whole(self) -> Self:
        if (self.admin_key_id is None) != (self.admin_secret is None):
            raise ValueError("admin_key_id and admin_secret are given together or not at all")
        return self


class StripeKey(Terms):
    """The secret key, which only a person can roll, in Stripe's Dashboard."""

    variable: str = Field(
        default="STRIPE_SECRET_KEY", description="Holds the key", examples=["STRIPE_SECRET_KEY"]
    )
    handed_over: Reference = Field(
        description="Where the operator leaves the new key for the run, which takes and wipes it",
        examples=["file:/run/runbooks/new-stripe-key"],
    )
    url: WebAddress = Field(
        default="https://api.stripe.com",
        description="Stripe's API",
        examples=["https://api.stripe.com"],
    )
    grace: timedelta = Field(
        default=timedelta(hours=1),
        description="How long the Dashboard keeps the old key working (ISO 8601 duration)",
        examples=["PT1H"],
    )

    @model_validator(mode="after")
    def _can_be_wiped(self) -> Self:
        if self.handed_over.startswith("env:"):
            raise ValueError("handed_over is file: or block:, an environment variable cannot be wiped")
        return self


class StripeWebhookSecret(Terms):
    """The secret that Stripe signs its events with; each webhook endpoint has one of its own."""

    variable: str = Field(
        default="STRIPE_WEBHOOK_SECRET",
        description="Holds the secret",
        examples=["STRIPE_WEBHOOK_SECRET"],
    )
    previous_variable: str | None = Field(
        default=None,
        description="The variable whose secret the application accepts as well",
        examples=["STRIPE_WEBHOOK_SECRET_PREVIOUS"],
    )
    key_variable: str = Field(
        default="STRIPE_SECRET_KEY",
        description="Holds the key that may manage endpoints",
        examples=["STRIPE_SECRET_KEY"],
    )
    endpoint_url: WebAddress = Field(
        description="The application's address as it is registered at Stripe",
        examples=["https://api.example.com/api/webhooks/stripe"],
    )
    probe_url: WebAddress = Field(
        description="The same on this host, where the signed test event goes",
        examples=["http://127.0.0.1:5000/api/webhooks/stripe"],
    )
    url: WebAddress = Field(
        default="https://api.stripe.com",
        description="Stripe's API",
        examples=["https://api.stripe.com"],
    )
    grace: timedelta = Field(
        default=timedelta(hours=1),
        description="So long both endpoints stay enabled (ISO 8601 duration)",
        examples=["PT1H"],
    )
    soak: timedelta = Field(
        default=timedelta(days=1),
        description="The old endpoint stays disabled for so long before it is deleted (ISO 8601 duration)",
        examples=["P1D"],
    )


class SendGridKey(Terms):
    """The key that the application sends mail with."""

    variable: str = Field(
        default="SENDGRID_API_KEY", description="Holds the key", examples=["SENDGRID_API_KEY"]
    )
    manager_key: Reference = Field(
        description="Reference to a key with the scopes api_keys.* that makes and deletes the application's",
        examples=["file:/etc/runbooks/sendgrid-manager-key"],
    )
    sender: str = Field(
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="The address of the probe mail, which is never delivered",
        examples=["app@example.com"],
    )
    url: WebAddress = Field(
        default="https://api.sendgrid.com",
        description="SendGrid's API",
        examples=["https://api.eu.sendgrid.com"],
    )
    grace: timedelta = Field(
        default=timedelta(0),
        description="So long the old key still works (ISO 8601 duration)",
        examples=["PT1H"],
    )


class OtherCredential(Terms):
    """A credential that people rotate; the credential report watches its age."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$", description="Short name", examples=["firebase-service-account"]
    )
    variable: str | None = Field(
        default=None,
        description="The variable of the env file that holds it",
        examples=["FIREBASE_PRIVATE_KEY"],
    )
    reference: Reference | None = Field(
        default=None,
        description="Reference to it where it is the operator's own",
        examples=["file:/etc/runbooks/iam-secret"],
    )
    expires: date | None = Field(
        default=None, description="The day on which it stops working", examples=["2027-03-31"]
    )

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.variable is None) == (self.reference is None):
            raise ValueError(f"'{self.name}' has either a variable or a reference")
        return self


class Credentials(Section):
    """The credentials of a service: what is named here can be rotated, and its age is watched."""

    jwt_secret: JwtSecret | None = Field(default=None, description="What the application signs tokens with")
    database_password: DatabasePassword | None = Field(
        default=None, description="The password in the database's URL"
    )
    s3: S3Credentials | None = Field(default=None, description="The application's key of the object store")
    stripe_key: StripeKey | None = Field(default=None, description="Stripe's secret key")
    stripe_webhook_secret: StripeWebhookSecret | None = Field(
        default=None, description="What Stripe signs its events with"
    )
    sendgrid_key: SendGridKey | None = Field(default=None, description="SendGrid's key")
    others: tuple[OtherCredential, ...] = Field(default=(), description="What only people can rotate")

    def rotatable(self) -> Iterator[tuple[CredentialName, Terms]]:
        """Yield what can be rotated here, in the order that is safe when all of them must go."""
        found: tuple[tuple[CredentialName, Terms | None], ...] = (
            ("database-password", self.database_password),
            ("s3", self.s3),
            ("sendgrid-key", self.sendgrid_key),
            # Before the secret: whoever rolled it may have ended the old one, which manages endpoints.
            ("stripe-key", self.stripe_key),
            ("stripe-webhook-secret", self.stripe_webhook_secret),
            # Last: it ends the sessions, and whoever had one of the others could have made himself new ones.
            ("jwt-secret", self.jwt_secret),
        )
        yield from ((name, terms) for name, terms in found if terms is not None)
