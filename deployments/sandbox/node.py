"""PM2 in the sandbox, with the two applications under it."""

import contextlib
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deployments.sandbox import programs, without_override
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.pm2_orders import PM2Orders
from deployments.sandbox.supervisor import SYSTEM_PATH, Supervisor, family, kill_all, living

FOLDER = Path(__file__).parent
PACKAGES = FOLDER / "node_modules"
READY_MILLISECONDS = 10_000


@dataclass(frozen=True)
class ApplicationProcess:
    """How PM2 runs one application."""

    name: str
    folder: Path
    script: str
    combined_log: str
    instances: int = 1
    cluster: bool = False


class PM2:
    """PM2's daemon and the applications that it runs."""

    name = "pm2"

    def __init__(self, supervisor: Supervisor, applications: list[ApplicationProcess]) -> None:
        """Take what to run; nothing starts here."""
        self._supervisor = supervisor
        self._applications = applications
        self.home = supervisor.state / "pm2"
        self._orders = PM2Orders()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which PM2's command finds this sandbox's daemon."""
        return self._supervisor.environment(
            {
                "PATH": f"{programs.node().parent}:{SYSTEM_PATH}",
                "PM2_HOME": str(self.home),
                # Every command and every start of an application parses the same files.
                "NODE_COMPILE_CACHE": str(self._supervisor.state / "compiled"),
                "PM2_DISABLE_VERSION_CHECK": "true",
                "PM2_DISCRETE_MODE": "true",
                "NO_COLOR": "1",
            }
        )

    @property
    def command(self) -> list[str]:
        """Return the words that stand for `pm2`; file modes bind what it runs, whoever the user is."""
        return [*self._bound_node, str(PACKAGES / "pm2" / "bin" / "pm2")]

    @property
    def _bound_node(self) -> list[str]:
        return [sys.executable, "-I", "-S", without_override.__file__, str(programs.node())]

    @property
    def program(self) -> Path:
        """Return the one program that is this sandbox's `pm2`, whoever calls it."""
        return self._supervisor.state / "bin" / "pm2"

    def daemon(self) -> psutil.Process | None:
        """Return PM2's daemon where it lives and is this sandbox's."""
        try:
            pid = int((self.home / "pm2.pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        process = living(pid)
        return process if process is not None and self._supervisor.owns(process) else None

    def is_running(self) -> bool:
        """Tell whether the daemon lives."""
        return self.daemon() is not None

    def start(self) -> None:
        """Start the daemon and every application that is not online.

        Raises:
            SandboxError: PM2 refuses; an application that dies is seen in its health only.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_program()
        if self.daemon() is not None and self._all_online():
            return
        self._delete_half_started()
        ecosystem = self.home / "sandbox.config.json"
        described = [self._describe(application) for application in self._applications]
        ecosystem.write_text(json.dumps({"apps": described}, indent=2), encoding="utf-8")
        self.run("start", str(ecosystem))

    def stop(self) -> None:
        """End the applications and the daemon."""
        daemon = self.daemon()
        if daemon is not None:
            tree = family(daemon)
            with contextlib.suppress(SandboxError):  # a daemon that does not listen is killed below
                self.run("kill")
            kill_all([process for process in tree if living(process.pid) is not None])
        self._orders.end()

    def kill(self) -> None:
        """Take the daemon and the applications away with SIGKILL."""
        daemon = self.daemon()
        if daemon is not None:
            kill_all(family(daemon))
        self._orders.end()

    def restart(self, name: str) -> None:
        """Restart one application; rc 0 does not mean that it stays up: ask `statuses` afterwards."""
        self.run("restart", name)

    def delete(self, name: str) -> None:
        """Let PM2 forget an application, with all that it counted; nothing of it remains or comes back."""
        before = self.processes(name)
        if self.unstable_restarts(name):
            # PM2 calls what it is starting online in the midst of its stop, and would restart it later.
            self.run("stop", name)
        try:
            self.run("delete", name)
        except SandboxError as error:
            if "not found" not in str(error):
                raise
        kill_all([process for process in before if living(process.pid) is not None])

    def start_one(self, name: str, **settings: object) -> None:
        """Start one application that PM2 does not know, with other settings of PM2's than usual."""
        (found,) = [application for application in self._applications if application.name == name]
        ecosystem = self.home / f"{name}.config.json"
        ecosystem.write_text(json.dumps({"apps": [self._describe(found) | settings]}), encoding="utf-8")
        try:
            self.run("start", str(ecosystem))
        except SandboxError as error:
            # What ended while it was being deleted PM2 may have started again after that.
            if "already exists" not in str(error):
                raise
            self.delete(name)
            self.run("start", str(ecosystem))

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of an application."""
        daemon = self.daemon()
        children = daemon.children() if daemon is not None else []
        return [process for process in children if _application_of(process) == name]

    def unstable_restarts(self, name: str) -> int:
        """Return how often PM2 started an application again that had ended soon after its start."""
        return sum(int(entry["pm2_env"].get("unstable_restarts", 0)) for entry in self._list(name))

    def instances(self, name: str) -> int:
        """Return how many instances an application has."""
        return next(found.instances for found in self._applications if found.name == name)

    def statuses(self) -> dict[str, list[str]]:
        """Return PM2's status word of every instance of every application."""
        found: dict[str, list[str]] = {}
        for entry in self._list():
            found.setdefault(str(entry["name"]), []).append(str(entry["pm2_env"]["status"]))
        return found

    def _list(self, name: str | None = None) -> list[dict[str, Any]]:
        listing: list[dict[str, Any]] = json.loads(self.run("jlist") or "[]")
        return [entry for entry in listing if name in {None, entry["name"]}]

    def run(self, *arguments: str) -> str:
        """Let PM2 carry an order out, the words that follow `pm2`, and return what it said.

        Raises:
            SandboxError: it failed or took longer than half a minute.
        """
        return self._orders.carry_out(self._bound_node, self.environment, arguments)

    def _write_program(self) -> None:
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        words = shlex.join(["env", "-i", *variables, *self.command])
        self.program.parent.mkdir(exist_ok=True)
        self.program.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
        self.program.chmod(0o700)

    def _delete_half_started(self) -> None:
        """Forget applications with too few instances: PM2 would restart those and never add the others."""
        if self.daemon() is None:
            return
        statuses = self.statuses()
        for application in self._applications:
            if 0 < len(statuses.get(application.name, [])) < application.instances:
                self.run("delete", application.name)

    def _all_online(self) -> bool:
        statuses = self.statuses()
        return all(
            statuses.get(application.name) == ["online"] * application.instances
            for application in self._applications
        )

    def _describe(self, application: ApplicationProcess) -> dict[str, object]:
        return {
            "name": application.name,
            "script": application.script,
            "cwd": str(application.folder),
            "exec_mode": "cluster" if application.cluster else "fork",
            "instances": application.instances,
            "wait_ready": True,
            "listen_timeout": READY_MILLISECONDS,
            "kill_timeout": 1500,
            "max_restarts": 3,
            # On a busy machine a start that fails takes longer than PM2's one second.
            "min_uptime": 5000,
            "merge_logs": True,
            # Without it no line of PM2's logs has a time.
            "log_date_format": "YYYY-MM-DD HH:mm:ss.SSS Z",
            "log_file": str(application.folder / application.combined_log),
            "env": {"NODE_ENV": "production"},
        }


def _application_of(process: psutil.Process) -> str | None:
    """Return which application PM2 runs in a process: it says so in the environment, in two manners."""
    try:
        environment = process.environ()
    except psutil.Error:
        return None
    of_cluster = json.loads(environment.get("pm2_env", "{}"))
    return environment.get("name") or of_cluster.get("name")
