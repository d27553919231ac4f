"""What happened last night: each moment at which a run was due gets one verdict; the worst comes first."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, get_args
from zoneinfo import ZoneInfo

from flows.decisions.backup_freshness import OLDEST_SET, judge_freshness
from flows.decisions.night_judgement import (
    judge_alerts,
    judge_credentials,
    judge_escalations,
    judge_half_done,
    say_moment,
    say_unseen,
)
from tasks.records.backup import RepositoryState
from tasks.records.figures import say_count, say_period
from tasks.records.last_night import (
    DueRunbook,
    JudgedTime,
    Level,
    NightLine,
    NightPage,
    SeenNight,
    SeenRun,
    SeenRuns,
    Verdict,
)
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

RUNBOOK: Final = "last-night"
# A night's cleanup, plus the time that it may take and start late.
_OLDEST_CLEANUP = timedelta(hours=28)
_BAD: Final = {"missed", "failed", "late"}
_RANKS: Final = {verdict: rank for rank, verdict in enumerate(get_args(Verdict))}
_LEVELS: Final = {level: rank for rank, level in enumerate(get_args(Level))}
_MOST_NAMED = 5
_MOST_HOURS = 168


def refuse_hours(hours: int) -> str:
    """Given how far to look back, return why not, or nothing."""
    return "" if 1 <= hours <= _MOST_HOURS else f"hours is {hours}: give 1 to {_MOST_HOURS}."


def look_back(due: datetime, hours: int, zone: ZoneInfo) -> datetime:
    """Given when a page was due and its hours, return since when it looks.

    Days are those of the wall clock: when the clocks change, 24 hours ago is still when the page before was
    due.
    """
    days, rest = divmod(hours, 24)
    return (due.astimezone(zone) - timedelta(days=days)).astimezone(UTC) - timedelta(hours=rest)


def judge_night(profile: ServiceProfile, seen: SeenNight, since: datetime, now: datetime) -> NightPage:
    """Given what was seen of a service since then, return its page, worst first."""
    lines = (
        *judge_escalations(profile, seen.escalations, seen.going_on, since),
        *judge_alerts(profile, seen.alerts),
        *judge_credentials(profile, seen.credentials, now),
        *judge_half_done(seen.half_done),
        *_judge_repository(profile, seen.repository, now),
        *_judge_runs(profile, seen.runs, now),
    )
    ranked = sorted(lines, key=lambda line: _LEVELS[line.level])
    return NightPage(service=profile.name, title=profile.title, lines=tuple(ranked))


def judge_times(seen: SeenRuns, late_after: timedelta, now: datetime) -> tuple[JudgedTime, ...]:
    """Given what was due and the runs, return a verdict for each moment; a run counts for one of them.

    A run is late when it starts after ``late_after``, or when the next one was due already.
    """
    waiting: dict[tuple[str, datetime], list[SeenRun]] = defaultdict(list)
    for run in seen.runs:
        if run.due is not None:
            waiting[run.runbook, run.due].append(run)
    judged = []
    # Two schedules may share a moment: its only run is then not that of the one that is paused.
    for due in sorted(seen.runbooks, key=lambda runbook: runbook.paused):
        for moment, limit in _list_limits(due, late_after):
            found = waiting[due.runbook, moment]
            judged.append(
                _judge_run(found.pop(0), moment, limit, now) if found else _judge_nothing(due, moment)
            )
    return tuple(judged)


def conclude(page: NightPage) -> str:
    """Given a service's page, return one sentence or more to read aloud."""
    if not page.bad:
        notes = sum(line.level == "note" for line in page.lines)
        more = f" ({say_count(notes, 'thing')} to know)" if notes else ""
        return f"{page.service}: all is well{more}."
    named = "; ".join(f"{line.what} {line.how}" for line in page.bad[:_MOST_NAMED])
    more = f"; and {len(page.bad) - _MOST_NAMED} more" if len(page.bad) > _MOST_NAMED else ""
    return f"{page.service}: not well: {named}{more}."


def _list_limits(due: DueRunbook, late_after: timedelta) -> Iterator[tuple[datetime, timedelta]]:
    for moment, following in pairwise((*due.due, None)):
        if moment is not None:
            yield moment, late_after if following is None else min(late_after, following - moment)


def _judge_nothing(due: DueRunbook, moment: datetime) -> JudgedTime:
    if due.paused:
        reason = "Its schedule is paused: resume it in the Prefect UI if it should run."
        return JudgedTime(runbook=due.runbook, due=moment, verdict="paused", reason=reason)
    reason = "Prefect made no run, or somebody deleted it: was the server down?"
    return JudgedTime(runbook=due.runbook, due=moment, verdict="missed", reason=reason)


def _judge_run(run: SeenRun, moment: datetime, limit: timedelta, now: datetime) -> JudgedTime:
    verdict, reason = _say_verdict(run, moment, limit, now)
    return JudgedTime(runbook=run.runbook, due=moment, verdict=verdict, reason=reason)


