"""Whether the backup that was due has left a set: judged by the store alone, whatever any scheduler says."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from tasks.records.backup import RepositoryState, SetSummary
from tasks.records.figures import say_period

# What the first backup may take; later ones may take twice as long as the longest that is still there.
_FIRST: Final = timedelta(minutes=30)
# Clocks of two hosts differ a little.
_CLOCK_SKEW: Final = timedelta(minutes=5)


def settle_by(state: RepositoryState, late_after: timedelta, now: datetime) -> datetime:
    """Given what a repository holds, return before which moment a backup was due that must be there now."""
    longest = max((found.seconds for found in _list_usable(state)), default=0.0)
    return now - late_after - max(_FIRST, timedelta(seconds=2 * longest))


def judge_schedule(state: RepositoryState, due: Sequence[datetime], now: datetime) -> tuple[str, ...]:
    """Given when backups were due that must be there now, return a sentence if the last one left no set."""
    if not due:
        return ()
    newest = max((found.created_at for found in _list_usable(state)), default=None)
    if newest is not None and newest >= due[-1] - _CLOCK_SKEW:
        return ()
    had = f"the newest usable one is {say_period(now - newest)} old" if newest else "there is none at all"
    sentence = (
        f"The backup that was due {say_period(now - due[-1])} ago left no set, and {had}: look how its run "
        f"ended, and run nightly-backup/{state.service}."
    )
    return (sentence,)


def _list_usable(state: RepositoryState) -> list[SetSummary]:
    return [found for found in state.sets if found.kind != "safety" and found.reread_passed is not False]
