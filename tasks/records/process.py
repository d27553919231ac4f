"""What a process manager says of the application."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

# Words of our own for what PM2, systemd and Windows each say in theirs.
InstanceState = Literal["online", "starting", "stopping", "stopped", "errored"]
# As psutil has them; "suspended" is stopped by a signal (SIGSTOP), which no process manager notices.
KernelState = Literal["running", "waiting for a disk", "suspended", "zombie", "gone"]


class ProcessInstance(BaseModel):
    """One process of the application; None is what its process manager does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """What tells it from the others: PM2's number, or the unit's name."""
    state: InstanceState
    pid: int | None = None
    kernel_state: KernelState | None = None
    since: datetime | None = None
    """When it started, aware, UTC."""
    restarts: int | None = None
    """How often the process manager has started it again since it knows it."""
    unstable_restarts: int | None = None
    """How often it ended soon after a start, one time after the other (PM2 counts them)."""
    restarted_alone: bool | None = None
    """Whether it ended by itself, and its manager started it again, since somebody last had it started.

    None where its manager does not tell (PM2 does).
    """
    given_up: bool = False
    """Whether its manager started it several times in vain, and starts it no more; it is errored then."""
    exit_code: int | None = None
    """As a shell tells it: 128 and the signal's number, if one ended it."""
    memory_bytes: int | None = None
    cpu_percent: float | None = None
    """How much of one core it took over a short moment; only ``observe_processes`` measures it."""
    waiting_percent: float | None = None
    """For how much of that moment its first thread was ready and got no core, 0 to 100; Linux tells it."""


class ProcessStatus(BaseModel):
    """Whether all of the application runs, or nothing of it; ``detail`` says what the manager says of it."""

    model_config = ConfigDict(frozen=True)

    running: bool
    stopped: bool
    detail: str
    instances: tuple[ProcessInstance, ...] = ()


class LogMark(BaseModel):
    """A moment, and where the logs of the application ended at it: each file's inode and size, or zeros."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime
    ends: dict[str, tuple[int, int]]
