"""The receiver's paths. A post is answered with 202 only when everything in it is on the disk."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from deployments.alerts.acknowledging import acknowledging
from deployments.alerts.authentication import (
    Authenticated,
    authenticate,
    demand_credentials,
)
from deployments.alerts.folding import keep
from deployments.alerts.incoming import Alert, Delivery, Kept
from deployments.alerts.intake import Parts, read_body, written
from deployments.alerts.mapping import decide
from deployments.alerts.overview import render_overview
from deployments.alerts.payloads import read_alertmanager, read_generic
from deployments.alerts.refusals import Refusal
from tasks.errors import UnreachableError

_UNKNOWN = "unknown"
_NOSNIFF = {"X-Content-Type-Options": "nosniff"}


def build_application(parts: Parts) -> Starlette:
    """Return the application; the dispatcher and the store live as long as it does."""

    @asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        parts.dispatcher.start()
        yield
        await asyncio.to_thread(parts.dispatcher.stop)
        await asyncio.to_thread(parts.store.close)

    async def receive(request: Request) -> Response:
        return await _receive(parts, request)

    def overview(_: Request) -> Response:
        with parts.store.reading() as rows:
            text = render_overview(rows, parts.measures.prefect_trouble)
        return PlainTextResponse(text, headers=_NOSNIFF)

    def metrics(_: Request) -> Response:
        with parts.store.reading() as rows:
            text = parts.measures.render(rows, parts.store.commits, time.time())
        return PlainTextResponse(text, headers=_NOSNIFF)

    async def health(_: Request) -> Response:
        return await _health(parts)

    return Starlette(
        routes=[
            Route("/alertmanager", receive, methods=["POST"]),
            Route("/grafana", receive, methods=["POST"]),
            Route("/generic/{mapping}", receive, methods=["POST"]),
            *acknowledging(parts),
            Route("/", overview),
            Route("/metrics", metrics),
            Route("/health", health),
        ],
        exception_handlers={UnreachableError: _unavailable},
        lifespan=living,
    )


async def _receive(parts: Parts, request: Request) -> Response:
    path = request.url.path.strip("/")
    source = _UNKNOWN
    try:
        demand_credentials(parts.configured, request.headers)
        body = await read_body(request, parts.configured)
        sender = authenticate(parts.configured, path, request.headers, body, time.time())
        source = sender.source.name
        parts.buckets.take(source, time.monotonic())
        alerts = _read_alerts(parts, request, body)
        kept = await _keep(parts, sender, alerts)
    except Refusal as refusal:
        parts.measures.count_post(source, refusal.outcome)
        # The rest of what was cut is not waited for.
        headers = {"Connection": "close"} if refusal.status in {408, 413} else None
        return JSONResponse({"error": str(refusal)}, refusal.status, headers)
    except UnreachableError as error:
        parts.measures.count_post(source, "unavailable")
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "5"})
    except ClientDisconnect:
        parts.measures.count_post(source, "disconnected")
        return Response(status_code=400)
    parts.measures.count_post(source, "accepted")
    for alert in kept:
        parts.measures.count_alert("repeat" if alert.is_repeat else "new")
    parts.dispatcher.wake()
    answer = [
        {
            "key": alert.key,
            "alert": alert.name,
            "state": alert.state,
            "repeat": alert.is_repeat,
            "reason": alert.reason,
        }
        for alert in kept
    ]
    return JSONResponse({"alerts": answer}, 202)


def _read_alerts(parts: Parts, request: Request, body: bytes) -> tuple[Alert, ...]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "malformed", "The post is no application/json.")
    name = request.path_params.get("mapping")
    if name is None:
        return read_alertmanager(body)
    return read_generic(body, name, parts.configured.mappings[name], datetime.now(UTC))


async def _keep(parts: Parts, sender: Authenticated, alerts: tuple[Alert, ...]) -> tuple[Kept, ...]:
    routes = parts.configured.receiver.routes
    delivery = Delivery(
        source=sender.source.name,
        alerts=tuple((alert, decide(alert, routes)) for alert in alerts),
        signature=sender.signature,
        signature_expires=sender.expires,
    )
    now = time.time()
    return await written(parts.store.submit(lambda rows: keep(rows, delivery, now)))


async def _health(parts: Parts) -> Response:
    """Answer 200 only if a post would be kept now: it writes and syncs."""
    now = time.time()
    await written(
        parts.store.submit(
            lambda rows: rows.execute("INSERT OR REPLACE INTO pulse VALUES (0, ?)", (now,)).rowcount
        )
    )
    trouble = parts.measures.prefect_trouble
    return JSONResponse({"store": "kept", "prefect": trouble or "no trouble"})


async def _unavailable(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503)
