"""The lease: who may change what in a repository, until when."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict


class Lease(BaseModel):
    """One generation of a lease, as it lies in the store. Times are aware, UTC.

    ``host``, ``boot``, ``pid`` and ``process_started`` identify the holding process, so that the same host
    can see at once that it is dead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    generation: int
    holder: str
    purpose: str
    host: str
    boot: str
    pid: int
    process_started: str
    acquired_at: datetime
    renewed_at: datetime
    time_to_live: timedelta
    released: bool = False
