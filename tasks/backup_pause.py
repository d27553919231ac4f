"""Keep the nightly backup and a change of its credentials apart: each waits for the other."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from prefect.logging import get_run_logger

from tasks.backup_sets import hold_repository
from tasks.leases import TAKES_NO_LEASE
from tasks.records.service import ServiceProfile


@contextmanager
def holding_off_backups(profile: ServiceProfile, purpose: str, holder: str) -> Generator[None]:
    """Given a service, wait until its backup is over, and let the next one wait while the block runs.

    Take it before the service is held, as every runbook does. A store that takes no lease takes no backup
    either. Raise ``LeaseHeldError`` if the backup does not end, and ``UnreadableLeaseError`` if that is not
    known.
    """
    with ExitStack() as held:
        try:
            held.enter_context(hold_repository(profile, purpose=purpose, holder=holder))
        except TAKES_NO_LEASE as error:
            get_run_logger().warning("Backups are not held off, the store takes no lease: %s", error)
        yield
