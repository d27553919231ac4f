"""Read a post as alerts: Alertmanager's and Grafana's own JSON, or any other by a mapping file."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from deployments.alerts.configuration import GenericMapping
from deployments.alerts.incoming import Alert
from deployments.alerts.json_paths import find, find_text
from deployments.alerts.refusals import Refusal

# Beyond this a number of seconds is one of milliseconds.
_MOST_SECONDS = 100_000_000_000
_SUMMARIES = ("summary", "description", "message")


class _Posted(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _PostedAlert(_Posted):
    status: Literal["firing", "resolved"]
    fingerprint: str = Field(min_length=1, max_length=200)
    startsAt: datetime  # noqa: N815  Alertmanager's word
    labels: dict[str, str]
    annotations: dict[str, str] = {}


class _Post(_Posted):
    alerts: tuple[_PostedAlert, ...] = Field(min_length=1)


def read_alertmanager(body: bytes) -> tuple[Alert, ...]:
    """Given a post of Alertmanager or Grafana, return its alerts; raise ``Refusal`` if it is none."""
    try:
        post = _Post.model_validate_json(body)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        raise _malformed(".".join(map(str, detail["loc"])) or "the body", detail["msg"]) from None
    return tuple(
        Alert(
            fingerprint=posted.fingerprint,
            starts_at=_in_utc(posted.startsAt),
            is_firing=posted.status == "firing",
            labels=posted.labels,
            summary=next((posted.annotations[name] for name in _SUMMARIES if name in posted.annotations), ""),
        )
        for posted in post.alerts
    )


def read_generic(body: bytes, name: str, mapping: GenericMapping, now: datetime) -> tuple[Alert, ...]:
    """Given any JSON and its mapping, return its alerts; raise ``Refusal`` if it lacks what is needed.

    What is neither firing nor resolved is left out.
    """
    try:
        document: JsonValue = from_json(body)
    except ValueError as error:
        raise _malformed("the body", str(error)) from None
    found = find(document, mapping.alerts) if mapping.alerts else [document]
    if not isinstance(found, list):
        raise _malformed(mapping.alerts or "$", "there is no list")
    return tuple(alert for item in found for alert in _read_item(item, name, mapping, now))


def _read_item(item: JsonValue, name: str, mapping: GenericMapping, now: datetime) -> Iterator[Alert]:
    status = find(item, mapping.status.path)
    if status is None:
        raise _malformed(mapping.status.path, "there is no such field")
    is_firing = _is_one_of(status, mapping.status.firing)
    if not is_firing and not _is_one_of(status, mapping.status.resolved):
        return
    fingerprint = find_text(item, mapping.fingerprint)
    if not fingerprint:
        raise _malformed(" or ".join(mapping.fingerprint), "there is no such field")
    times: Iterator[JsonValue] = (find(item, path) for path in mapping.starts_at)
    began = next((moment for moment in times if moment is not None), None)
    yield Alert(
        # Other senders count from one as well.
        fingerprint=f"{name}:{fingerprint}",
        starts_at=now if began is None else _read_time(began, " or ".join(mapping.starts_at)),
        is_firing=is_firing,
        labels=dict(_read_labels(item, mapping)),
        summary=find_text(item, mapping.summary),
        over_after=mapping.over_after,
    )


def _is_one_of(status: JsonValue, values: tuple[str | int | bool, ...]) -> bool:
    """Tell whether it is there with the same type: to Python 1 is true."""
    return any(type(status) is type(value) and status == value for value in values)


def _read_labels(item: JsonValue, mapping: GenericMapping) -> Iterator[tuple[str, str]]:
    every = find(item, mapping.all_labels) if mapping.all_labels else None
    if isinstance(every, dict):
        for name in every:
            if text := find_text(every, (f"$.{name}",)):
                yield name, text
    for name, wanted in mapping.labels.items():
        text = find_text(item, (wanted,)) if wanted.startswith("$") else wanted
        if text:
            yield name, text


def _read_time(value: JsonValue, where: str) -> datetime:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > _MOST_SECONDS else value, UTC)
        return _in_utc(datetime.fromisoformat(str(value)))
    except (ValueError, OverflowError, OSError):
        raise _malformed(where, "that is no time: give ISO 8601 or Unix seconds") from None


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise _malformed("startsAt", "that is no time of this calendar") from None


def _malformed(where: str, what: str) -> Refusal:
    return Refusal(422, "malformed", f"The post cannot be read at {where}: {what}.")
