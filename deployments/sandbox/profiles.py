"""The profiles of `deployments/services`, with what differs in a sandbox put in: folders, ports, secrets."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deployments.sandbox import vendor_sendgrid, vendor_stripe
from deployments.sandbox.applications import INVOICE, PROPERTYPULSE
from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.node import PACKAGES
from deployments.sandbox.receiver import LINK_KEY
from deployments.sandbox.vault import Vault, plain_password
from deployments.sandbox.vendor_pager import TOKEN

# A demo does not wait half a minute, and the miniatures are small.
OUTAGE = {"healthy_for": "PT3S", "memory_limit_mib": 200, "stuck_after": "PT1S"}
_SERVICES = Path(__file__).parent.parent / "services"


def write_profiles(state: Path, endpoints: Endpoints) -> Path:
    """Write every service's profile for this sandbox and return their folder."""
    folder = state / "services"
    folder.mkdir(parents=True, exist_ok=True)
    for name, changes in _changes(state / "secrets", endpoints).items():
        changes["state_directory"] = str(state / "runbooks")
        changes["outage"] = OUTAGE
        profile = yaml.safe_load((_SERVICES / f"{name}.yaml").read_text(encoding="utf-8"))
        changes["escalation"] = _reach_people(Vault(state / "secrets"), endpoints, profile["contacts"][0])
        text = yaml.safe_dump(_merge(profile, changes), sort_keys=False, allow_unicode=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def _changes(secrets: Path, endpoints: Endpoints) -> dict[str, dict[str, Any]]:
    destination = {
        "url": f"s3://{endpoints.s3_bucket}/runbooks",
        "endpoint_url": endpoints.s3_endpoint,
        "region": endpoints.s3_region,
        "access_key_id": f"file:{secrets / 's3-access-key-id'}",
        "secret_access_key": f"file:{secrets / 's3-secret-access-key'}",
    }
    operated = {
        "process_manager_program": str(endpoints.pm2),
        # The miniatures have no Winston; PM2 writes all that they say here.
        "log_files": ["logs/combined.log"],
        # Both applications share the sandbox's packages.
        "install_command": ["ln", "-sfn", str(PACKAGES), "node_modules"],
    }
    return {
        "invoice": {
            "application": {
                "directory": str(endpoints.invoice_folder),
                "health_url": endpoints.invoice_health,
                "login": _login(endpoints.invoice_health, "/auth/login", secrets, INVOICE),
                "migrate_command": [str(endpoints.node), "migration_scripts/run_all_migrations.js"],
                "public_url": endpoints.invoice_public,
                "fingerprints_url": _beside(endpoints.invoice_health, "/internal/fingerprints"),
                **operated,
            },
            "credentials": {
                "jwt_secret": {"protected_url": _beside(endpoints.invoice_health, "/audit")},
            },
            "firebase": {"token_url": f"{endpoints.vendors}/google/token"},
            "database": {"admin_url": f"file:{secrets / 'mongodb-admin-url'}"},
            "backup": {"destination": destination},
        },
        "propertypulse": {
            "application": {
                "directory": str(endpoints.propertypulse_folder),
                "health_url": endpoints.propertypulse_health,
                "login": _login(endpoints.propertypulse_health, "/api/auth/login", secrets, PROPERTYPULSE),
                "migrate_command": [sys.executable, "-m", "deployments.sandbox.migrate"],
                "public_url": endpoints.propertypulse_public,
                "fingerprints_url": _beside(endpoints.propertypulse_health, "/internal/fingerprints"),
                **operated,
            },
            "credentials": {
                "jwt_secret": {"protected_url": _beside(endpoints.propertypulse_health, "/api/payments")},
                "s3": {
                    "endpoint_url": endpoints.iam,
                    "iam_url": endpoints.iam,
                    "admin_key_id": destination["access_key_id"],
                    "admin_secret": destination["secret_access_key"],
                },
                **_credentials_of_vendors(secrets, endpoints),
            },
            "database": {
                "admin_url": f"file:{secrets / 'postgresql-admin-url'}",
                "client_directory": str(endpoints.pg_bin),
            },
            "upstreams": [
                {
                    "name": "Stripe",
                    "url": f"{endpoints.vendors}/stripe/v1/balance",
                    "bearer_variable": "STRIPE_SECRET_KEY",
                },
                {
                    "name": "SendGrid",
                    "url": f"{endpoints.vendors}/sendgrid/v3/scopes",
                    "bearer_variable": "SENDGRID_API_KEY",
                },
                {"name": "S3", "url": f"{endpoints.s3_endpoint}/"},
            ],
            "backup": {"destination": destination},
        },
    }


def _credentials_of_vendors(secrets: Path, endpoints: Endpoints) -> dict[str, Any]:
    webhook = _beside(endpoints.propertypulse_health, vendor_stripe.WEBHOOK_PATH)
    stripe = f"{endpoints.vendors}/stripe"
    return {
        "stripe_key": {"url": stripe, "handed_over": f"file:{secrets / 'new-stripe-key'}"},
        "stripe_webhook_secret": {"url": stripe, "endpoint_url": webhook, "probe_url": webhook},
        "sendgrid_key": {
            "url": f"{endpoints.vendors}/sendgrid",
            "manager_key": f"file:{secrets / vendor_sendgrid.MANAGER_KEY}",
        },
    }


def _reach_people(vault: Vault, endpoints: Endpoints, first: dict[str, Any]) -> dict[str, str]:
    """Let the doubles take what people are sent: the first contact has a pager, the others e-mail."""
    pager = f"{endpoints.vendors.removeprefix('http://')}/pager/{vault.once(TOKEN, plain_password)}"
    vault.write("on-call-channel", f"json://{pager}")
    vault.once(LINK_KEY, plain_password)
    vendor_sendgrid.mail_key(vault)
    first["channels"] = [f"file:{vault.path('on-call-channel')}"]
    return {
        "sendgrid_url": f"{endpoints.vendors}/sendgrid",
        "sendgrid_key": f"file:{vault.path(vendor_sendgrid.MAIL_KEY)}",
        "receiver_url": endpoints.receiver,
        "receiver_file": str(vault.folder.parent / "alerts" / "state" / "alerts.sqlite"),
        "link_key": f"file:{vault.path(LINK_KEY)}",
    }


def _login(health_url: str, path: str, secrets: Path, application: str) -> dict[str, str]:
    return {
        "url": _beside(health_url, path),
        "password": f"file:{secrets / f'{application}-probe-password'}",
    }


def _beside(health_url: str, path: str) -> str:
    return health_url.removesuffix("/health") + path


def _merge(profile: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(profile)
    for key, change in changes.items():
        merged[key] = _merge(merged.get(key, {}), change) if isinstance(change, Mapping) else change
    return merged
