"""On which ports a sandbox was started, kept in its folder: every later command finds it there."""

import json
from collections.abc import Mapping
from pathlib import Path

from deployments.sandbox.errors import SandboxError
from deployments.sandbox.ports import Ports, variable_of
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import write_private


def choose_ports(state: Path, environ: Mapping[str, str]) -> Ports:
    """Return the ports that a command is about: those of what runs, else those of the environment.

    Raises:
        SandboxError: a variable is wrong, or asks for another port than what runs has.
    """
    recorded = read_ports(state)
    if recorded is None or not Supervisor(state).marked():
        return Ports.from_environment(environ)
    asked = Ports.from_environment(environ, otherwise=recorded)
    refuse_to_move(state, recorded, asked)
    return recorded


def refuse_to_move(state: Path, recorded: Ports, asked: Ports) -> None:
    """Raise SandboxError if other ports are asked for than those of what runs: a stranger may be there."""
    now, wanted = dict(recorded.items()), dict(asked.items())
    others = [f"{variable_of(name)} is {now[name]}" for name in now if now[name] != wanted[name]]
    if others:
        raise SandboxError(
            f"The sandbox in {state} runs on other ports ({', '.join(others)}): `make down` first."
        )


def read_ports(state: Path) -> Ports | None:
    """Return the ports of the last start, None before the first."""
    for record in (state / "ports.json", _of_older_sandbox(state)):
        if record.exists():
            kept: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))
            return Ports(**{name: kept.get(name, port) for name, port in Ports().items()})
    return None


def keep_ports(state: Path, ports: Ports) -> None:
    """Keep the ports of a start that begins."""
    write_private(state / "ports.json", json.dumps(dict(ports.items())))
    _of_older_sandbox(state).unlink(missing_ok=True)


def _of_older_sandbox(state: Path) -> Path:
    return state / "apps" / "ports.json"
