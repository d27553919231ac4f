"""What the receiver is told by ``alerts.yaml`` and the mapping files beside it; a wrong line is refused."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, JsonValue, model_validator

from tasks.errors import ConfigurationError
from tasks.local_secrets import read_secret_file, read_variable
from tasks.records.section import Section
from tasks.yaml_sections import read_section

CONFIGURATION_VARIABLE = "RUNBOOK_ALERTS"
_DEFAULT = Path(__file__).parent / "alerts.yaml"
_GENERIC = "generic/"

# A Prefect block would need the server that the receiver must do without.
LocalReference = Annotated[str, Field(pattern=r"^(env|file):.+$")]
# Where something stands in a JSON: $.monitor.tags.0.name
JsonPath = Annotated[str, Field(pattern=r"^\$(\.[^.\s]+)+$")]


class Signature(Section):
    """HMAC-SHA256 in hexadecimal digits over ``timestamp:body``, or over the body alone."""

    key: LocalReference = Field(description="Reference to the shared key")
    header: str = Field(default="X-Alert-Signature", description="Carries the signature")
    timestamp_header: str | None = Field(
        default="X-Alert-Timestamp",
        description="Carries Unix seconds; null for senders that sign the body alone",
    )
    window: timedelta = Field(
        default=timedelta(minutes=5),
        gt=timedelta(0),
        description="A timestamp may be so far from this host's clock (ISO 8601 duration)",
    )


class Source(Section):
    """Somebody who may send alerts, to one path, by a bearer token or a signature."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="Short name, in the list and the metrics")
    path: str = Field(
        pattern=r"^(alertmanager|grafana|generic/[a-z][a-z0-9-]*)$",
        description="Where it may post: alertmanager, grafana, or generic/<mapping file>",
    )
    bearer: LocalReference | None = Field(default=None, description="Reference to its token")
    signature: Signature | None = Field(default=None, description="How it signs what it sends")

    @model_validator(mode="after")
    def _proves_itself_in_one_way(self) -> Self:
        if (self.bearer is None) == (self.signature is None):
            raise ValueError("give either bearer or signature")
        return self


class Route(Section):
    """Which alerts start which runbook. The first route that matches is taken."""

    match: dict[str, str | tuple[str, ...]] = Field(
        min_length=1, description="Labels that the alert must have, each with its value or one of a list"
    )
    service: str = Field(min_length=1, description="The service's name, or {label}")
    runbook: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="The flow whose deployment is run")
    parameters: dict[str, JsonValue] = Field(
        default={}, description="Of the run; a text may have {label} in it"
    )


class Limits(Section):
    """What one sender may take of the receiver."""

    body_bytes: int = Field(default=1_048_576, ge=1024, description="A longer post is refused")
    post_seconds: float = Field(default=10, gt=0, description="A post that takes longer is cut")
    connections: int = Field(default=200, ge=1, description="More at once are answered 503")
    posts_per_second: float = Field(default=50, gt=0, description="Of each source, in the long run")
    burst: int = Field(default=500, ge=1, description="Of each source, at once")


class Listen(Section):
    """Where the receiver listens; TLS is the business of the proxy before it."""

    host: str = Field(default="127.0.0.1", description="The address")
    port: int = Field(default=4280, ge=1, le=65535, description="The port")


class Receiver(Section):
    """The whole of ``alerts.yaml``."""

    listen: Listen = Field(default=Listen(), description="Where the receiver listens")
    state_directory: Path = Field(
        default=Path("/var/lib/runbooks/alerts"), description="Where alerts are kept; a local disk"
    )
    keep: timedelta = Field(
        default=timedelta(days=30),
        ge=timedelta(days=1),
        description="An alert of which nothing was heard for so long is forgotten (ISO 8601 duration)",
    )
    limits: Limits = Field(default=Limits(), description="What one sender may take")
    link_key: LocalReference | None = Field(
        default=None, description="Reference to the key of the profiles' escalation.link_key"
    )
    sources: tuple[Source, ...] = Field(min_length=1, description="Who may send alerts")
    routes: tuple[Route, ...] = Field(default=(), description="Which alerts start which runbook")

    @model_validator(mode="after")
    def _sources_differ(self) -> Self:
        names = Counter(source.name for source in self.sources)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"source '{twice[0]}' is there twice: give each a name of its own")
        return self


class StatusPath(Section):
    """Where a generic JSON says whether something is wrong. Any other value is none of our business."""

    path: JsonPath = Field(description="Where it stands")
    firing: tuple[str | int | bool, ...] = Field(min_length=1, description="Something is wrong")
    resolved: tuple[str | int | bool, ...] = Field(default=(), description="It is over")


class GenericMapping(Section):
    """A mapping file: how a JSON of any form is read. Of several paths the first that is there counts."""

    alerts: JsonPath | None = Field(
        default=None, description="A list, each item an alert; without it the JSON is one"
    )
    fingerprint: tuple[JsonPath, ...] = Field(
        min_length=1, description="What tells the alert from others: the same when it fires again or resolves"
    )
    starts_at: tuple[JsonPath, ...] = Field(
        default=(), description="When it began: ISO 8601, UTC if it has no zone, or Unix seconds"
    )
    status: StatusPath = Field(description="Whether something is wrong")
    summary: tuple[JsonPath, ...] = Field(default=(), description="One line for people")
    labels: dict[str, str] = Field(
        default={}, description="Name to path, or to a text that does not begin with $"
    )
    all_labels: JsonPath | None = Field(
        default=None, description="An object of which every plain field becomes a label"
    )
    over_after: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="Not heard of for so long, it is over: if it fires again a new run starts",
    )


@dataclass(frozen=True)
class Configured:
    """The receiver's file, its mapping files, and the secrets that it refers to, by source."""

    receiver: Receiver
    mappings: Mapping[str, GenericMapping]
    secrets: Mapping[str, str]
    link_key: str | None

    @property
    def database(self) -> Path:
        """The file in which alerts are kept."""
        return self.receiver.state_directory / "alerts.sqlite"


def configuration_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the receiver's file: ``RUNBOOK_ALERTS``, or the one beside this module."""
    return Path(environment.get(CONFIGURATION_VARIABLE) or _DEFAULT)


def read_receiver(path: Path) -> Receiver:
    """Given the file, return what it says; raise ``ConfigurationError`` saying where it is wrong."""
    return read_section(path, Receiver, "receiver's configuration")


def read_configuration(path: Path) -> Configured:
    """Given the file, return it with its mapping files and secrets; raise ``ConfigurationError`` if wrong."""
    receiver = read_receiver(path)
    named = {source.path.removeprefix(_GENERIC) for source in receiver.sources if _is_generic(source)}
    mappings = {
        name: read_section(path.parent / "mappings" / f"{name}.yaml", GenericMapping, "mapping")
        for name in sorted(named)
    }
    secrets = {source.name: _resolve(_reference(source)) for source in receiver.sources}
    shared = Counter(secrets.values())
    for source in receiver.sources:
        if shared[secrets[source.name]] > 1:
            raise ConfigurationError(
                f"{path}: the secret of source '{source.name}' is another one's too: give each its own."
            )
    link_key = _resolve(receiver.link_key) if receiver.link_key else None
    return Configured(receiver, mappings, secrets, link_key)


def _is_generic(source: Source) -> bool:
    return source.path.startswith(_GENERIC)


def _reference(source: Source) -> str:
    return source.bearer or (source.signature.key if source.signature else "")


def _resolve(reference: str) -> str:
    kind, _, name = reference.partition(":")
    return read_variable(name) if kind == "env" else read_secret_file(Path(name))
