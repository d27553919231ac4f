"""Turn a reference into the secret that it names, inside the task that needs it and nowhere else."""

from pathlib import Path

import httpx
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL

from tasks.errors import ConfigurationError, UnreachableError
from tasks.local_secrets import read_secret_file, read_variable


def resolve(reference: str) -> str:
    """Given ``env:NAME``, ``file:/path`` or ``block:name``, return the secret that it names.

    Raise ``ConfigurationError`` if it names nothing, and ``AccessDeniedError`` if a file is unreadable for us
    or readable for others.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        return read_variable(name)
    if kind == "file":
        return read_secret_file(Path(name))
    if kind == "block":
        return _from_block(name)
    raise ConfigurationError(
        # It may be the secret itself, put in the reference's place: it is not repeated here.
        "That is no reference to a secret: write env:NAME, file:/path or block:name."
    )


def _from_block(name: str) -> str:
    if not PREFECT_API_URL.value():
        # Prefect would start an empty server of its own, and leave it running.
        raise ConfigurationError(
            f"The Prefect Secret block '{name}' is in a Prefect server: set PREFECT_API_URL, or refer to it "
            "as file: or env:."
        )
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
