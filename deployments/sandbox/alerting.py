"""An alert as the demo shows it: it comes in as Prometheus would send it, and what people are then sent."""

from collections.abc import Iterator
from typing import Final

from deployments.alerts.configuration import read_configuration
from deployments.alerts.prefect_runs import PrefectRuns
from deployments.alerts.trial import Trial, follow_test_alert
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.stack import Sandbox
from tasks.errors import RunbookError

_LONGEST_RUN_SECONDS: Final = 300


def send_alert(sandbox: Sandbox, service: str) -> Iterator[str]:
    """Yield a line for each thing that becomes of the alert that a service is down.

    Raises:
        SandboxError: the receiver does not run, or the alert started no run.
    """
    if not sandbox.receiver.is_running():
        raise SandboxError("There is nobody to take the alert: `make demo` starts receiver and engine.")
    trial = Trial(
        source="alertmanager",
        url=sandbox.receiver.url,
        labels={"alertname": "ServiceDown", "service": service},
        sample=None,
        seconds=_LONGEST_RUN_SECONDS,
    )
    try:
        configured = read_configuration(sandbox.receiver.configuration)
        with PrefectRuns(sandbox.client_environment()) as runs:
            yield from follow_test_alert(configured, runs, trial)
    except RunbookError as error:
        raise SandboxError(str(error)) from error


def read_messages(sandbox: Sandbox) -> Iterator[str]:
    """Yield what people were sent since the doubles started: first the pages, then the mails.

    Raises:
        SandboxError: the doubles do not run.
    """
    if not sandbox.vendors.is_running():
        raise SandboxError(
            "Nobody keeps what people are sent: the doubles do not run. `make demo` starts them."
        )
    for page in sandbox.vendors.read_kept("pager"):
        yield f"Page: {page['title']}\n{page['message']}"
    for mail in sandbox.vendors.read_kept("sendgrid"):
        people = ", ".join(to["email"] for told in mail["personalizations"] for to in told["to"])
        texts = "\n".join(part["value"] for part in mail["content"] if part["type"] == "text/plain")
        yield f"Mail to {people}: {mail['subject']}\n{texts}"
