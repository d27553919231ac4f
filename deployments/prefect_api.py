"""Prefect's API over plain HTTP, for what must start at once: its own client takes seconds to import."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import httpx

from tasks.errors import ConfigurationError

UNKNOWN_SERVER: Final = "PREFECT_API_URL is not set: name the API of the Prefect server."
_SECONDS: Final = 10.0


class PrefectApi:
    """A connection to the server that the environment names; every request has a time limit."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read where the server is; raise ``ConfigurationError`` if nobody says."""
        url = environment.get("PREFECT_API_URL")
        if not url:
            raise ConfigurationError(UNKNOWN_SERVER)
        user, _, password = environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
        self._client = httpx.Client(
            base_url=url, auth=(user, password) if user else None, timeout=_SECONDS, follow_redirects=True
        )

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._client.close()
