"""The vendors' doubles as a part of the sandbox, and how they are told to misbehave."""

import signal
import sys
from collections.abc import Mapping
from typing import Any

import httpx

from deployments.sandbox import vendor_sendgrid, vendor_stripe
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.ports import HOST, Ports
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import Vault, plain_password
from deployments.sandbox.vendors_server import CONTROL

START_SECONDS = 20
STOP_SECONDS = 2


class Vendors:
    """Google's token endpoint, Stripe, SendGrid, AWS IAM and a pager, in one process."""

    name = "vendors"

    def __init__(self, supervisor: Supervisor, vault: Vault, ports: Ports) -> None:
        """Take where to run; nothing starts here."""
        self._supervisor = supervisor
        self._vault = vault
        self._ports = ports

    @property
    def address(self) -> str:
        """Return the address below which each vendor has its name."""
        return f"http://{HOST}:{self._ports.vendors}"

    @property
    def iam_address(self) -> str:
        """Return the address of IAM, and of S3 for the keys that it makes."""
        return f"http://{HOST}:{self._ports.iam}"

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the doubles unless they run, and wait until they answer.

        Raises:
            SandboxError: they do not come up.
        """
        self._vault.once(CONTROL, plain_password)
        vendor_stripe.first_key(self._vault)
        vendor_stripe.first_webhook_secret(self._vault)
        vendor_sendgrid.mail_key(self._vault)
        vendor_sendgrid.manager_key(self._vault)
        if not self.is_running():
            command = [sys.executable, "-m", "deployments.sandbox.vendors_server"]
            at = self._ports
            where = [at.vendors, at.propertypulse, at.iam, at.s3]
            self._supervisor.spawn(self.name, [*command, self._supervisor.state, *map(str, where)])
        self._supervisor.wait_until(self.name, self._missing, seconds=START_SECONDS)

    def stop(self) -> None:
        """Stop the doubles; what they were told stays."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the process away with SIGKILL."""
        self._supervisor.kill(self.name)

    def conduct(self, vendor: str, **change: object) -> None:
        """Let a vendor behave otherwise from now on, as `Conduct` has it: mode, revoked, faults and so on.

        Raises:
            SandboxError: the doubles do not run, or the vendor or what it shall do is unknown.
        """
        self._control("PUT", vendor, change)

    def act(self, vendor: str, name: str, **told: object) -> dict[str, Any]:
        """Do what a person does in a vendor's web pages, as its `dashboard` has it; return what is shown.

        Raises:
            SandboxError: the doubles do not run, or the vendor or the act is unknown.
        """
        return self._control("POST", f"{vendor}/{name}", told)

    def read_kept(self, vendor: str) -> list[dict[str, Any]]:
        """Return what people were sent through a vendor since its process started.

        Raises:
            SandboxError: the doubles do not run, or the vendor is unknown.
        """
        return list(self._control("GET", f"{vendor}/kept")["kept"])

    def _control(self, method: str, path: str, content: Mapping[str, object] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._vault.read(CONTROL)}"}
        url = f"{self.address}/control/{path}"
        try:
            answer = httpx.request(method, url, json=content, headers=headers, timeout=5)
        except httpx.HTTPError as error:
            raise SandboxError(f"The vendors' doubles do not answer ({type(error).__name__}).") from error
        if not answer.is_success:
            raise SandboxError(f"The vendors' doubles answered {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def _missing(self) -> str | None:
        try:
            httpx.get(f"{self.address}/", timeout=1)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None
