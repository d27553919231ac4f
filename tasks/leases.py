"""One holder at a time for one name, across hosts, with nothing but an object store between them."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    LeaseHeldError,
    LeaseLostError,
    NotFoundError,
    RunbookError,
    StoreFullError,
    UnreachableError,
)
from tasks.lease_generations import acquire, is_ours, write_again
from tasks.object_store import ObjectStore
from tasks.process_identity import this_process
from tasks.records.lease import Lease

Clock = Callable[[], datetime]

TIME_TO_LIVE: Final = timedelta(seconds=120)
POLL_SECONDS: Final = 2.0
# A renewal may fail three times in a row before the lease is lost.
RENEWALS: Final = 4
# A store that is away, full, refuses or is not there takes no lease, and no backup either: it is no reason to
# leave a service as it is. That somebody holds a lease, or may, is one; so is a store that cannot keep two
# hosts apart, which nobody would learn of otherwise.
TAKES_NO_LEASE: Final = (
    UnreachableError,
    StoreFullError,
    AccessDeniedError,
    ConfigurationError,
    NotFoundError,
)
TAKEN_OVER: Final = "somebody else has taken it over, or deleted it"

_log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the moment, aware."""
    return datetime.now(UTC)


class HeldLease:
    """A lease that this process holds. Call ``check`` before each step that nobody else may take with us."""

    def __init__(self, store: ObjectStore, service: str, lease: Lease, now: Clock) -> None:
        """Given a lease that was just written as ours, keep it."""
        self._store, self._service, self._now = store, service, now
        self._lease = lease
        self._lost: str | None = None
        self._failure: RunbookError | None = None
        self._writing = threading.Lock()

    @property
    def lease(self) -> Lease:
        """The lease as it was last written."""
        return self._lease

    def check(self) -> None:
        """Ask the store whether the lease is still ours; raise ``LeaseLostError`` if it is not.

        A store that does not answer takes nothing away before the lease's time is over.
        """
        with self._writing:
            try:
                self._raise_if_lost()
            except LeaseLostError:
                raise
            except RunbookError as error:
                self._failure = error

    def renew(self) -> None:
        """Put the end of the lease off; raise ``LeaseLostError`` if it is no longer ours."""
        with self._writing:
            self._raise_if_lost()
            self._write(self._lease.model_copy(update={"renewed_at": self._now()}))

    def release(self) -> None:
        """Let the next one have it at once; what was lost is not touched."""
        with self._writing:
            self._raise_if_lost()
            self._write(self._lease.model_copy(update={"released": True}))

    def _raise_if_lost(self) -> None:
        lease = self._lease
        if self._lost is None and self._now() - lease.renewed_at > lease.time_to_live:
            why = f" ({self._failure})" if self._failure else ""
            self._lost = f"it could not be renewed for {lease.time_to_live.total_seconds():.0f} s{why}"
        if self._lost is None:
            self._lost = None if is_ours(self._store, self._service, lease) else TAKEN_OVER
        if self._lost is not None:
            raise LeaseLostError(f"The lease {lease.name} of {self._service} is lost: {self._lost}.")

    def _write(self, lease: Lease) -> None:
        write_again(self._store, self._service, lease)
        self._lease, self._failure = lease, None

    def keep_renewing(self, stop: threading.Event) -> None:
        """Renew until told to stop or lost; a renewal that fails is tried again at the next turn."""
        while not stop.wait(self._lease.time_to_live.total_seconds() / RENEWALS):
            try:
                self.renew()
            except LeaseLostError as error:
                _log.warning("%s", error)
                return
            except RunbookError as error:
                self._failure = error


@contextlib.contextmanager
def hold_lease(  # noqa: PLR0913  what a lease says of itself, and how long to wait for it
    store: ObjectStore,
    service: str,
    name: str,
    *,
    purpose: str,
    holder: str,
    time_to_live: timedelta = TIME_TO_LIVE,
    wait: timedelta = timedelta(0),
    on_wait: Callable[[str], object] = _log.info,
    now: Clock = utc_now,
) -> Iterator[HeldLease]:
    """Given a store, hold the lease while the block runs, renewing it from a thread.

    While somebody else holds it, wait so long and tell ``on_wait`` whom for; then raise ``LeaseHeldError``.
    """

    def claim() -> Lease:
        moment, process = now(), asdict(this_process())
        return Lease(
            name=name,
            generation=0,
            holder=holder,
            purpose=purpose,
            acquired_at=moment,
            renewed_at=moment,
            time_to_live=time_to_live,
            **process,
        )

    lease = _wait_for(lambda: acquire(store, service, claim()), wait, on_wait)
    held = HeldLease(store, service, lease, now)
    stop = threading.Event()
    renewing = threading.Thread(target=held.keep_renewing, args=(stop,), name=f"lease-{name}", daemon=True)
    renewing.start()
    try:
        yield held
    finally:
        stop.set()
        renewing.join()
        try:
            held.release()
        except RunbookError as error:
            # It ends by itself; what was done under it is not undone by that.
            _log.warning("The lease %s could not be released: %s", name, error)


def _wait_for(attempt: Callable[[], Lease], wait: timedelta, on_wait: Callable[[str], object]) -> Lease:
    """Try until the lease is ours; raise the last ``LeaseHeldError`` when the wait is over."""
    deadline, told = time.monotonic() + wait.total_seconds(), ""
    while True:
        try:
            return attempt()
        except LeaseHeldError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if str(error) != told:
                told = str(error)
                on_wait(told)
        time.sleep(min(POLL_SECONDS, left))
