"""npm's packages for the sandbox: PM2, and what the two applications need."""

import fcntl
import hashlib
import os
import subprocess

from deployments.sandbox import programs
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.node import FOLDER, PACKAGES
from deployments.sandbox.supervisor import SYSTEM_PATH, Supervisor

TOOLS = FOLDER.parents[1] / ".tools"  # git-ignored, inside the checkout
STAMP = PACKAGES / ".installed-from"
INSTALL_SECONDS = 300


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
