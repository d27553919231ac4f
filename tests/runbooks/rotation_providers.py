"""Each credential as the walk sees it: how it begins, what may befall it, and what its provider accepts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import jwt
import psycopg
import stripe
from psycopg import sql
from python_http_client.exceptions import UnauthorizedError  # type: ignore[import-untyped]
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]

from deployments.sandbox.stack import Sandbox
from tests.adapters.iam_user import iam_user
from tests.runbooks.rotation_walking import Rotated

Values = Mapping[str, str]


class Provider(ABC):
    """One credential of the walked service."""

    flow: ClassVar[str]
    parameters: ClassVar[Mapping[str, str]] = {}
    vendor: ClassVar[str] = ""
    requests: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Method and path of each request to the vendor that may be befallen."""

    def __init__(self, rotated: Rotated, sandbox: Sandbox, held: ExitStack) -> None:
        self.rotated, self.sandbox, self.held = rotated, sandbox, held

    @abstractmethod
    def terms(self) -> dict[str, Any]:
        """What the profile's credentials say of it."""

    @abstractmethod
    def begin(self) -> None:
        """Make a credential that works, put it into the env file, and be ready for a rotation."""

    @abstractmethod
    def accepts(self, values: Values) -> bool:
        """Does the provider accept these values of the env file?"""

    def count(self) -> int:
        """How many of the service's there are at the provider."""
        return 1


class Jwt(Provider):
    flow = "rotate_jwt_secret"

    def terms(self) -> dict[str, Any]:
        return {"jwt_secret": {"protected_url": f"{self.rotated.at}/me"}}

    def begin(self) -> None:
        self.rotated.set_variables(JWT_SECRET=uuid4().hex * 2)

    def accepts(self, values: Values) -> bool:
        ends = datetime.now(UTC) + timedelta(minutes=5)
        token = jwt.encode({"sub": "x", "exp": ends}, values["JWT_SECRET"], "HS256")
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self.rotated.at}/me", headers=headers).is_success


class Database(Provider):
    """PostgreSQL, with a role of the application's own, or two that take turns."""

    flow = "rotate_database_password"
    alternate: ClassVar[bool] = False

    def roles(self) -> tuple[str, ...]:
        name = f"app_{self.rotated.ledger.database.name}"
        return (f"{name}_a", f"{name}_b") if self.alternate else (name,)

    def terms(self) -> dict[str, Any]:
        return {"database_password": {"alternate": list(self.roles()) if self.alternate else []}}

    def begin(self) -> None:
        password = uuid4().hex
        for role in self.roles():
            with suppress(psycopg.errors.UndefinedObject):
                self._execute("DROP OWNED BY {role}", "DROP ROLE {role}", role=role)
            self._execute(f"CREATE ROLE {{role}} LOGIN PASSWORD '{password}'", role=role)
            for what in ("TABLES", "SEQUENCES"):
                self._execute(f"GRANT ALL ON ALL {what} IN SCHEMA public TO {{role}}", role=role)
        at = self.rotated.ledger.database.url.rpartition("@")[2]
        self.rotated.set_variables(DATABASE_URL=f"postgresql://{self.roles()[0]}:{password}@{at}")

    def accepts(self, values: Values) -> bool:
        try:
            psycopg.connect(values["DATABASE_URL"]).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                return False
            raise
        return True

    def _execute(self, *orders: str, role: str) -> None:
        url = self.rotated.ledger.database.url
        with psycopg.connect(url, autocommit=True) as connection:
            for order in orders:
                connection.execute(sql.SQL(order).format(role=sql.Identifier(role)))


class TurnTakers(Database):
    alternate = True


