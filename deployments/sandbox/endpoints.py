"""Where everything in a sandbox is: the record that tests, demo and benchmarks read."""

from dataclasses import dataclass, field
from pathlib import Path


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
    invoice_folder: Path
    propertypulse_folder: Path
    probe_email: str
    invoice_probe_password: str = field(repr=False)
    propertypulse_probe_password: str = field(repr=False)
    prefect_ui: str
    prefect_api: str
    pg_bin: Path
    node: Path
    pm2_home: Path
    pm2: Path
