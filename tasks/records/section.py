"""What every section of a service profile is: frozen, and without a field that nobody knows."""

from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# Names a secret without holding it: a variable, a private file, or a Prefect Secret block.
Reference = Annotated[str, Field(pattern=r"^(env|file|block):.+$")]


def _in_full(path: Path) -> Path:
    if not path.is_absolute():
        # A worker gives each run a folder of its own, which goes with the run.
        raise ValueError(f"'{path}' is no full path: write it from / on")
    return path


HostPath = Annotated[Path, AfterValidator(_in_full)]


def _naming_a_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises where it is none
        (parts.hostname or "").encode("idna")
    except ValueError:
        parts = None
    if parts is None or not parts.hostname:
        # It may hold a password, and is not repeated.
        raise ValueError("it names no host and port: expected http://host:port/path, or https://")
    return url


WebAddress = Annotated[str, Field(pattern=r"^https?://"), AfterValidator(_naming_a_host)]


class Section(BaseModel):
    """A part of a service profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _take_nothing_for_what_it_is_not(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse numbers, which pydantic takes for seconds: ``older_than: 365`` would keep six minutes.

        And truth, which it takes for a number: ``keep_monthly: yes`` would keep one month.
        """
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError("a number is wanted; yes, no, on and off are none")
        is_number = isinstance(value, int | float)
        if timedelta in kinds and (is_number or (isinstance(value, str) and "P" not in value[:2])):
            raise ValueError("a duration has its unit: P365D for 365 days, PT90S for 90 seconds")
        # YAML reads 10:30 as sixty times ten and thirty.
        if time in kinds and is_number:
            raise ValueError("a time of day is written in quotes: '10:30'")
        return value
