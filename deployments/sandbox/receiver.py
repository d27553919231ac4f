"""The receiver of alerts as a part of the sandbox: the shipped configuration with secrets of its own."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from deployments.alerts.configuration import CONFIGURATION_VARIABLE
from deployments.sandbox.engine import PROJECT, client_environment
from deployments.sandbox.ports import HOST, Ports
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import Vault, plain_password

LINK_KEY: Final = "link-key"
START_SECONDS: Final = 20
STOP_SECONDS: Final = 5
_SHIPPED: Final = PROJECT / "deployments" / "alerts"


class AlertReceiver:
    """Takes alerts and acknowledgements by HTTP, and has the engine run what they ask for."""

    name = "alert-receiver"

    def __init__(self, supervisor: Supervisor, vault: Vault, ports: Ports) -> None:
        """Take where to run; nothing starts here."""
        self._supervisor = supervisor
        self._vault = vault
        self._ports = ports

    @property
    def url(self) -> str:
        """Return where alerts are posted, and where people acknowledge."""
        return f"http://{HOST}:{self._ports.receiver}"

    @property
    def configuration(self) -> Path:
        """Return its file."""
        return self._supervisor.state / "alerts" / "alerts.yaml"

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the receiver unless it runs, and wait until it keeps alerts; Prefect may be away.

        Raises:
            SandboxError: it does not come up.
        """
        if not self.is_running():
            self._write_configuration()
            environment = {
                **client_environment(self._supervisor.state, self._ports),
                CONFIGURATION_VARIABLE: str(self.configuration),
            }
            command = [sys.executable, "-m", "deployments.alerts", "serve"]
            self._supervisor.spawn(self.name, command, environment=environment, folder=PROJECT)
        self._supervisor.wait_until(self.name, self._missing, seconds=START_SECONDS)

    def stop(self) -> None:
        """Stop the receiver; what it keeps waits on its disk."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the process away with SIGKILL."""
        self._supervisor.kill(self.name)

    def _write_configuration(self) -> None:
        folder = self.configuration.parent
        folder.mkdir(parents=True, exist_ok=True)
        mappings = folder / "mappings"
        mappings.unlink(missing_ok=True)
        mappings.symlink_to(_SHIPPED / "mappings")
        shipped = yaml.safe_load((_SHIPPED / "alerts.yaml").read_text(encoding="utf-8"))
        document = {
            **shipped,
            "listen": {"host": HOST, "port": self._ports.receiver},
            "state_directory": str(folder / "state"),
            "link_key": self._keep_secret(LINK_KEY),
            "sources": [self._prove_itself(source) for source in shipped["sources"]],
        }
        self.configuration.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def _prove_itself(self, source: Mapping[str, Any]) -> dict[str, Any]:
        if "bearer" in source:
            return {**source, "bearer": self._keep_secret(source["bearer"])}
        signature = source["signature"]
        return {**source, "signature": {**signature, "key": self._keep_secret(signature["key"])}}

    def _keep_secret(self, reference: str) -> str:
        """Return a reference to a secret of the same name in the vault."""
        name = Path(reference).name
        self._vault.once(name, plain_password)
        return f"file:{self._vault.path(name)}"

    def _missing(self) -> str | None:
        try:
            answer = httpx.get(f"{self.url}/health", timeout=2)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if answer.is_success else f"health answered {answer.status_code}"
