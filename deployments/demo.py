"""`make demo`: start both systems and the engine, back both up, restore both backups, and show the result."""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from deployments.sandbox.errors import SandboxError, say_denied
from deployments.sandbox.port_record import choose_ports
from deployments.sandbox.profiles import write_profiles
from deployments.sandbox.stack import Sandbox

STATE = Path(".sandbox")
# As a shell has it of whatever SIGINT ended.
INTERRUPTED = 130


def main() -> int:
    """Run the demo; an error is one sentence on standard error and exit code 1, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m deployments.demo", description=__doc__)
    parser.add_argument("--scale", type=float, default=1, help="size of the made-up data (%(default)s)")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        sandbox = Sandbox(STATE, choose_ports(STATE, os.environ))
        _start(console, sandbox, options.scale)
        os.environ.update(sandbox.client_environment())
        os.environ["RUNBOOK_SERVICES"] = str(sandbox.state / "services")
        # Prefect reads its settings when it is imported: only now is the server's address known.
        from deployments.demo_runs import back_up_and_drill, show_newest  # noqa: PLC0415

        passed = back_up_and_drill(console)
        show_newest(console)
    except SandboxError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except PermissionError as error:
        sys.stderr.write(f"{say_denied(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped in the middle: `make demo` goes on, `make down` stops what runs.\n")
        return INTERRUPTED
    console.print(f"Prefect UI    {sandbox.endpoints.prefect_ui}", soft_wrap=True)
    console.print(f"  log in with the line in {sandbox.vault.path('prefect-auth')}", soft_wrap=True)
    console.print(f"Alerts        {sandbox.endpoints.receiver}, try it: make alert", soft_wrap=True)
    console.print("Everything stays up until: make down")
    return 0 if passed else 1


def _start(console: Console, sandbox: Sandbox, scale: float) -> None:
    console.rule("Two operated systems and the engine")

    def report(what: str, seconds: float) -> None:
        console.print(f"  {what:<22}{seconds:6.1f} s")

    with console.status("starting"):
        sandbox.up(scale, on_progress=report)
        write_profiles(sandbox.state, sandbox.endpoints)


if __name__ == "__main__":
    sys.exit(main())
