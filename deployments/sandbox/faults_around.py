"""Faults around an application: its disk, its certificate, and who it depends on."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

from deployments.sandbox.breakage import Breakage
from deployments.sandbox.errors import SandboxError


def fill_disk(broken: Breakage) -> None:
    """Put a small disk where its logs go, and fill it; only root may mount."""
    folder = broken.folder / "logs"
    broken.undo("unmount", str(folder))
    command = [shutil.which("mount") or "", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        broken.withdraw()
        raise SandboxError("Only a user who may mount a small disk can have it full: root, as a rule.")
    try:
        (folder / "debug.log").write_bytes(b"\n" * (1 << 20))
    except OSError:
        return


def take_store_away(broken: Breakage) -> None:
    """Take the object store away."""
    broken.undo("start", broken.sandbox.object_store.name)
    broken.sandbox.object_store.kill()


def take_vendor_down(broken: Breakage, vendor: str) -> None:
    """Let a vendor answer 503."""
    broken.undo("conduct", vendor, {"mode": "up"})
    broken.sandbox.vendors.conduct(vendor, mode="down")


def take_stripe_down(broken: Breakage) -> None:
    """Let Stripe answer 503."""
    take_vendor_down(broken, "stripe")


def take_sendgrid_down(broken: Breakage) -> None:
    """Let SendGrid answer 503."""
    take_vendor_down(broken, "sendgrid")


def revoke_stripe_key(broken: Breakage) -> None:
    """Let Stripe refuse the key, as after a roll in its dashboard."""
    broken.undo("conduct", "stripe", {"revoked": []})
    broken.sandbox.vendors.conduct("stripe", revoked=[broken.setting("STRIPE_SECRET_KEY")])


def let_certificate_end(broken: Breakage) -> None:
    """Give the TLS front a certificate that ended yesterday."""
    broken.undo("certificate")
    front = broken.sandbox.tls_front
    front.issue(broken.application, datetime.now(UTC) - timedelta(days=1))
    front.kill()
    front.start()
