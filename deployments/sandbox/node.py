"""Node.js for the sandbox: npm's packages, and PM2 with the two applications under it."""

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deployments.sandbox import programs
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.supervisor import SYSTEM_PATH, Supervisor, family, kill_all, living

FOLDER = Path(__file__).parent
PACKAGES = FOLDER / "node_modules"
TOOLS = FOLDER.parents[1] / ".tools"  # git-ignored, inside the checkout
STAMP = PACKAGES / ".installed-from"
INSTALL_SECONDS = 300
COMMAND_SECONDS = 30
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


def install_packages(supervisor: Supervisor) -> None:
    """Install what `package-lock.json` says, unless exactly that is installed.

    Several sandboxes share the packages, so a file lock makes them wait for one another.

    Raises:
        SandboxError: npm failed; carries the end of its log.
    """
    wanted = _fingerprint()
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "npm.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.exists() and STAMP.read_text(encoding="ascii") == wanted:
            return
        arguments = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _npm(supervisor, arguments)
        STAMP.write_text(wanted, encoding="ascii")


def _npm(supervisor: Supervisor, arguments: list[str]) -> None:
    log = supervisor.log("npm")
    log.parent.mkdir(parents=True, exist_ok=True)
    # The caller's environment goes along: proxies, certificates and registries are configured there.
    inherited = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"}
    environment = {
        **supervisor.environment(),
        **inherited,
        "PATH": f"{programs.node().parent}:{SYSTEM_PATH}",
        "npm_config_cache": str(TOOLS / "npm-cache"),
    }
    environment |= supervisor.marker
    with log.open("wb") as output:
        try:
            finished = subprocess.run(
                [str(programs.node()), str(programs.npm_cli()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=FOLDER,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"npm did not finish within {INSTALL_SECONDS} s; see {log}.") from error
    if finished.returncode != 0:
        raise SandboxError(f"npm could not install the applications' packages. {supervisor.log_tail('npm')}")


def _fingerprint() -> str:
    content = (FOLDER / "package-lock.json").read_bytes() + str(programs.node()).encode()
    return hashlib.sha256(content).hexdigest()


class PM2:
    """PM2's daemon and the applications that it runs."""

    name = "pm2"

    def __init__(self, supervisor: Supervisor, applications: list[ApplicationProcess]) -> None:
        """Take what to run; nothing starts here."""
        self._supervisor = supervisor
        self._applications = applications
        self.home = supervisor.state / "pm2"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which PM2's command finds this sandbox's daemon."""
        return self._supervisor.environment(
            {
                "PATH": f"{programs.node().parent}:{SYSTEM_PATH}",
                "PM2_HOME": str(self.home),
                "PM2_DISABLE_VERSION_CHECK": "true",
                "PM2_DISCRETE_MODE": "true",
                "NO_COLOR": "1",
            }
        )

    @property
    def command(self) -> list[str]:
        """Return the words that stand for `pm2`."""
        return [str(programs.node()), str(PACKAGES / "pm2" / "bin" / "pm2")]

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
        if daemon is None:
            return
        tree = family(daemon)
        with contextlib.suppress(SandboxError):  # a daemon that does not listen is killed below
            self.run("kill")
        kill_all([process for process in tree if living(process.pid) is not None])

    def kill(self) -> None:
        """Take the daemon and the applications away with SIGKILL."""
        daemon = self.daemon()
        if daemon is not None:
            kill_all(family(daemon))

    def restart(self, name: str) -> None:
        """Restart one application; rc 0 does not mean that it stays up: ask `statuses` afterwards."""
        self.run("restart", name)

    def statuses(self) -> dict[str, list[str]]:
        """Return PM2's status word of every instance of every application."""
        listing: list[dict[str, Any]] = json.loads(self.run("jlist") or "[]")
        found: dict[str, list[str]] = {}
        for entry in listing:
            found.setdefault(str(entry["name"]), []).append(str(entry["pm2_env"]["status"]))
        return found

    def run(self, *arguments: str) -> str:
        """Run a PM2 command and return what it printed.

        Raises:
            SandboxError: it failed or took longer than half a minute.
        """
        try:
            finished = subprocess.run(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=self.environment,
                cwd="/",
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"pm2 {arguments[0]} did not finish in {COMMAND_SECONDS} s.") from error
        if finished.returncode != 0:
            raise SandboxError(f"pm2 {arguments[0]} failed: {(finished.stderr or finished.stdout).strip()}")
        return finished.stdout

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
            "kill_timeout": 3000,
            "max_restarts": 5,
            # On a busy machine a start that fails takes longer than PM2's one second.
            "min_uptime": 5000,
            "merge_logs": True,
            # Without it no line of PM2's logs has a time.
            "log_date_format": "YYYY-MM-DD HH:mm:ss.SSS Z",
            "log_file": str(application.folder / application.combined_log),
            "env": {"NODE_ENV": "production"},
        }
