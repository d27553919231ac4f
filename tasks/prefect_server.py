"""One way to ask the Prefect server: within a limit, and with its errors as ours."""

from collections.abc import Generator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException

from tasks.errors import UnreachableError

_SECONDS = 10.0


@contextmanager
def asking_prefect() -> Generator[SyncPrefectClient]:
    """Yield a client; raise ``UnreachableError`` if the server does not take what is asked of it."""
    try:
        with get_client(sync_client=True, httpx_settings={"timeout": _SECONDS}) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        raise UnreachableError(
            f"The Prefect server did not take what was asked of it ({type(error).__name__}): see its log."
        ) from None
