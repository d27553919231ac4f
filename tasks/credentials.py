"""Turn a reference into the secret that it names, inside the task that needs it and nowhere else."""

import os
import re
import stat
from pathlib import Path

import httpx
from prefect.blocks.system import Secret

from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def resolve(reference: str) -> str:
    """Given ``env:NAME``, ``file:/path`` or ``block:name``, return the secret that it names.

    Raise ``ConfigurationError`` if it names nothing, and ``AccessDeniedError`` if a file is unreadable for us
    or readable for others.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        return _from_environment(name)
    if kind == "file":
        return _from_file(Path(name))
    if kind == "block":
        return _from_block(name)
    raise ConfigurationError(
        # It may be the secret itself, put in the reference's place: it is not repeated here.
        "That is no reference to a secret: write env:NAME, file:/path or block:name."
    )


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value and _VARIABLE.fullmatch(name) is None:
        # It may be the secret itself, put in the variable's place: it is not repeated here.
        raise ConfigurationError(
            "That reference names no environment variable: write env: and the variable's name in capitals."
        )
    if not value:
        raise ConfigurationError(f"The environment variable {name} is not set: set it for the worker.")
    return value


def _from_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        value = path.read_text(encoding="utf-8").strip()
    except (IsADirectoryError, UnicodeDecodeError):
        # Not from the decoding error: it carries the content along.
        raise ConfigurationError(f"The secret file {path} is no text file: correct the reference.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(f"The secret file {path} does not exist: create it, mode 600.") from None
    except PermissionError:
        raise AccessDeniedError(
            f"The secret file {path} cannot be read by the worker: make the worker's user its owner."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AccessDeniedError(f"The secret file {path} is open to others: run chmod 600 on it.")
    if not value:
        raise ConfigurationError(f"The secret file {path} is empty: put the secret into it.")
    return value


def _from_block(name: str) -> str:
    try:
        block = Secret.load(name)
    except ValueError:
        raise ConfigurationError(
            f"There is no Prefect Secret block '{name}': create it in the UI under Blocks."
        ) from None
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"The Prefect server that has the Secret block '{name}' does not answer "
            f"({type(error).__name__}): see PREFECT_API_URL."
        ) from None
    value = str(block.get())  # type: ignore[union-attr]  # a sync flow never sees the coroutine
    if not value:
        raise ConfigurationError(f"The Prefect Secret block '{name}' is empty: put the secret into it.")
    return value