def _say_verdict(run: SeenRun, moment: datetime, limit: timedelta, now: datetime) -> tuple[Verdict, str]:
    if run.state == "CRASHED" or (run.state == "FAILED" and run.runbook != RUNBOOK):
        return "failed", run.message or run.state_name
    if run.state in {"CANCELLED", "CANCELLING"}:
        return ("skipped" if run.state_name == "Skipped" else "cancelled"), run.message
    delay = (run.started or now) - moment
    if run.started is None and run.state in {"SCHEDULED", "PENDING"}:
        said = f"It is {run.state_name} and has not begun, {say_period(delay)} after its time"
        return ("late", f"{said}: does its worker run?") if delay > limit else ("waiting", f"{said}.")
    if delay > limit:
        return "late", f"It began {say_period(delay)} after its time. {run.message}".strip()
    return _say_begun(run, moment, now)


def _say_begun(run: SeenRun, moment: datetime, now: datetime) -> tuple[Verdict, str]:
    """Say of a run that began in time what it does or did."""
    if run.state == "RUNNING":
        return "running", f"It runs since {say_period(now - (run.started or moment))}."
    if run.state in {"PAUSED", "SCHEDULED", "PENDING"}:
        return "waiting", f"It is {run.state_name}. {run.message}".strip()
    # A page that named what failed did what it is for: else each one would fail for the one before.
    return "ran", run.message


def _judge_runs(profile: ServiceProfile, seen: SeenRuns | Unknown, now: datetime) -> Iterator[NightLine]:
    if isinstance(seen, Unknown):
        yield say_unseen("scheduled runs", seen)
        return
    if not seen.runbooks:
        yield NightLine(
            level="bad",
            what="scheduled runs",
            how="none is deployed",
            said=f"Prefect has no schedule of {profile.name}: run make deploy.",
        )
    if not seen.is_whole:
        said = "There were more runs than are read: ask for fewer hours."
        yield NightLine(level="bad", what="scheduled runs", how="not all seen", said=said)
    if profile.cleanup.rules:
        yield _judge_cleanup(profile, seen, now)
    groups: dict[tuple[Verdict, str], list[JudgedTime]] = defaultdict(list)
    totals: dict[str, int] = defaultdict(int)
    for judged in judge_times(seen, profile.backup.late_after, now):
        if (judged.runbook, judged.verdict) == (RUNBOOK, "running"):
            # The run that makes this page.
            continue
        groups[judged.verdict, judged.runbook].append(judged)
        totals[judged.runbook] += 1
    for verdict, runbook in sorted(groups, key=lambda group: (_RANKS[group[0]], group[1])):
        yield _sum_up(profile, groups[verdict, runbook], totals[runbook], seen.runs)


def _sum_up(
    profile: ServiceProfile, same: Sequence[JudgedTime], total: int, runs: Sequence[SeenRun]
) -> NightLine:
    """Return one line for the moments of a runbook that have one verdict; the newest speaks for them."""
    newest = max(same, key=lambda judged: judged.due)
    is_bad = newest.verdict in _BAD
    since = max(
        (
            run.started
            for run in runs
            if run.runbook == newest.runbook and run.state == "COMPLETED" and run.started is not None
        ),
        default=newest.due,
    )
    better = (
        f"It completed since, begun {say_moment(since, profile)}." if is_bad and since > newest.due else ""
    )
    times = f" {len(same)} of {total} times," if total > 1 else ""
    last = "the last one due" if len(same) > 1 else "due"
    return NightLine(
        level="bad" if is_bad else "good" if newest.verdict == "ran" else "note",
        what=newest.runbook,
        how=f"{newest.verdict},{times} {last} {say_moment(newest.due, profile)}",
        said=" ".join(word for word in (newest.reason, better) if word),
    )


def _judge_cleanup(profile: ServiceProfile, seen: SeenRuns, now: datetime) -> NightLine:
    limit = f"{say_period(_OLDEST_CLEANUP)} is the limit"
    if seen.cleaned_at is None:
        said = f"No run of it has completed: see audit-log-cleanup/{profile.name}."
        return NightLine(level="bad", what="newest cleanup", how="there is none", said=said)
    age = now - seen.cleaned_at
    return NightLine(
        level="bad" if age > _OLDEST_CLEANUP else "good",
        what="newest cleanup",
        how=f"{say_period(age)} ago",
        said=f"{limit}.",
    )


def _judge_repository(
    profile: ServiceProfile, seen: RepositoryState | Unknown, now: datetime
) -> Iterator[NightLine]:
    if isinstance(seen, Unknown):
        yield say_unseen("backups", seen)
        return
    for complaint in judge_freshness(seen, profile.backup.drill_every, now):
        yield NightLine(level="bad", what="backups", how="cannot be relied on", said=complaint)
    made = [found.created_at for found in seen.sets if found.kind != "safety"]
    drilled = [found.drilled_at for found in seen.sets if found.drill_passed and found.drilled_at is not None]
    for what, times, limit in (
        ("newest backup", made, OLDEST_SET),
        ("newest drill", drilled, profile.backup.drill_every),
    ):
        # One that is older was complained of.
        if times and now - max(times) <= limit:
            how, said = f"{say_period(now - max(times))} ago", f"{say_period(limit)} is the limit."
            yield NightLine(level="good", what=what, how=how, said=said)
