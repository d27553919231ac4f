"""A small service whose credentials are rotated, and what must be so of it afterwards whatever happened."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.sandbox.stack import Sandbox
from tasks.environment_file import parse
from tasks.journal import list_open_journals
from tasks.process_manager import start_application
from tasks.records.credential_care import CredentialName
from tasks.rotation_files import read_open, save_open
from tests.runbooks.conftest import Ledger, Ledgers, wait_until
from tests.runbooks.walking import is_healthy


@dataclass
class Rotated:
    """A ledger with an application that tells fingerprints, checks tokens and checks Stripe's signatures."""

    ledger: Ledger

    @property
    def folder(self) -> Path:
        return self.ledger.folder / "state" / self.ledger.name / "rotations"

    @property
    def variables(self) -> dict[str, str]:
        return parse((self.ledger.application / ".env").read_text())

    @property
    def at(self) -> str:
        return self.ledger.profile.application.health_url.removesuffix("/health")

    def kept(self) -> set[str]:
        """The private files that hold values."""
        return {path.name for path in self.folder.glob("*.p*")} if self.folder.exists() else set()

    def history(self) -> list[str]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    def end_grace(self, credential: CredentialName) -> None:
        """Let the next stage of the rotation in grace be due."""
        found = read_open(self.ledger.profile, credential)
        assert found is not None
        save_open(self.ledger.profile, found.model_copy(update={"due": datetime.now(UTC)}))

    @contextmanager
    def beginning_with(self, lines: str) -> Iterator[None]:
        """Let the application's program begin with these lines."""
        server = self.ledger.application / "server.js"
        whole = server.read_text()
        server.write_text(f"{lines}\n{whole}")
        try:
            yield
        finally:
            server.write_text(whole)

    def set_variables(self, **values: str | None) -> None:
        lines = [
            line
            for line in (self.ledger.application / ".env").read_text().splitlines()
            if line.partition("=")[0] not in values
        ]
        lines += [f"{name}={value}" for name, value in values.items() if value is not None]
        (self.ledger.application / ".env").write_text("\n".join(lines) + "\n")

    def is_settled(self) -> bool:
        """Is nothing of a rotation left under way, and the application healthy?"""
        return not list_open_journals(self.ledger.profile) and not self.kept() and is_healthy(self.ledger)


def make_rotated(ledgers: Ledgers, sandbox: Sandbox, kind: Any = "postgresql", **variables: str) -> Rotated:
    """Make a small service with these variables beside its database's; its application runs."""
    ledger = ledgers.make(kind)
    ledger.operate(sandbox)
    rotated = Rotated(ledger)
    ledger.change(
        application={"fingerprints_url": f"{rotated.at}/internal/fingerprints"},
        outage={"healthy_for": "PT1S"},
    )
    rotated.set_variables(**variables)
    sandbox.pm2.run("restart", ledger.profile.application.process_name)
    wait_until(lambda: is_healthy(ledger))
    return rotated


def start_again(rotated: Rotated) -> None:
    """Start the application as an operator does after somebody took it away."""
    start_application.fn(rotated.ledger.profile)
    wait_until(lambda: is_healthy(rotated.ledger))
