"""Whether a service could be brought back tonight: there is a set, it is young, and it was proven."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from tasks.records.backup import RepositoryState, SetSummary
from tasks.records.figures import say_count, say_period

# A night's backup, plus the time that it may take and start late.
OLDEST_SET = timedelta(hours=28)
# A set that was published a moment ago may still be read back.
_LONGEST_REREAD = timedelta(hours=3)
# Clocks of two hosts differ a little; a set further ahead would pass for fresh for as long.
_CLOCK_SKEW = timedelta(minutes=5)


def judge_freshness(state: RepositoryState, drill_every: timedelta, now: datetime) -> tuple[str, ...]:
    """Given what a repository holds, return a sentence for each reason not to rely on it.

    No sentence: every set can be read, the newest is young and was read back, a restore drill passed lately,
    and none failed since. What a restore saved before it is no backup: it holds what was replaced.
    """
    damaged = tuple(_judge_manifests(state))
    if not _list_backups(state):
        return (*damaged, f"There is no backup set: run nightly-backup/{state.service}.")
    newest = _find_newest(state)
    return (
        *damaged,
        *_judge_age(newest, state.service, now),
        *_judge_reread(newest, state.service, now),
        *_judge_drills(state, drill_every, now),
    )


def describe_freshness(state: RepositoryState, now: datetime) -> str:
    """Given a repository with nothing against it, return one sentence to read aloud."""
    newest, drilled_at = _find_newest(state), max(_find_drills(state, passed=True).values(), default=None)
    proof = "was read back" if newest.reread_passed else "is still to be read back"
    drill = f"; a restore drill passed {say_period(now - drilled_at)} ago" if drilled_at else ""
    return (
        f"{state.service}: {say_count(len(_list_backups(state)), 'set')}, the newest is "
        f"{say_period(now - newest.created_at)} old and {proof}{drill}."
    )


def _list_backups(state: RepositoryState) -> list[SetSummary]:
    return [found for found in state.sets if found.kind != "safety"]


def _find_newest(state: RepositoryState) -> SetSummary:
    return max(_list_backups(state), key=lambda found: (found.created_at, found.set_id))


def _find_drills(state: RepositoryState, *, passed: bool) -> dict[str, datetime]:
    """Return when the newest drill of each set ended that passed, or failed."""
    return {
        found.set_id: found.drilled_at
        for found in state.sets
        if found.drill_passed is passed and found.drilled_at is not None
    }


def _judge_manifests(state: RepositoryState) -> Iterator[str]:
    for damaged in state.unreadable:
        yield (
            f"Set {damaged.set_id} cannot be relied on, and is never deleted: {damaged.reason} Put its "
            "manifest back from a copy of the store, or delete the set by hand."
        )


def _judge_age(newest: SetSummary, service: str, now: datetime) -> Iterator[str]:
    age = now - newest.created_at
    if age < -_CLOCK_SKEW:
        yield (
            f"The newest set, {newest.set_id}, is dated {say_period(-age)} ahead of this host's clock, so "
            "nobody can tell how old it is: correct the clock that is wrong."
        )
    if age > OLDEST_SET:
        yield (
            f"The newest set, {newest.set_id}, is {say_period(age)} old, and {say_period(OLDEST_SET)} is "
            f"the limit: look why there was none since, and run nightly-backup/{service}."
        )


def _judge_reread(newest: SetSummary, service: str, now: datetime) -> Iterator[str]:
    if newest.reread_passed is False:
        yield (
            f"The newest set, {newest.set_id}, failed its re-read: look at what its run found, and run "
            f"nightly-backup/{service}."
        )
    if newest.reread_passed is None and now - newest.created_at > _LONGEST_REREAD:
        yield (
            f"The newest set, {newest.set_id}, was never read back: look how its run ended, and run "
            f"nightly-backup/{service}."
        )


def _judge_drills(state: RepositoryState, drill_every: timedelta, now: datetime) -> Iterator[str]:
    passed_at = max(_find_drills(state, passed=True).values(), default=None)
    if passed_at is None:
        yield f"No set has passed a restore drill: run restore-drill/{state.service}."
    elif now - passed_at > drill_every:
        yield (
            f"The newest restore drill that passed was {say_period(now - passed_at)} ago, and "
            f"{say_period(drill_every)} is the limit: run restore-drill/{state.service}."
        )
    failed = sorted(
        set_id
        for set_id, ended_at in _find_drills(state, passed=False).items()
        if passed_at is None or ended_at > passed_at
    )
    if failed:
        yield (
            f"{', '.join(failed)} failed a restore drill, and none has passed since: run "
            f"nightly-backup/{state.service}, then restore-drill/{state.service}."
        )
