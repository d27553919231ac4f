"""What the doubles of the vendors have in common: a request, its answer, and how a vendor behaves today."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

Mode = Literal["up", "down", "hanging"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class VendorRequest:
    """One request, its path below the vendor's own address."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    query: str = ""

    @property
    def key(self) -> str | None:
        """Return the key that it carries, as bearer token or as the user of basic authentication."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value:
            return value.strip()
        if scheme.lower() == "basic":
            try:
                return base64.b64decode(value).decode().partition(":")[0] or None
            except (binascii.Error, UnicodeDecodeError):
                return None
        return None


@dataclass(frozen=True)
class VendorAnswer:
    """A status and a JSON body."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What becomes of the next requests that match, instead of what they ask for."""

    path: str
    """A regular expression that the path has to match from its beginning."""
    method: str = ".*"
    times: int = 1
    status: int | None = 500
    """What is answered; None is no answer at all, for as long as the client waits."""
    works: bool = False
    """The work is done all the same, before."""

    def matches(self, request: VendorRequest) -> bool:
        """Tell whether it befalls this request."""
        return bool(re.fullmatch(self.method, request.method) and re.match(self.path, request.path))


@dataclass(frozen=True)
class Conduct:
    """How a vendor behaves until it is told otherwise."""

    mode: Mode = "up"
    clock_ahead: float = 0
    """Seconds that its Date header is ahead of this host's clock."""
    revoked: tuple[str, ...] = ()
    """Keys that it knew and refuses now."""
    faults: tuple[Fault, ...] = ()
    propagation_seconds: float = 0
    """So long after it was made is a key refused yet."""


Act = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Vendor(Protocol):
    """One vendor: its name is the first part of its address."""

    @property
    def name(self) -> str:
        """Return what it is called in its address and in the control path."""

    @property
    def dashboard(self) -> Mapping[str, Act]:
        """Return what a person can do in its web pages and no key can, by name."""

    def answer(self, request: VendorRequest, conduct: Conduct) -> VendorAnswer:
        """Answer a request as the vendor does when it is up."""

    def fail(self, status: int) -> VendorAnswer:
        """Answer in the vendor's words that something failed."""
