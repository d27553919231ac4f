"""Stripe's forms: a[b]=c and a[0]=d, read as it reads them and checked as strictly."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

_PART = re.compile(r"\[([^\]]*)\]")

Reader = Callable[[Any], Any]


class FormError(Exception):
    """A parameter that is missing, unknown or of another type."""

    def __init__(self, message: str, code: str, param: str) -> None:
        """Take what Stripe says of it, its code, and the parameter's name."""
        super().__init__(message)
        self.code = code
        self.param = param


def read_form(text: str, known: Mapping[str, Reader], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the parameters of a form by name, each read as its type.

    Raises:
        FormError: one is unknown, of another type, or missing.
    """
    found = {"expand": None, **_nest(text)}
    del found["expand"]
    for name in found:
        if name not in known:
            raise FormError(f"Received unknown parameter: {name}", "parameter_unknown", name)
    for name in required:
        if name not in found:
            raise FormError(f"Missing required param: {name}.", "parameter_missing", name)
    read = {}
    for name, value in found.items():
        try:
            read[name] = known[name](value)
        except ValueError as error:
            raise FormError(f"{error}: {name}", "parameter_invalid", name) from None
    return read


def _nest(text: str) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = [name.partition("[")[0], *_PART.findall(name)]
        place = document
        while rest:
            following = place.setdefault(first, {})
            if not isinstance(following, dict):
                raise FormError(f"Invalid object: {name}", "parameter_invalid", name)
            place, first = following, rest.pop(0) or str(len(following))
        place[first] = value
    return document


def text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str):
        raise ValueError("Invalid string")  # noqa: TRY004  it becomes the vendor's answer
    if not value:
        raise ValueError("You passed an empty string for a parameter that has to have a value")
    return value


def any_text(value: Any) -> str:
    """Read a text, which an empty one takes away."""
    return text(value) if value else ""


def integer(value: Any) -> int:
    """Read a whole number."""
    if not isinstance(value, str) or not re.fullmatch(r"-?\d+", value):
        raise ValueError("Invalid integer")
    return int(value)


def boolean(value: Any) -> bool:
    """Read true or false."""
    if value not in {"true", "false"}:
        raise ValueError("Invalid boolean")
    return bool(value == "true")


def span(value: Any) -> dict[str, int]:
    """Read bounds in seconds: gt, gte, lt, lte."""
    if not isinstance(value, dict) or not value.keys() <= {"gt", "gte", "lt", "lte"}:
        raise ValueError("Invalid object")
    return {name: integer(bound) for name, bound in value.items()}


def texts(value: Any) -> list[str]:
    """Read an array of texts."""
    if not isinstance(value, dict) or sorted(value, key=len) != [str(n) for n in range(len(value))]:
        raise ValueError("Invalid array")
    return [text(value[str(n)]) for n in range(len(value))]


def metadata(value: Any) -> dict[str, str]:
    """Read keys and their texts; an empty text takes its key away."""
    if value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise ValueError("Invalid hash")
    return dict(value)
