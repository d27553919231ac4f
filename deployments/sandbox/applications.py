"""The two operated applications: their files, their `.env`, and the user that probes log in as."""

import base64
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pymongo import MongoClient

from deployments.sandbox import object_store, uploads, vendor_google, vendor_sendgrid, vendor_stripe
from deployments.sandbox.env_templates import INVOICE_ENV, PROPERTYPULSE_ENV
from deployments.sandbox.node import FOLDER, PACKAGES, ApplicationProcess
from deployments.sandbox.ports import HOST, Ports
from deployments.sandbox.vault import Vault, hex_key, plain_password, write_private
from tasks.environment_file import parse

INVOICE = "invoice-backend"
PROPERTYPULSE = "propertypulse-api"
PROBE_EMAIL = "probe@example.com"
# Cheap on purpose: the passwords are random and long, and a demo logs in often.
SCRYPT = {"n": 1024, "r": 8, "p": 1}


@dataclass(frozen=True)
class Backing:
    """What the applications' first `.env` points at."""

    mongodb_uri: str
    database_url: str
    s3_endpoint: str


class Applications:
    """Both applications as folders: laid out from the checkout, configured once."""

    def __init__(self, state: Path, vault: Vault, ports: Ports) -> None:
        """Take where the folders go; nothing is written here."""
        self.folder = state / "apps"
        self._vault = vault
        self._ports = ports

    def environment_file(self, name: str) -> Path:
        """Return the `.env` of an application."""
        return self.folder / name / ".env"

    def setting(self, name: str, variable: str) -> str:
        """Return what an application's `.env` says now; after a rotation that is the truth.

        Raises:
            KeyError: the file or the variable is missing.
        """
        value = parse(self.environment_file(name).read_text(encoding="utf-8")).get(variable)
        if value is None:
            raise KeyError(f"{variable} is not set in {self.environment_file(name)}")
        return value

    def processes(self) -> list[ApplicationProcess]:
        """Return how PM2 runs them: one in fork mode, one as a cluster of two."""
        return [
            ApplicationProcess(INVOICE, self.folder / INVOICE, "server.js", "logs/combined.log"),
            ApplicationProcess(
                PROPERTYPULSE,
                self.folder / PROPERTYPULSE,
                "src/server.js",
                "logs/combined.log",
                instances=2,
                cluster=True,
            ),
        ]

    def probe_password(self, name: str) -> str:
        """Return the password of the application's probe user."""
        return self._vault.once(f"{name}-probe-password", plain_password)

    def lay_out(self, backing: Backing) -> None:
        """Copy the sources, link the packages, and write each `.env` that does not exist yet.

        An existing `.env` is the operator's: only the ports in it follow the sandbox's, by `follow_ports`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        _link(self.folder / "node_modules", PACKAGES)
        for name in (INVOICE, PROPERTYPULSE):
            target = self.folder / name
            shutil.copytree(FOLDER / "apps" / name, target, dirs_exist_ok=True)
            (target / "logs").mkdir(exist_ok=True)
            _link(target / "node_modules", PACKAGES)
        if not self.environment_file(INVOICE).exists():
            write_private(self.environment_file(INVOICE), self._invoice_environment(backing))
        if not self.environment_file(PROPERTYPULSE).exists():
            write_private(self.environment_file(PROPERTYPULSE), self._propertypulse_environment(backing))
        self._replace_made_up_firebase_key()
        self._add_stripe_address()
        self._give_uploads_a_user(backing.s3_endpoint)

    def follow_ports(self, earlier: Ports) -> None:
        """Put the ports of now where an existing `.env` has those of an earlier start."""
        before, now = dict(earlier.items()), dict(self._ports.items())
        for name, port in ((INVOICE, "invoice"), (PROPERTYPULSE, "propertypulse")):
            file = self.environment_file(name)
            if not file.exists():
                continue
            text = re.sub(
                rf"^PORT={before[port]}$",
                f"PORT={now[port]}",
                file.read_text(encoding="utf-8"),
                flags=re.MULTILINE,
            )
            write_private(file, _moved(text, before, now))

    def put_probe_users(self, mongodb_admin_url: str, postgresql_url: str) -> None:
        """Make the probe user in both databases, unless it is there; seeds stay free of random passwords."""
        client: MongoClient[dict[str, Any]]
        with MongoClient(mongodb_admin_url) as client:
            organization = client["invoice"]["organizations"].find_one({}, sort=[("organizationCode", 1)])
            password = _stored_form(self.probe_password(INVOICE))
            user: dict[str, Any] = {
                "name": "Probe",
                "passwordHash": password,
                "role": "admin",
                "isActive": True,
            }
            if organization is not None:
                user["organizationId"] = organization["_id"]
            client["invoice"]["users"].update_one({"email": PROBE_EMAIL}, {"$setOnInsert": user}, upsert=True)
        with psycopg.connect(postgresql_url) as connection:
            connection.execute(
                "INSERT INTO users (email, name, password_hash, role) VALUES (%s, 'Probe', %s, 'ADMIN')"
                " ON CONFLICT (email) DO NOTHING",
                [PROBE_EMAIL, _stored_form(self.probe_password(PROPERTYPULSE))],
            )

    def _invoice_environment(self, backing: Backing) -> str:
        return INVOICE_ENV.format(
            port=self._ports.invoice,
            mongodb_uri=backing.mongodb_uri,
            jwt_secret=self._vault.once("invoice-jwt-secret", plain_password_of_32),
            encryption_key=self._vault.once("invoice-encryption-key", hex_key),
            email_password=self._vault.once("invoice-email-password", plain_password),
            firebase_account=vendor_google.ACCOUNT,
            firebase_key=self._firebase_key(),
        )

    def _propertypulse_environment(self, backing: Backing) -> str:
        return PROPERTYPULSE_ENV.format(
            port=self._ports.propertypulse,
            database_url=backing.database_url,
            jwt_secret=self._vault.once("propertypulse-jwt-secret", plain_password_of_32),
            stripe_key=vendor_stripe.first_key(self._vault),
            stripe_webhook=vendor_stripe.first_webhook_secret(self._vault),
            vendors=self._vendors,
            s3_endpoint=backing.s3_endpoint,
            s3_key_id=self._vault.read(uploads.KEY_ID),
            s3_key_secret=self._vault.read(uploads.KEY_SECRET),
            sendgrid_key=vendor_sendgrid.first_key(self._vault),
        )

    @property
    def _vendors(self) -> str:
        return f"http://{HOST}:{self._ports.vendors}"

    def _firebase_key(self) -> str:
        """Return the private key as an env file has it: one line, each end of a line written out."""
        return self._vault.once(vendor_google.KEY, vendor_google.private_key).replace("\n", "\\n")

    def _replace_made_up_firebase_key(self) -> None:
        """Put a real key where an older sandbox had one that only looked like it."""
        old = self._vault.path("invoice-firebase-key")
        if not old.exists():
            return
        file = self.environment_file(INVOICE)
        made_up = (
            f"-----BEGIN PRIVATE KEY-----\\n{old.read_text(encoding='utf-8')}\\n-----END PRIVATE KEY-----\\n"
        )
        write_private(file, file.read_text(encoding="utf-8").replace(made_up, self._firebase_key()))
        old.unlink()

    def _add_stripe_address(self) -> None:
        """Lead the application of an older sandbox to the double: it would ask Stripe itself."""
        file = self.environment_file(PROPERTYPULSE)
        text = file.read_text(encoding="utf-8")
        if "STRIPE_API_URL" not in parse(text):
            write_private(file, text.rstrip("\n") + f"\nSTRIPE_API_URL={self._vendors}/stripe\n")

    def _give_uploads_a_user(self, endpoint: str) -> None:
        """Take the operator's key from the application of an older sandbox: it has one of its own now."""
        file = self.environment_file(PROPERTYPULSE)
        text = file.read_text(encoding="utf-8")
        key_id = self._vault.read(object_store.KEY_ID)
        if parse(text).get("AWS_ACCESS_KEY_ID") == key_id:
            text = text.replace(key_id, self._vault.read(uploads.KEY_ID))
            secret = self._vault.read(object_store.KEY_SECRET)
            text = text.replace(secret, self._vault.read(uploads.KEY_SECRET))
            write_private(file, text.replace(f"http://{HOST}:{self._ports.s3}", endpoint))


def plain_password_of_32() -> str:
    """Return a secret of more than 32 characters, as JWT_SECRET has to be."""
    return plain_password() + plain_password()


def _stored_form(password: str) -> str:
    """Return the form that both applications check: scrypt$N$r$p$salt$key."""
    salt = hashlib.sha256(password.encode()).digest()[:16]
    key = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **SCRYPT)
    fields = [str(SCRYPT["n"]), str(SCRYPT["r"]), str(SCRYPT["p"])]
    return "$".join(["scrypt", *fields, base64.b64encode(salt).decode(), base64.b64encode(key).decode()])


def _moved(text: str, before: dict[str, int], now: dict[str, int]) -> str:
    """Return the text with every address moved, in one pass: a new port may be another part's old one."""
    moves = {f"{HOST}:{before[key]}": f"{HOST}:{port}" for key, port in now.items()}
    return re.sub(rf"{re.escape(HOST)}:\d+", lambda found: moves.get(found[0], found[0]), text)


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and path.readlink() == target:
        return
    path.unlink(missing_ok=True)
    path.symlink_to(target, target_is_directory=True)
