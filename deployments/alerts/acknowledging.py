"""The link in what people were told. Opening it changes nothing, as mail scanners do; its button does."""

import html
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from deployments.alerts.folding import keep
from deployments.alerts.incoming import LINK_SOURCE, Alert, Decision, Delivery
from deployments.alerts.intake import Parts, read_body, written
from deployments.alerts.refusals import Refusal
from tasks.acknowledgement_links import PATH, check_token
from tasks.errors import AlreadyExistsError, RefusedError, UnreachableError
from tasks.records.escalation import AcknowledgementLink

_HEADERS = {
    "Cache-Control": "no-store",
    # The link is in the address.
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acknowledge</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{font: 1.25rem sans-serif; margin: 10vh auto; max-width: 30rem; padding: 0 1rem}}
button {{font: inherit; padding: 1rem 2rem; width: 100%}}</style>
{content}</html>"""


def acknowledging(parts: Parts) -> list[Route]:
    """Return the paths of the link; none where the receiver has no key for them."""
    key = parts.configured.link_key
    if key is None:
        return []

    def show(request: Request) -> Response:
        token = request.query_params.get("token", "")
        try:
            link = _check(parts, key, token)
        except Refusal as refusal:
            return _say(str(refusal), refusal.status)
        what = html.escape(f"{link.service}: escalation {link.escalation}, told to {link.contact}.")
        return _answer(
            f"<p>{what}</p><form method='post' action='{PATH}'>"
            f"<input type='hidden' name='token' value='{html.escape(token)}'>"
            "<button>I have it: tell nobody else</button></form>"
        )

    async def take(request: Request) -> Response:
        return await _take(parts, key, request)

    return [Route(PATH, show), Route(PATH, take, methods=["POST"])]


async def _take(parts: Parts, key: str, request: Request) -> Response:
    try:
        form = parse_qs((await read_body(request, parts.configured)).decode("ascii", "replace"))
        link = _check(parts, key, form.get("token", [""])[0])
        now = time.time()
        await written(parts.store.submit(lambda rows: keep(rows, make_delivery(link), now)))
    except Refusal as refusal:
        parts.measures.count_post(LINK_SOURCE, refusal.outcome)
        return _say(str(refusal), refusal.status)
    except UnreachableError as error:
        parts.measures.count_post(LINK_SOURCE, "unavailable")
        return _say(f"{error} Press the button again in a while.", 503)
    parts.measures.count_post(LINK_SOURCE, "accepted")
    parts.dispatcher.wake()
    return _say(f"Thank you, {link.contact}. It is kept; nobody else is told as soon as Prefect has it.", 202)


def make_delivery(link: AcknowledgementLink) -> Delivery:
    """Return the link as a delivery: the run's key is of the link alone, so that it is one run."""
    alert = Alert(
        fingerprint=f"acknowledgement:{link.id}",
        starts_at=link.expires.astimezone(UTC),
        is_firing=True,
        labels={"alertname": f"acknowledged by {link.contact}", "service": link.service},
        summary=f"escalation {link.escalation}",
    )
    decision = Decision(
        "received",
        service=link.service,
        runbook="acknowledge",
        parameters={"escalation": link.escalation, "who": link.contact},
    )
    # Remembered for as long as the link could be used.
    return Delivery(LINK_SOURCE, ((alert, decision),), _used(link.id), link.expires.timestamp())


def _check(parts: Parts, key: str, token: str) -> AcknowledgementLink:
    def is_used(number: str) -> bool:
        with parts.store.reading() as rows:
            found = rows.execute("SELECT 1 FROM signatures WHERE signature = ?", (_used(number),))
            return found.fetchone() is not None

    try:
        return check_token(token, key, datetime.now(UTC), is_used)
    except RefusedError as error:
        raise Refusal(403, "forbidden", str(error)) from None
    except AlreadyExistsError as error:
        raise Refusal(409, "replayed", str(error)) from None


def _used(number: str) -> str:
    return f"link:{number}"


def _say(sentence: str, status: int) -> Response:
    return _answer(f"<p>{html.escape(sentence)}</p>", status)


def _answer(content: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(content=content), status, _HEADERS)
