"""A secret that a person leaves for a run, in a private file or a Prefect Secret block; the run wipes it.

It never comes by the run's form: Prefect stores what is written there in clear.
"""

import os
from pathlib import Path

import httpx
from prefect.blocks.system import Secret

from tasks.credentials import resolve
from tasks.errors import ConfigurationError, UnreachableError
from tasks.host_errors import naming_file
from tasks.host_folder import sync_folder
from tasks.rotation_files import wipe_file


def find_handed_over(reference: str) -> str | None:
    """Given ``file:/path`` or ``block:name``, return the secret that lies there, or None if none does.

    Raise ``AccessDeniedError`` if it is unreadable for us or readable for others.
    """
    try:
        return resolve(reference)
    except ConfigurationError:
        return None


def wipe_handed_over(reference: str) -> None:
    """Given where a secret was left, overwrite and remove it; none there is no error."""
    kind, _, name = reference.partition(":")
    if kind == "file":
        with naming_file(Path(name)):
            wipe_file(Path(name))
    elif find_handed_over(reference) is not None:
        _save_block(name, "")


def leave_again(reference: str, value: str) -> None:
    """Given where a secret was left, put it back there, unless there is another by now."""
    if find_handed_over(reference) is not None:
        return
    kind, _, name = reference.partition(":")
    if kind == "block":
        _save_block(name, value)
        return
    path = Path(name)
    with naming_file(path):
        wipe_file(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)


def _save_block(name: str, value: str) -> None:
    try:
        Secret(value=value).save(name, overwrite=True)
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"The Prefect server that has the Secret block '{name}' does not answer ({type(error).__name__})."
        ) from None
