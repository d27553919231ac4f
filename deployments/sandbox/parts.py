"""What every part of the sandbox has in common, and how the applications' health is asked."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event
from typing import Protocol

import httpx

from deployments.sandbox.errors import SandboxError
from deployments.sandbox.supervisor import POLL_SECONDS

HEALTH_SECONDS = 30

Progress = Callable[[str, float], None]


class Part(Protocol):
    """What every part of the sandbox can do."""

    @property
    def name(self) -> str:
        """Return what it is called in logs and messages."""

    def is_running(self) -> bool:
        """Tell whether its process lives."""

    def start(self) -> None:
        """Start it unless it runs, and wait until it is ready."""

    def stop(self) -> None:
        """Stop it as an operator would."""

    def kill(self) -> None:
        """Take it away with SIGKILL."""


def is_healthy(url: str) -> bool:
    """Tell whether the application behind a health URL answers in the runbook's form that it is well."""
    try:
        answer = httpx.get(url, timeout=3)
        return answer.is_success and answer.json().get("status") == "OK"
    except (httpx.HTTPError, ValueError):
        return False


def wait_for_health(name: str, url: str, hint: str, is_given_up: Event) -> None:
    """Wait until an application is healthy.

    Raises:
        SandboxError: it is not after half a minute, or when all is given up; the hint says where to look.
    """
    deadline = time.monotonic() + HEALTH_SECONDS
    while not is_healthy(url):
        if is_given_up.is_set() or time.monotonic() > deadline:
            raise SandboxError(f"{name} is not healthy after {HEALTH_SECONDS} s; see {hint}.")
        time.sleep(POLL_SECONDS)


def timed(
    what: str, act: Callable[[], None], needs: tuple["Future[None]", ...], on_progress: Progress
) -> None:
    """Act when all that is needed is there, and report the seconds that it took."""
    for need in needs:
        need.result()
    begun = time.monotonic()
    act()
    on_progress(what, time.monotonic() - begun)