class S3(Provider):
    flow = "rotate_s3_credentials"
    vendor = "iam"
    requests = tuple(
        ("POST", f"/{name}")
        for name in ("ListAccessKeys", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey")
    )

    def __init__(self, rotated: Rotated, sandbox: Sandbox, held: ExitStack) -> None:
        super().__init__(rotated, sandbox, held)
        self.user = held.enter_context(iam_user(sandbox))

    def terms(self) -> dict[str, Any]:
        return {"s3": self.user.terms(grace="PT0S", soak="PT0S")}

    def begin(self) -> None:
        for key in list(self.user.keys()):
            self.user.iam.delete_access_key(UserName=self.user.name, AccessKeyId=key)
        key_id, secret = self.user.make_key()
        self.rotated.set_variables(AWS_ACCESS_KEY_ID=key_id, AWS_SECRET_ACCESS_KEY=secret)

    def accepts(self, values: Values) -> bool:
        return self.user.works((values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"]))

    def count(self) -> int:
        return len(self.user.keys())


class SendGrid(Provider):
    flow = "rotate_sendgrid_key"
    vendor = "sendgrid"
    requests = (
        ("GET", "/v3/api_keys"),
        ("POST", "/v3/api_keys"),
        ("GET", "/v3/scopes"),
        ("POST", "/v3/mail/send"),
        ("DELETE", "/v3/api_keys/"),
    )

    @property
    def _at(self) -> str:
        return f"{self.sandbox.endpoints.vendors}/sendgrid"

    @property
    def _keys(self) -> Any:
        key = self.sandbox.vault.read("sendgrid-manager-key")
        return SendGridAPIClient(key, host=self._at).client.api_keys

    def _own(self) -> list[str]:
        found = self._keys.get().to_dict["result"]
        return [one["api_key_id"] for one in found if one["name"].startswith("ledger")]

    def terms(self) -> dict[str, Any]:
        manager = f"file:{self.sandbox.vault.path('sendgrid-manager-key')}"
        return {"sendgrid_key": {"manager_key": manager, "sender": "app@example.com", "url": self._at}}

    def begin(self) -> None:
        for left in self._own():
            self._keys._(left).delete()
        made = self._keys.post(request_body={"name": "ledger", "scopes": ["mail.send", "stats.read"]})
        self.rotated.set_variables(SENDGRID_API_KEY=made.to_dict["api_key"])

    def accepts(self, values: Values) -> bool:
        try:
            SendGridAPIClient(values["SENDGRID_API_KEY"], host=self._at).client.scopes.get()
        except UnauthorizedError:
            return False
        return True

    def count(self) -> int:
        return len(self._own())


class Stripe(Provider):
    """The account that both of Stripe's credentials are of."""

    flow = "rotate_stripe_keys"
    vendor = "stripe"

    def _make_key(self) -> str:
        self.account = f"acct_{uuid4().hex}"
        return str(self.sandbox.vendors.act("stripe", "make_key", account=self.account)["key"])

    def _open(self, key: str) -> Any:
        return stripe.StripeClient(key, base_addresses={"api": self._at}, max_network_retries=0).v1

    @property
    def _at(self) -> str:
        return f"{self.sandbox.endpoints.vendors}/stripe"


class StripeKey(Stripe):
    parameters: ClassVar[Mapping[str, str]] = {"which": "key"}
    requests = (("GET", "/v1/account"), ("GET", "/v1/balance"), ("GET", "/v1/payment_intents"))

    @property
    def _place(self) -> Any:
        return self.rotated.ledger.folder / "new-stripe-key"

    def terms(self) -> dict[str, Any]:
        return {"stripe_key": {"handed_over": f"file:{self._place}", "url": self._at, "grace": "PT0S"}}

    def begin(self) -> None:
        old = self._make_key()
        self.rotated.set_variables(STRIPE_SECRET_KEY=old)
        self._place.touch(mode=0o600)
        self._place.write_text(self.sandbox.vendors.act("stripe", "roll_key", key=old, expires_in=0)["key"])

    def accepts(self, values: Values) -> bool:
        try:
            self._open(values["STRIPE_SECRET_KEY"]).balance.retrieve()
        except stripe.AuthenticationError:
            return False
        return True


class StripeWebhook(Stripe):
    parameters: ClassVar[Mapping[str, str]] = {"which": "webhook-secret"}
    requests = (
        ("GET", "/v1/webhook_endpoints"),
        ("POST", "/v1/webhook_endpoints$"),
        ("POST", "/v1/webhook_endpoints/"),
        ("DELETE", "/v1/webhook_endpoints/"),
    )

    @property
    def _url(self) -> str:
        return f"{self.rotated.at}/webhook"

    def terms(self) -> dict[str, Any]:
        return {
            "stripe_webhook_secret": {
                "endpoint_url": self._url,
                "probe_url": self._url,
                "url": self._at,
                "previous_variable": "STRIPE_WEBHOOK_SECRET_PREVIOUS",
                "grace": "PT0S",
                "soak": "PT0S",
            }
        }

    def begin(self) -> None:
        key = self._make_key()
        asked = {"url": self._url, "enabled_events": ["payment_intent.succeeded"]}
        made = self._open(key).webhook_endpoints.create(asked)
        self.rotated.set_variables(
            STRIPE_SECRET_KEY=key,
            STRIPE_WEBHOOK_SECRET=made.secret,
            STRIPE_WEBHOOK_SECRET_PREVIOUS=None,
        )

    def accepts(self, values: Values) -> bool:
        header = stripe.WebhookSignature.generate_signature_header("{}", values["STRIPE_WEBHOOK_SECRET"])
        return httpx.post(self._url, content="{}", headers={"Stripe-Signature": header}).is_success

    def count(self) -> int:
        key = self.rotated.variables["STRIPE_SECRET_KEY"]
        return len(self._open(key).webhook_endpoints.list().data)


PROVIDERS: Mapping[str, type[Provider]] = {
    "jwt-secret": Jwt,
    "database-password": Database,
    "database-password, two users": TurnTakers,
    "s3": S3,
    "sendgrid-key": SendGrid,
    "stripe-key": StripeKey,
    "stripe-webhook-secret": StripeWebhook,
}
