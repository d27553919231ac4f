"""Where everything in a sandbox is: the record that tests, demo and benchmarks read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.sandbox import programs
from deployments.sandbox.applications import INVOICE, PROBE_EMAIL, PROPERTYPULSE
from deployments.sandbox.object_store import BUCKET, REGION
from deployments.sandbox.tls import NAME as TLS_NAME

if TYPE_CHECKING:  # the stack knows this module
    from deployments.sandbox.stack import Sandbox


@dataclass(frozen=True)
class Endpoints:
    """URLs, folders and credentials of one sandbox; what is secret does not show in its repr.

    `mongodb_url` and `postgresql_url` are what the applications' `.env` files say now, so they follow a
    rotation; Prisma's parameters, which libpq refuses, are cut off the latter.
    """

    mongodb_url: str = field(repr=False)
    mongodb_admin_url: str = field(repr=False)
    postgresql_url: str = field(repr=False)
    postgresql_admin_url: str = field(repr=False)
    s3_endpoint: str
    s3_bucket: str
    s3_region: str
    s3_access_key_id: str = field(repr=False)
    s3_secret_access_key: str = field(repr=False)
    invoice_health: str
    propertypulse_health: str
    invoice_public: str
    propertypulse_public: str
    vendors: str
    iam: str
    trusted_certificates: Path
    invoice_folder: Path
    propertypulse_folder: Path
    probe_email: str
    invoice_probe_password: str = field(repr=False)
    propertypulse_probe_password: str = field(repr=False)
    prefect_ui: str
    prefect_api: str
    receiver: str
    pg_bin: Path
    node: Path
    pm2_home: Path
    pm2: Path


def endpoints_of(sandbox: "Sandbox") -> Endpoints:
    """Return where everything is now; raise KeyError before the applications have an `.env`."""
    invoice_health, propertypulse_health = sandbox.health_urls()
    return Endpoints(
        mongodb_url=sandbox.applications.setting(INVOICE, "MONGODB_URI"),
        mongodb_admin_url=sandbox.mongodb.admin_url,
        postgresql_url=sandbox.applications.setting(PROPERTYPULSE, "DATABASE_URL").partition("?")[0],
        postgresql_admin_url=sandbox.postgresql.admin_url,
        s3_endpoint=sandbox.object_store.endpoint,
        s3_bucket=BUCKET,
        s3_region=REGION,
        s3_access_key_id=sandbox.object_store.key_id,
        s3_secret_access_key=sandbox.object_store.key_secret,
        invoice_health=invoice_health,
        propertypulse_health=propertypulse_health,
        invoice_public=f"https://{TLS_NAME}:{sandbox.ports.invoice_tls}/health",
        propertypulse_public=f"https://{TLS_NAME}:{sandbox.ports.propertypulse_tls}/health",
        vendors=sandbox.vendors.address,
        iam=sandbox.vendors.iam_address,
        trusted_certificates=sandbox.tls_front.trusted,
        invoice_folder=sandbox.applications.folder / INVOICE,
        propertypulse_folder=sandbox.applications.folder / PROPERTYPULSE,
        probe_email=PROBE_EMAIL,
        invoice_probe_password=sandbox.applications.probe_password(INVOICE),
        propertypulse_probe_password=sandbox.applications.probe_password(PROPERTYPULSE),
        prefect_ui=sandbox.prefect_server.url,
        prefect_api=f"{sandbox.prefect_server.url}/api",
        receiver=sandbox.receiver.url,
        pg_bin=programs.postgresql_bin(),
        node=programs.node(),
        pm2_home=sandbox.pm2.home,
        pm2=sandbox.pm2.program,
    )
