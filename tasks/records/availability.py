"""Whether a service answered while something was done to it."""

from datetime import datetime

from tasks.records.observation import Record
from tasks.records.process import ProcessStatus


class Availability(Record):
    """What a prober saw. It asks again and again, one request at a time.

    An outage is counted from the last good answer before it to the first good one after it: it was no longer
    than that, and may have been shorter by two ``resolution_seconds``. One that fits between two requests is
    not seen.
    """

    began: datetime
    ended: datetime
    probes: int
    failed: int
    unavailable_seconds: float
    resolution_seconds: float
    """The longest time between two requests while the service answered."""

    @property
    def in_words(self) -> str:
        """The end of a sentence that says how long it did not answer."""
        if not self.failed:
            return f"it answered all the while ({self.probes} requests)"
        return (
            f"it did not answer for {self.unavailable_seconds:.1f} s at most ({self.failed} of {self.probes} "
            f"requests failed, one every {self.resolution_seconds:.1f} s)"
        )


class Restarted(Record):
    """A restart that is proven: healthy, processes that are new, and the log says so where it can be read."""

    how: str
    """"graceful", "hard", or "start" for an application that did not run."""
    availability: Availability
    status: ProcessStatus
    confirmed_by_log: bool
    """False where no log could be read; one that can be read and lacks the line is an error."""
    notes: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """The end of a sentence that says what was done and how long nobody was served."""
        done = {"start": "started"}.get(self.how, f"restarted ({self.how})")
        return f"{done}, {self.availability.in_words}"
