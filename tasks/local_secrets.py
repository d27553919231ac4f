"""Secrets that this host keeps, in a variable or a private file; without Prefect, which takes seconds."""

import os
import re
import stat
from pathlib import Path

from tasks.errors import AccessDeniedError, ConfigurationError

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def read_variable(name: str) -> str:
    """Given a variable's name, return its value; raise ``ConfigurationError`` if it is not set."""
    value = os.environ.get(name)
    if not value and _VARIABLE.fullmatch(name) is None:
        # It may be the secret itself, put in the variable's place: it is not repeated here.
        raise ConfigurationError(
            "That reference names no environment variable: write env: and the variable's name in capitals."
        )
    if not value:
        raise ConfigurationError(f"The environment variable {name} is not set: set it where this runs.")
    return value


def read_secret_file(path: Path) -> str:
    """Given a file, return the secret in it, without the white space around it.

    Raise ``ConfigurationError`` if there is none, ``AccessDeniedError`` if we cannot read it or others can.
    """
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
            f"The secret file {path} cannot be read: make the user that this runs as its owner."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AccessDeniedError(f"The secret file {path} is open to others: run chmod 600 on it.")
    if not value:
        raise ConfigurationError(f"The secret file {path} is empty: put the secret into it.")
    return value
