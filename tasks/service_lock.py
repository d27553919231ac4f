"""One mutation at a time per service: the kernel's lock on the host, and a lease across hosts."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from prefect.logging import get_run_logger

from tasks.errors import LeaseHeldError
from tasks.host_errors import naming_file
from tasks.host_folder import host_folder, open_private
from tasks.leases import TAKES_NO_LEASE, hold_lease
from tasks.opening_stores import open_store
from tasks.records.service import ServiceProfile

LONGEST_WAIT: Final = timedelta(hours=2)
_POLL_SECONDS = 0.5
_NAME = "mutation"


@contextmanager
def hold_service(
    profile: ServiceProfile, *, purpose: str, holder: str, wait: timedelta = LONGEST_WAIT
) -> Generator[None]:
    """Hold the service: nobody else changes it meanwhile, on this host or another.

    While somebody else does, wait so long, saying in the run's log for whom; then raise ``LeaseHeldError``.
    The kernel gives a killed holder's lock back at once. Where the store, which may be part of the outage,
    takes no lease, only this host is kept out. Raise ``UnreadableLeaseError`` if there is one that says not
    whose it is.
    """
    log = get_run_logger()
    with ExitStack() as held:
        path = host_folder(profile) / "lock"
        held.enter_context(hold_file(path, profile.name, purpose, holder, wait, log.warning))
        try:
            held.enter_context(
                hold_lease(
                    open_store(profile.backup.destination),
                    profile.name,
                    _NAME,
                    purpose=purpose,
                    holder=holder,
                    wait=wait,
                    on_wait=log.warning,
                )
            )
        except TAKES_NO_LEASE as error:
            log.warning("Other hosts are not kept out, the store takes no lease: %s", error)
        yield


@contextmanager
def hold_file(  # noqa: PLR0913, PLR0917  what the lock says of its holder, and how long to wait for it
    path: Path, service: str, purpose: str, holder: str, wait: timedelta, on_wait: Callable[[str], object]
) -> Generator[None]:
    """Hold the kernel's lock on a file of this host; raise ``LeaseHeldError`` if somebody else does."""
    with open_private(path) as file:
        for sentence in _wait_for(file, service, wait):
            on_wait(sentence)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with naming_file(path):
            _describe(file, {"holder": holder, "purpose": purpose, "process": os.getpid(), "since": since})
        # Closing the file gives the lock back.
        yield


def _wait_for(file: IO[str], service: str, wait: timedelta) -> Iterator[str]:
    """Yield a sentence for each holder that is waited for; return when the lock is ours."""
    deadline, told = time.monotonic() + wait.total_seconds(), ""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sentence = _say_holder(file, service)
        else:
            return
        if time.monotonic() >= deadline:
            raise LeaseHeldError(sentence)
        if sentence != told:
            told = sentence
            yield sentence
        time.sleep(_POLL_SECONDS)


def _say_holder(file: IO[str], service: str) -> str:
    file.seek(0)
    try:
        found = json.loads(file.read())
        return (
            f"{service} is held by {found['holder']} for: {found['purpose']} "
            f"(process {found['process']} of this host), since {found['since']}."
        )
    except (ValueError, KeyError, TypeError):
        return f"{service} is held by another run of this host."


def _describe(file: IO[str], holder: dict[str, object]) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()
