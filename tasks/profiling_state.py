"""Who is profiling a service, and what a killed run left on: beside the journals that keep changes out.

Profiling changes no data, so it neither waits for the service's lock nor keeps anybody else out of it.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from prefect.logging import get_run_logger

from tasks.host_folder import host_folder
from tasks.journal import Journal
from tasks.leases import TAKES_NO_LEASE, hold_lease
from tasks.opening_stores import open_store
from tasks.records.service import ServiceProfile
from tasks.service_lock import hold_file

_NAME: Final = "profiling"
_AT_ONCE = timedelta(0)


@contextmanager
def hold_profiling(profile: ServiceProfile, *, purpose: str, holder: str) -> Generator[None]:
    """Be the only one who touches how the service's queries are recorded; raise ``LeaseHeldError`` if not.

    The kernel gives a killed holder's lock back at once. Without the store, only this host is kept out.
    """
    log = get_run_logger()
    with ExitStack() as held:
        path = host_folder(profile) / f"{_NAME}.lock"
        held.enter_context(hold_file(path, profile.name, purpose, holder, _AT_ONCE, log.warning))
        try:
            store = open_store(profile.backup.destination)
            held.enter_context(
                hold_lease(store, profile.name, _NAME, purpose=purpose, holder=holder, on_wait=log.warning)
            )
        except TAKES_NO_LEASE as error:
            log.warning("Other hosts are not kept out, the store takes no lease: %s", error)
        yield


def open_profiling_journal(profile: ServiceProfile) -> Journal:
    """Given a service, return the journal of its profiling on this host; without lines, all is as it was.

    Who opens it holds the profiling.
    """
    folder = _folder(profile)
    folder.mkdir(mode=0o700, exist_ok=True)
    return Journal(folder, _NAME)


def may_be_left_on(profile: ServiceProfile) -> bool:
    """Given a service, tell whether a run profiles it, or did until it was killed."""
    return (_folder(profile) / f"{_NAME}.jsonl").exists()


def _folder(profile: ServiceProfile) -> Path:
    return host_folder(profile) / _NAME
