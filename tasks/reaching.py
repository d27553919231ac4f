"""Whether anybody listens at a TCP address: with nothing but a connect, so that down is told from silent."""

import contextvars
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

T = TypeVar("T")
Unreached = Literal["unknown host", "refuses connections", "does not answer"]

# What is wrong at one of several places is said in this order: the first leaves most hope.
_WORDS: dict[Unreached, str] = {
    "does not answer": "does not answer: its host is down, or a firewall drops what is sent to it",
    "refuses connections": "refuses connections: its host is up, and nobody listens there",
    "unknown host": "has a name that cannot be resolved: correct it, or see the name server",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A host and a port as a URL names them."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write them as a URL does."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reached:
    """The places where somebody listens, each with the numeric address that does; or what is wrong."""

    listening: tuple[tuple[Place, str], ...]
    failure: Unreached | None
    problem: str = ""


def reach(places: Sequence[Place], seconds: float) -> Reached:
    """Given places, return which of them accept a connection within so many seconds; all are asked at once.

    A name that is not resolved in time counts as unknown; a number has nothing to be resolved.
    """
    deadline = time.monotonic() + seconds
    coming = [(place, in_background(partial(_try, place, deadline))) for place in places]
    found = [(place, wait_for(one, deadline - time.monotonic(), _call_late(place))) for place, one in coming]
    listening = tuple((place, address) for place, address in found if address not in _WORDS)
    if listening or not found:
        return Reached(listening, None)
    failure = next(failure for failure in _WORDS if failure in {said for _, said in found})
    concerned = ", ".join(str(place) for place, said in found if said == failure)
    return Reached((), failure, f"{concerned} {_WORDS[failure]}.")


def _call_late(place: Place) -> Unreached:
    try:
        ipaddress.ip_address(place.host)
    except ValueError:
        return "unknown host"
    return "does not answer"


def _try(place: Place, deadline: float) -> str:
    """Return the numeric address that accepts a connection, or in the words above why none does."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return "unknown host"
    refused = False
    for number, (family, kind, protocol, _, address) in enumerate(found):
        share = (deadline - time.monotonic()) / (len(found) - number)
        with socket.socket(family, kind, protocol) as wire:
            # A little earlier than the one who waits for all of them.
            wire.settimeout(max(0.05, share * 0.9))
            try:
                wire.connect(address)
            except OSError as error:
                refused = refused or isinstance(error, ConnectionRefusedError)
            else:
                return str(address[0])
    return "refuses connections" if refused else "does not answer"


def in_background(act: Callable[[], T]) -> "Future[T]":
    """Begin an act in a thread that nobody has to wait for, not even at exit: return its result to come."""
    coming: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            coming.set_result(context.run(act))
        except BaseException as error:  # noqa: BLE001  it is raised where somebody asks for the result
            coming.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return coming


def wait_for(coming: "Future[T]", seconds: float, otherwise: T) -> T:
    """Return what an act in the background returns, or something else if it does not end in time."""
    try:
        return coming.result(max(0.0, seconds))
    except TimeoutError:
        return otherwise
