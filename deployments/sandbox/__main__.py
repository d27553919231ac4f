"""`python -m deployments.sandbox up|down|status|break|mend|faults|alert|told`: the sandbox from a shell."""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deployments.sandbox.alerting import read_messages, send_alert
from deployments.sandbox.applications import INVOICE, PROPERTYPULSE
from deployments.sandbox.breakage import APPLICATIONS
from deployments.sandbox.errors import SandboxError, say_denied
from deployments.sandbox.faults import FAULTS, break_fault, find_fault
from deployments.sandbox.mending import mend
from deployments.sandbox.port_record import choose_ports
from deployments.sandbox.ports import Ports
from deployments.sandbox.stack import Sandbox

DEFAULT_STATE = Path(".sandbox")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error is one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        # What goes down is found by its processes, on whatever ports.
        ports = Ports() if options.command == "down" else choose_ports(options.state, os.environ)
        sandbox = Sandbox(options.state, ports)
        if options.command == "up":
            _up(sandbox, options.scale, with_engine=not options.without_engine)
        elif options.command == "down":
            _down(sandbox)
        elif options.command == "break":
            _break(sandbox, options.fault, options.service)
        elif options.command == "mend":
            _mend(sandbox)
        elif options.command == "faults":
            _faults()
        elif options.command == "alert":
            _say(send_alert(sandbox, options.service))
        elif options.command == "told":
            _say(read_messages(sandbox))
        else:
            return _status(sandbox)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except PermissionError as error:
        print(say_denied(error), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deployments.sandbox",
        description="The two operated systems in small, made of real servers, and the Prefect engine.",
        epilog="`up` takes other ports by SANDBOX_PORT_MONGODB, SANDBOX_PORT_PREFECT and so on.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--state", type=Path, default=DEFAULT_STATE, help="folder of its data (%(default)s)")
    up = commands.add_parser("up", parents=[place], help="start what does not run")
    up.add_argument("--scale", type=float, default=1, help="size of the made-up data (%(default)s)")
    up.add_argument("--without-engine", action="store_true", help="no Prefect server and worker")
    commands.add_parser("down", parents=[place], help="stop everything")
    commands.add_parser("status", parents=[place], help="say what runs")
    breaking = commands.add_parser("break", parents=[place], help="break an application by real means")
    breaking.add_argument("fault", metavar="FAULT", help="see `faults`")
    breaking.add_argument("--service", choices=APPLICATIONS, help="the first that can have it, by default")
    commands.add_parser("mend", parents=[place], help="undo everything that was broken")
    commands.add_parser("faults", parents=[place], help="list what can be broken")
    alert = commands.add_parser("alert", parents=[place], help="send the alert that an application is down")
    alert.add_argument("--service", choices=APPLICATIONS, default="invoice", help="which one (%(default)s)")
    commands.add_parser("told", parents=[place], help="show the pages and mails that people were sent")
    return parser


def _up(sandbox: Sandbox, scale: float, *, with_engine: bool) -> None:
    console = Console()
    begun = time.monotonic()

    def report(what: str, seconds: float) -> None:
        console.print(f"  {what:<20} {seconds:5.1f} s", highlight=False)

    with console.status("Starting the sandbox"):
        sandbox.up(scale, with_engine=with_engine, on_progress=report)
    console.print(f"Up after {time.monotonic() - begun:.1f} s.", highlight=False)
    endpoints = sandbox.endpoints
    table = Table(show_header=False, box=None)
    table.add_row(INVOICE, endpoints.invoice_health)
    table.add_row(PROPERTYPULSE, endpoints.propertypulse_health)
    table.add_row("object store", endpoints.s3_endpoint)
    if with_engine:
        table.add_row("alerts", endpoints.receiver)
        table.add_row("Prefect UI", endpoints.prefect_ui)
        table.add_row("Prefect login", f"see {sandbox.vault.path('prefect-auth')}")
    console.print(table)


def _down(sandbox: Sandbox) -> None:
    # Whoever removed the folder of what runs did not end it.
    if not sandbox.state.exists() and not sandbox.supervisor.marked():
        print(f"Nothing to stop: there is no {sandbox.state}.")
        return
    with Console().status("Stopping the sandbox"):
        sandbox.down()
    print("Down; no process of it remains.")


def _break(sandbox: Sandbox, fault: str, service: str | None) -> None:
    if not sandbox.supervisor.state.exists():
        raise SandboxError(f"There is no sandbox in {sandbox.state}: start it first.")
    with sandbox.supervisor.locked():
        service = break_fault(sandbox, fault, service)
    print(f"{service} is broken: {find_fault(fault).what} `mend` undoes it.")


def _mend(sandbox: Sandbox) -> None:
    if not sandbox.supervisor.state.exists():
        raise SandboxError(f"There is no sandbox in {sandbox.state}: nothing to mend.")
    with sandbox.supervisor.locked():
        mended = mend(sandbox)
    print(f"Mended: {', '.join(mended) or 'nothing was broken'}. Both applications are well.")


def _faults() -> None:
    table = Table("fault", "what is wrong then", "services", box=None)
    for fault in FAULTS:
        table.add_row(fault.name, fault.what, ", ".join(fault.services))
    Console().print(table)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _status(sandbox: Sandbox) -> int:
    """Print a line for every part; the exit code is 3 when one of them is not well, as systemctl has it."""
    states = sandbox.status() if sandbox.state.exists() else {}
    for name, well in states.items():
        print(f"{name:<20} {'up' if well else 'down'}")
    if not states:
        print(f"There is no sandbox in {sandbox.state}.")
    return 0 if states and all(states.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
