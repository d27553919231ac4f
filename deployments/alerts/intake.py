"""What every post goes through: it is read within the limits, and is on the disk before its answer."""

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from deployments.alerts.authentication import TokenBuckets
from deployments.alerts.configuration import Configured
from deployments.alerts.dispatcher import Dispatcher
from deployments.alerts.measures import Measures
from deployments.alerts.refusals import Refusal
from deployments.alerts.store import Store
from tasks.errors import UnreachableError

_WRITING_SECONDS = 10.0
_Done = TypeVar("_Done")


@dataclass(frozen=True)
class Parts:
    """What the paths work on."""

    configured: Configured
    store: Store
    dispatcher: Dispatcher
    measures: Measures
    buckets: TokenBuckets


async def read_body(request: Request, configured: Configured) -> bytes:
    """Read what was posted, no more and no longer than the limits say."""
    limits = configured.receiver.limits
    too_large = Refusal(413, "oversized", f"The post has more than {limits.body_bytes} bytes.")
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > limits.body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.post_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, "slow", f"The post took longer than {limits.post_seconds:g} s.") from None
    return bytes(body)


async def written(future: "Future[_Done]") -> _Done:
    """Wait for the store's writer; raise ``UnreachableError`` if it does not come to it."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), _WRITING_SECONDS)
    except TimeoutError:
        raise UnreachableError(f"The disk did not take it within {_WRITING_SECONDS:g} s.") from None
