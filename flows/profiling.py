"""Watch MongoDB's slow queries by its profiler, and put that back to how it was, whatever happens."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Literal

from prefect.logging import get_run_logger

from flows.decisions.profile_documents import read_profile_document, read_running_operation
from flows.decisions.query_shapes import RUNBOOK, ShapeCollector, records_enough
from flows.query_window import Watched, Window
from tasks.errors import RefusedError, RunbookError
from tasks.journal import Journal
from tasks.mongodb_profiler import (
    Follower,
    ProfilerRefusedError,
    observe_profiler,
    open_profiler,
    put_back_profiler,
)
from tasks.profiling_state import hold_profiling, open_profiling_journal
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile
from tasks.records.slow_queries import ProfilerSettings, SlowQuery
from tasks.run_context import Run
from tasks.trail import record_event

PROFILING: Final = "profiling"
_LOOK_SECONDS: Final = 1.0
GUARD: Final = "profiler-guard"


def watch_mongodb(profile: ServiceProfile, run: Run, window: Window) -> Watched:
    """Watch by the profiler; where that may not be used, by looking at what is at work each second."""
    try:
        with hold_profiling(profile, purpose=RUNBOOK, holder=run.name):
            return _watch_by_profiler(profile, run, window)
    except ProfilerRefusedError as refusal:
        get_run_logger().warning("The profiler is not used: %s.", refusal)
        reason = str(refusal)
    try:
        return _watch_operations(profile, window, reason)
    except ProfilerRefusedError as refusal:
        raise RefusedError(
            f"{profile.name}: the profiler is not used ({reason}), nor can be looked at what is at work "
            f"({refusal})."
        ) from None


def _watch_by_profiler(profile: ServiceProfile, run: Run, window: Window) -> Watched:
    settle(profile, run)
    watched = Watched("Every query that the profiler wrote down")
    former = observe_profiler(profile)
    if former.has_filter:
        raise ProfilerRefusedError("somebody gave it a filter, which is left alone")
    if records_enough(former, window.slow_milliseconds):
        _follow_profile(profile, former.member, window, watched)
        watched.proof = "The profiler was on before, and was left alone"
        return watched
    with _profiling(profile, run, former, window.slow_milliseconds, watched):
        _follow_profile(profile, former.member, window, watched)
    return watched


@contextmanager
def _profiling(
    profile: ServiceProfile, run: Run, former: ProfilerSettings, slow_milliseconds: int, watched: Watched
) -> Generator[None]:
    """Have the profiler on while the block runs; how it was is written down before."""
    journal = open_profiling_journal(profile)
    journal.write(PROFILING, run=run.name, former=former.model_dump(mode="json"))
    record_event(profile, run, RUNBOOK, "began", outcome=f"profiling over {slow_milliseconds} ms")
    try:
        open_profiler(profile, former.member).turn_on(slow_milliseconds)
        yield
    except ProfilerRefusedError:
        journal.close("The server refused to profile: nothing was changed.")
        raise
    except RunbookError as error:
        raise RunbookError(f"{error} {_put_back_after_failure(profile, run, journal, former)}") from error
    except BaseException:
        _put_back(profile, run, journal, former, "failed")
        raise
    try:
        watched.proof = _put_back(profile, run, journal, former, "finished")
    except RunbookError as error:
        raise RunbookError(_say_left_on(profile, error)) from error


def _put_back_after_failure(
    profile: ServiceProfile, run: Run, journal: Journal, former: ProfilerSettings
) -> str:
    try:
        return f"{_put_back(profile, run, journal, former, 'failed')}."
    except RunbookError as error:
        return _say_left_on(profile, error)


def _say_left_on(profile: ServiceProfile, error: RunbookError) -> str:
    return (
        f"The profiler of {profile.name} could not be put back: {error} {GUARD}/{profile.name} does that as "
        "soon as the server answers."
    )


def settle(profile: ServiceProfile, run: Run) -> str:
    """Put back what a killed run left on and say so; "" if there is nothing.

    Who calls holds the profiling.
    """
    journal = open_profiling_journal(profile)
    left = journal.find(PROFILING)
    if left is None:
        return ""
    former = ProfilerSettings.model_validate(left.facts["former"])
    said = _put_back(profile, run, journal, former, "settled")
    get_run_logger().warning("The run %s did not end: %s.", left.facts["run"], said)
    return said


def _put_back(
    profile: ServiceProfile,
    run: Run,
    journal: Journal,
    former: ProfilerSettings,
    event: Literal["finished", "failed", "settled"],
) -> str:
    said = put_back_profiler(profile, former)
    journal.close(said)
    record_event(profile, run, RUNBOOK, event, outcome=said)
    return said


def _follow_profile(profile: ServiceProfile, member: str, window: Window, watched: Watched) -> None:
    with open_profiler(profile, member).follow() as follower:
        following = _Following(follower, window.slow_milliseconds, watched.collector)
        window.pass_by(following.look, _LOOK_SECONDS)
        following.look(whole=True)
    if following.gaps:
        watched.notes.append(
            f"system.profile was full and began anew before {say_count(following.gaps, 'look')} in it: there "
            "were more slow queries than are counted here."
        )


class _Following:
    """Reads what the profiler wrote down since the last look."""

    def __init__(self, follower: Follower, slow_milliseconds: int, collector: ShapeCollector) -> None:
        self._follower, self._slow, self._collector = follower, slow_milliseconds, collector
        self._since = follower.read_clock()
        self._oldest: datetime | None = None
        self.gaps = 0

    def look(self, *, whole: bool = False) -> None:
        excerpt = self._follower.read(self._since, self._slow, whole=whole)
        _collect(self._collector, map(read_profile_document, excerpt.documents))
        # The oldest is another one, and younger than what was read last: between them, something is gone.
        if self._oldest not in {None, excerpt.oldest} and excerpt.oldest and excerpt.oldest > self._since:
            self.gaps += 1
        self._since, self._oldest = excerpt.until, excerpt.oldest


def _watch_operations(profile: ServiceProfile, window: Window, refusal: str) -> Watched:
    """Look each second at what is at work; each operation counts once, for as long as it was seen."""
    seen: dict[object, SlowQuery] = {}
    watched = Watched(
        f"What was seen at work in a look each second, as the profiler is not to be used: {refusal}"
    )

    def look(follower: Follower) -> None:
        for document in follower.list_running(window.slow_milliseconds):
            query = read_running_operation(document)
            if query is not None:
                seen[document.get("opid"), query.identity] = query

    with open_profiler(profile).follow() as follower:
        look(follower)
        window.pass_by(lambda: look(follower), _LOOK_SECONDS)
    watched.proof = f"The profiler was not used: {refusal}"
    _collect(watched.collector, seen.values())
    watched.notes.append(
        "What ran for less than a second was seen by chance, and durations are lower bounds."
    )
    return watched


def _collect(collector: ShapeCollector, queries: Iterable[SlowQuery | None]) -> None:
    for query in queries:
        if query is not None:
            collector.add(query)
