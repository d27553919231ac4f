"""The table of what makes a database well: which observation is held against which limits, and what to do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from flows.decisions import health_readings as readings
from flows.decisions.health_readings import Evidence, Reading

Kind = Literal["mongodb", "postgresql"]
BOTH: tuple[Kind, ...] = ("mongodb", "postgresql")
_ONLY_MONGODB: tuple[Kind, ...] = ("mongodb",)
_ONLY_POSTGRESQL: tuple[Kind, ...] = ("postgresql",)


@dataclass(frozen=True)
class Rule:
    """What is held against which limits. ``act`` is None where nothing has to be done at once."""

    name: str
    of: str
    read: Callable[[Any, Evidence], Reading]
    watch: float
    act: float | None
    limit: str
    advice: str
    kinds: tuple[Kind, ...] = BOTH
    from_below: bool = False
    """Whether less is worse."""


RULES: tuple[Rule, ...] = (
    Rule(
        "disk space",
        "disk",
        readings.read_disk,
        watch=0.8,
        act=0.9,
        limit="watch from 80 % used, act from 90 %",
        advice="free some by audit-log-cleanup and optimize-indexes, or enlarge the disk",
    ),
    Rule(
        "disk full",
        "disk",
        readings.read_forecast,
        watch=60,
        act=14,
        from_below=True,
        limit="watch within 60 days, act within 14",
        advice="see below what grows, let audit-log-cleanup take more of it, or enlarge the disk in time",
    ),
    Rule(
        "connections",
        "connections",
        readings.read_connections,
        watch=0.75,
        act=0.9,
        limit="watch from 75 % taken, act from 90 %",
        advice="see below who holds them, and lower that application's pool or raise the server's limit",
    ),
    Rule(
        "blocked sessions",
        "sessions",
        readings.read_blocked,
        watch=10,
        act=300,
        limit="watch from 10 s of waiting, act from 5 min",
        advice="let the session that holds the lock end its transaction, or end that session",
    ),
    Rule(
        "idle in transaction",
        "sessions",
        readings.read_idle,
        watch=300,
        act=3600,
        limit="watch from 5 min, act from 1 h",
        advice="end that session, and look why the application forgets its transaction",
        kinds=_ONLY_POSTGRESQL,
    ),
    Rule(
        "long operations",
        "sessions",
        readings.read_working,
        watch=60,
        act=3600,
        limit="watch from 1 min, act from 1 h",
        advice="find with profile-queries what index it misses, and end it if nobody needs its answer",
        kinds=_ONLY_MONGODB,
    ),
    Rule(
        "open transactions",
        "sessions",
        readings.read_working,
        watch=3600,
        act=86_400,
        limit="watch from 1 h, act from 1 day",
        advice="end that session: as long as it is open vacuum cleans nothing up",
        kinds=_ONLY_POSTGRESQL,
    ),
    Rule(
        "prepared transactions",
        "sessions",
        readings.read_prepared,
        watch=300,
        act=3600,
        limit="watch from 5 min, act from 1 h",
        advice="ask the program that prepared it, then COMMIT PREPARED or ROLLBACK PREPARED",
        kinds=_ONLY_POSTGRESQL,
    ),
    Rule(
        "oldest snapshot",
        "sessions",
        readings.read_snapshot,
        watch=10_000_000,
        act=200_000_000,
        limit="watch from 10 million transactions, act from 200 million",
        advice="end what holds it: until then vacuum cleans nothing up and the tables bloat",
        kinds=_ONLY_POSTGRESQL,
    ),
    Rule(
        "replication lag",
        "replication",
        readings.read_replicas,
        watch=30,
        act=300,
        limit="watch from 30 s, act from 5 min or when a replica is not healthy",
        advice="look at that replica's log, its disk and its network, and give it back to the set",
    ),
    Rule(
        "replication slots",
        "replication",
        readings.read_slots,
        watch=1e9,
        act=1e10,
        limit="watch from 1 GB held, act from 10 GB or when one is lost",
        advice="start the replica of that slot, or drop the slot if the replica is gone for good",
        kinds=_ONLY_POSTGRESQL,
    ),
    Rule(
        "cache hits",
        "cache",
        readings.read_cache,
        watch=0.9,
        act=None,
        from_below=True,
        limit="watch up to 90 %",
        advice="find with profile-queries what reads so much, or give the server's cache more memory",
    ),
    Rule(
        "deadlocks",
        "troubles",
        readings.read_deadlocks,
        watch=1,
        act=None,
        limit="watch from the first",
        advice="see both queries in the server's log, and let the application lock in one order",
        kinds=_ONLY_POSTGRESQL,
    ),
    Rule(
        "temporary files",
        "troubles",
        readings.read_temporary,
        watch=1e9,
        act=None,
        limit="watch from 1 GB",
        advice="find with profile-queries what sorts so much, and give it an index or more work_mem",
        kinds=_ONLY_POSTGRESQL,
    ),
)
