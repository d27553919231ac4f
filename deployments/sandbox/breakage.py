"""Breaking one application of the sandbox by real means, with a journal of how to mend it.

What undoes an act is written down before the act, in the state folder: `mend` works from another shell, after
a crash, and twice.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable

import httpx
import psutil

from deployments.sandbox.applications import INVOICE, PROPERTYPULSE
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.fault_journal import FaultJournal
from deployments.sandbox.node import PM2
from deployments.sandbox.stack import Sandbox

VISIBLE_SECONDS = 40
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 1.0
APPLICATIONS = {"invoice": INVOICE, "propertypulse": PROPERTYPULSE}


def require_running(sandbox: Sandbox, journal: FaultJournal) -> None:
    """Raise SandboxError unless everything runs that the applications need and no fault took away."""
    taken = {words[0] for entry in journal.read() for verb, *words in entry["undo"] if verb == "start"}
    parts = [part for part in sandbox.operated_parts if part.name not in taken]
    if gone := [part.name for part in parts if not part.is_running()]:
        raise SandboxError(
            f"Of the sandbox in {sandbox.state}, {', '.join(gone)} do not run: `make demo` first."
        )


class Breakage:
    """One application that is about to be broken, and the means to do it."""

    def __init__(self, sandbox: Sandbox, service: str, journal: FaultJournal) -> None:
        """Take whose application it is; nothing happens here."""
        self.sandbox = sandbox
        self.service = service
        self.application = APPLICATIONS[service]
        self.folder = sandbox.applications.folder / self.application
        self.is_invoice = service == "invoice"
        self.port = getattr(sandbox.ports, service)
        self.health_url = f"http://127.0.0.1:{self.port}/health"
        self._journal = journal

    @property
    def pm2(self) -> PM2:
        """Return what runs the application."""
        return self.sandbox.pm2

    @property
    def entry(self) -> str:
        """Return the file that PM2 starts."""
        return "server.js" if self.is_invoice else "src/server.js"

    def undo(self, verb: str, *words: object) -> None:
        """Write down what undoes the next act."""
        self._journal.add([verb, *words])

    def withdraw(self) -> None:
        """Forget this fault: it was refused, and nothing was done."""
        self._journal.withdraw()

    def write(self, name: str, text: str) -> None:
        """Put another text in place of a file of the application."""
        file = self.folder / name
        self._journal.copies.mkdir(exist_ok=True, mode=0o700)
        copy = self._journal.copies / f"{time.time_ns()}"
        shutil.copy2(file, copy)
        self.undo("restore", str(copy), str(file))
        mode = file.stat().st_mode
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def read(self, name: str) -> str:
        """Return the text of a file of the application."""
        return (self.folder / name).read_text(encoding="utf-8")

    def set(self, variable: str, value: str | None) -> None:
        """Give a variable of the `.env` another value, or take it away."""
        line = "" if value is None else f"{variable}={value}"
        text = re.sub(rf"^{variable}=.*$", lambda _: line, self.read(".env"), flags=re.MULTILINE)
        self.write(".env", text)

    def setting(self, variable: str) -> str:
        """Return what a variable of the `.env` says."""
        return self.sandbox.applications.setting(self.application, variable)

    def take_down(self) -> None:
        """End the application and let PM2 forget it, until `start`."""
        self.undo("restart")
        self.pm2.delete(self.application)

    def start(self, **settings: object) -> None:
        """Start the application after `take_down`; that it does not come up is no error here."""
        self.pm2.start_one(self.application, **settings)

    def restart(self, **settings: object) -> None:
        """Start the application anew, with what is deployed now."""
        self.take_down()
        self.start(**settings)

    def helper(self, what: str, *words: str | int, **environment: str) -> None:
        """Start a process that does harm as long as it lives, and wait until it says that it does."""
        name = f"fault-{self.service}-{what}"
        self.undo("kill", name)
        supervisor = self.sandbox.supervisor
        supervisor.log(name).unlink(missing_ok=True)
        module = ["-m", "deployments.sandbox.fault_helpers", what, *map(str, words)]
        supervisor.spawn(name, [sys.executable, *module], environment=environment, folder=self.folder)
        supervisor.wait_until(name, lambda: self._silence(name), seconds=VISIBLE_SECONDS)

    def _silence(self, name: str) -> str | None:
        said = self.sandbox.supervisor.log(name).read_text(encoding="utf-8", errors="replace")
        return None if "ready" in said else "it is not ready"

    def processes(self) -> list[psutil.Process]:
        """Return the application's processes."""
        return self.pm2.processes(self.application)

    def wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something is to be seen.

        Raises:
            SandboxError: it is not after a while: the fault did not harm.
        """
        deadline = time.monotonic() + VISIBLE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.application} was broken, but {what} is not to be seen.")
            time.sleep(POLL_SECONDS)

    def wait_until_unhealthy(self) -> None:
        """Wait until the application does not answer that it is well."""
        self.wait_until("bad health", lambda: not is_well(self.health_url))

    def wait_until_errored(self) -> None:
        """Wait until PM2 has given every instance of the application up."""
        all_of_it = ["errored"] * self.pm2.instances(self.application)
        self.wait_until("that PM2 gave up", lambda: self.pm2.statuses().get(self.application) == all_of_it)


def is_well(url: str) -> bool:
    """Tell whether a health URL answers soon that all is well."""
    try:
        answer = httpx.get(url, timeout=PATIENCE_SECONDS)
        return answer.is_success and answer.json().get("status") == "OK"
    except (httpx.HTTPError, ValueError):
        return False
