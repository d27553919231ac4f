"""``python -m deployments.alerts``: serve, send a test alert, or list what came in.

The configuration is ``deployments/alerts/alerts.yaml``, or what ``RUNBOOK_ALERTS`` names; Prefect's server is
that of ``PREFECT_API_URL`` and ``PREFECT_API_AUTH_STRING``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deployments.alerts.configuration import configuration_path, read_configuration, read_receiver
from deployments.alerts.overview import render_overview
from deployments.alerts.prefect_runs import PrefectRuns
from deployments.alerts.serving import serve
from deployments.alerts.store import opened_to_read
from deployments.alerts.trial import Trial, follow_test_alert
from tasks.errors import RunbookError


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; an error is one sentence on standard error and exit code 1."""
    options = _parse(words)
    try:
        if options.command == "serve":
            serve(read_configuration(configuration_path()))
        elif options.command == "list":
            state = read_receiver(configuration_path()).state_directory
            with opened_to_read(state / "alerts.sqlite") as rows:
                sys.stdout.write(render_overview(rows, labels=True))
        else:
            _try(options)
    except (RunbookError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _try(options: argparse.Namespace) -> None:
    configured = read_configuration(configuration_path())
    listen = configured.receiver.listen
    labels = dict(label.partition("=")[::2] for label in options.label)
    trial = Trial(
        source=options.source,
        url=options.url or f"http://{listen.host}:{listen.port}",
        labels={"alertname": "receiver-test", **labels},
        sample=options.sample,
        seconds=options.seconds,
    )
    with PrefectRuns() as runs:
        for line in follow_test_alert(configured, runs, trial):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deployments.alerts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="receive alerts and start runs, until stopped")
    commands.add_parser("list", help="show what waits, is unmapped, was refused or started, with labels")
    test = commands.add_parser("test", help="send a test alert and follow it to its run's state")
    test.add_argument("--source", required=True, help="as which source of the configuration")
    test.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="one more label")
    test.add_argument("--sample", type=Path, help="a file to post instead, for a source with a mapping file")
    test.add_argument("--url", help="where the receiver is, if not where the configuration says")
    test.add_argument("--seconds", type=float, default=120, help="how long to wait for the run's end")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
