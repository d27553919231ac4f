"""What a person reads of the night: each moment once, the worst first, and nothing that was not so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.last_night import conclude, judge_night, judge_times, look_back, refuse_hours
from tasks.records.backup import RepositoryState, SetSummary
from tasks.records.credential_age import CredentialAge
from tasks.records.escalation import EscalationRecord, EscalationStep, Opening, StepKind
from tasks.records.last_night import DueRunbook, NightPage, SeenAlert, SeenNight, SeenRun, SeenRuns
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
SINCE = NOW - timedelta(hours=24)
TWO = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
LATE = timedelta(hours=2)
PROFILE = ServiceProfile.model_validate(
    {
        "name": "invoice",
        "title": "Invoices",
        "time_zone": "Europe/Berlin",
        "application": {
            "directory": "/srv/invoice",
            "health_url": "http://127.0.0.1:1/health",
            "process_manager": "pm2",
            "process_name": "invoice",
        },
        "database": {"kind": "mongodb", "url_variable": "URL", "admin_url": "env:URL"},
        "backup": {"destination": {"url": "file:///backups"}, "retention": {"keep_days": 7}},
    }
)
WITH_CLEANUP = PROFILE.model_copy(
    update={
        "cleanup": PROFILE.cleanup.model_validate(
            {"rules": [{"name": "log", "source": "log", "time_field": "at", "older_than": "P9D"}]}
        )
    }
)
SET = SetSummary(
    set_id="tonight",
    kind="nightly",
    created_at=NOW - timedelta(hours=4),
    seconds=1,
    stored_bytes=1,
    raw_bytes=1,
    parts=1,
    entries=1,
    reread_passed=True,
    drill_passed=True,
    drilled_at=NOW - timedelta(hours=3),
    pinned=None,
    leased_by=None,
)


def run(state: str = "COMPLETED", *, after: float | None = 0.1, **facts: Any) -> SeenRun:
    """Make a run that was due at two and began so many hours later."""
    started = None if after is None else TWO + timedelta(hours=after)
    made = {
        "runbook": "nightly-backup",
        "due": TWO,
        "state_name": state.title(),
        "message": "",
        "started": started,
    }
    return SeenRun(state=state, **(made | facts))


def due(*moments: datetime, paused: bool = False, runbook: str = "nightly-backup") -> DueRunbook:
    return DueRunbook(runbook=runbook, paused=paused, due=moments or (TWO,))


def seen(*runs: SeenRun, runbooks: tuple[DueRunbook, ...] = (due(),), **facts: Any) -> SeenRuns:
    return SeenRuns(runbooks=runbooks, runs=runs, **({"cleaned_at": None, "is_whole": True} | facts))


def judge(runs: SeenRuns | Unknown, profile: ServiceProfile = PROFILE, **facts: Any) -> NightPage:
    repository = RepositoryState(service="invoice", observed_at=NOW, sets=(SET,), unfinished=())
    night = {
        "runs": runs,
        "repository": repository,
        "escalations": (),
        "going_on": frozenset({""}),
        "half_done": (),
    }
    return judge_night(profile, SeenNight(**(night | facts)), SINCE, NOW)


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (run(message="32 sets."), "ran", "32 sets."),
        (run(after=2), "ran", ""),
        (run(after=2.5, message="32 sets."), "late", "It began 2 h 30 min after its time. 32 sets."),
        (run("FAILED", message="The disk is full."), "failed", "The disk is full."),
        (run("FAILED", after=3), "failed", "Failed"),
        (run("FAILED", after=None, message="It could not begin."), "failed", "It could not begin."),
        (run("CRASHED"), "failed", "Crashed"),
        (run("CANCELLED", after=4, state_name="Skipped", message="Late."), "skipped", "Late."),
        (run("CANCELLED", after=None), "cancelled", ""),
        (run("RUNNING"), "running", "It runs since 4 h 54 min."),
        (run("RUNNING", after=3), "late", "It began 3 h after its time."),
        (run("PAUSED", state_name="Suspended"), "waiting", "It is Suspended."),
        (run("SCHEDULED", state_name="AwaitingRetry"), "waiting", "It is AwaitingRetry."),
        (
            run("SCHEDULED", after=None, state_name="Late"),
            "late",
            "It is Late and has not begun, 5 h after its time: does its worker run?",
        ),
        (
            run("FAILED", due=None),
            "missed",
            "Prefect made no run, or somebody deleted it: was the server down?",
        ),
        (
            run(runbook="check-backups"),
            "missed",
            "Prefect made no run, or somebody deleted it: was the server down?",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_became_of_a_run_that_was_due(found: SeenRun, verdict: str, said: str) -> None:
    (judged,) = judge_times(seen(found), LATE, NOW)
    assert (judged.due, judged.verdict, judged.reason) == (TWO, verdict, said)


def test_a_run_that_is_due_this_moment_may_still_wait_for_its_worker() -> None:
    found = run("PENDING", after=None, due=NOW - timedelta(seconds=5))
    (judged,) = judge_times(seen(found, runbooks=(due(NOW - timedelta(seconds=5)),)), LATE, NOW)
    assert judged.verdict == "waiting"


def test_what_runs_every_ten_minutes_is_late_when_the_next_one_was_due_already() -> None:
    moments = (TWO, TWO + timedelta(minutes=10))
    runs = (run(after=0.2), run(due=moments[1], after=0.2))
    judged = judge_times(seen(*runs, runbooks=(due(*moments),)), LATE, NOW)
    assert [each.verdict for each in judged] == ["late", "ran"]


def test_a_paused_schedule_is_no_fault_but_a_run_that_it_made_before_counts() -> None:
    moments = (TWO, TWO + timedelta(hours=1))
    page = judge(seen(run("FAILED"), runbooks=(due(*moments, paused=True),)))
    assert [(line.level, line.how) for line in page.lines if line.what == "nightly-backup"] == [
        ("bad", "failed, 1 of 2 times, due Sat 02:00"),
        ("note", "paused, 1 of 2 times, due Sat 03:00"),
    ]


def test_a_run_at_a_moment_that_two_schedules_share_is_not_that_of_the_paused_one() -> None:
    judged = judge_times(seen(run(), runbooks=(due(paused=True), due())), LATE, NOW)
    assert sorted(each.verdict for each in judged) == ["paused", "ran"]


def test_a_page_that_failed_yesterday_does_not_make_todays_fail() -> None:
    yesterday = run("FAILED", runbook="last-night", message="nightly-backup failed")
    today = run("RUNNING", runbook="last-night", due=NOW - timedelta(minutes=1), started=NOW)
    moments = due(TWO, NOW - timedelta(minutes=1), runbook="last-night")
    page = judge(seen(yesterday, today, runbooks=(moments,)))
    assert conclude(page) == "invoice: all is well."
    crashed = run("CRASHED", runbook="last-night")
    assert judge(seen(crashed, runbooks=(due(runbook="last-night"),))).bad


def test_a_good_night_is_one_sentence_with_every_age_beside_its_limit() -> None:
    page = judge(seen(run(), cleaned_at=NOW - timedelta(hours=2)), WITH_CLEANUP)
    assert conclude(page) == "invoice: all is well."
    assert {(line.what, line.how, line.said) for line in page.lines} == {
        ("newest backup", "4 h ago", "1 day 4 h is the limit."),
        ("newest drill", "3 h ago", "35 days is the limit."),
        ("newest cleanup", "2 h ago", "1 day 4 h is the limit."),
        ("nightly-backup", "ran, due Sat 02:00", ""),
    }


def test_a_bad_night_names_the_worst_first() -> None:
    runbooks = (
        due(),
        due(runbook="a-report"),
        due(runbook="check-backups"),
        due(runbook="drill", paused=True),
    )
    runs = (run(runbook="a-report"), run("FAILED", runbook="check-backups", message="No set."))
    page = judge(seen(*runs, runbooks=runbooks), WITH_CLEANUP, half_done=("restore-database",))
    assert [(line.level, line.what) for line in page.lines] == [
        ("bad", "restore-database"),
        ("bad", "newest cleanup"),
        ("bad", "nightly-backup"),
        ("bad", "check-backups"),
        ("note", "drill"),
        ("good", "newest backup"),
        ("good", "newest drill"),
        ("good", "a-report"),
    ]
    assert conclude(page) == (
        "invoice: not well: restore-database half done; newest cleanup there is none; nightly-backup missed, "
        "due Sat 02:00; check-backups failed, due Sat 02:00."
    )


def test_what_was_done_again_by_hand_is_told_beside_what_went_wrong() -> None:
    again = run(due=None, after=4)
    (line,) = judge(seen(run("FAILED", message="The disk is full."), again)).bad
    assert line.said == "The disk is full. It completed since, begun Sat 06:00."
    (line,) = judge(seen(run("FAILED"), run(due=None, after=-1))).bad
    assert "since" not in line.said


def test_old_backups_and_cleanups_are_told_once_each() -> None:
    old = SET.model_copy(update={"created_at": NOW - timedelta(hours=30)})
    repository = RepositoryState(service="invoice", observed_at=NOW, sets=(old,), unfinished=())
    page = judge(seen(run(), cleaned_at=NOW - timedelta(hours=29)), WITH_CLEANUP, repository=repository)
    assert [(line.what, line.how) for line in page.bad] == [
        ("backups", "cannot be relied on"),
        ("newest cleanup", "1 day 5 h ago"),
    ]
    assert "newest backup" not in {line.what for line in page.lines}


@pytest.mark.parametrize(
    ("end", "hours_ago", "level"),
    [
        (None, 0, "bad"),
        ("nobody left", 1, "bad"),
        ("acknowledged", 1, "note"),
        ("recovered", 1, "note"),
        ("acknowledged", 30, None),
    ],
)
def test_an_escalation_is_told_while_it_is_open_and_the_morning_after(
    end: StepKind | None, hours_ago: int, level: str | None
) -> None:
    opening = Opening(id="e", service="invoice", at=SINCE, reason="It is down.", was_down=True)
    at = NOW - timedelta(hours=hours_ago)
    steps = (
        () if end is None else (EscalationStep(at=at, kind=end, by="Ada" if end == "acknowledged" else ""),)
    )
    page = judge(seen(run()), escalations=(EscalationRecord(opening=opening, steps=steps),))
    found = [line for line in page.lines if line.what == "escalation"]
    assert [line.level for line in found] == ([level] if level else [])


@pytest.mark.parametrize(
    ("going_on", "stranded"),
    [
        (frozenset({"e"}), False),
        (frozenset({""}), False),
        (Unknown(why="No server."), False),
        (frozenset({"another"}), True),
        (frozenset(), True),
    ],
)
def test_an_open_escalation_that_no_run_goes_on_with_says_how_to_start_it(
    going_on: frozenset[str] | Unknown, stranded: bool
) -> None:
    opening = Opening(id="e", service="invoice", at=SINCE, reason="It is down.", was_down=True)
    page = judge(seen(run()), escalations=(EscalationRecord(opening=opening),), going_on=going_on)
    (line,) = (line for line in page.lines if line.what == "escalation")
    assert ("start escalate/invoice with escalation e." in line.said) is stranded


def a_credential(name: str, days: int, **changes: Any) -> CredentialAge:
    facts = {
        "service": "invoice",
        "name": name,
        "owner": None,
        "held_in": name.upper(),
        "is_set": True,
        "since": NOW - timedelta(days=days),
        "rotate_every": timedelta(days=90),
    }
    return CredentialAge.model_validate(facts | changes)


def test_credentials_that_are_overdue_or_half_rotated_are_on_the_page_and_the_rest_in_a_line() -> None:
    credentials = (
        a_credential("jwt-secret", 91),
        a_credential("stripe-key", 5, retires=NOW - timedelta(hours=4)),
        a_credential("s3", 0, retires=NOW + timedelta(hours=4)),
        a_credential("smtp", 80),
        a_credential("sendgrid-key", 12),
    )
    page = judge(seen(run()), credentials=credentials)
    lines = {line.what: (line.level, line.how) for line in page.lines if "credential" in line.what}
    assert lines == {
        "credential jwt-secret": ("bad", "overdue"),
        "credential stripe-key": ("bad", "not retired"),
        "credential s3": ("note", "rotated, the old one is retired Sat 11:00"),
        "credential smtp": ("note", "due soon"),
        "credentials": ("good", "2 are young enough, the oldest 12 days old"),
    }


def test_alerts_that_started_nothing_are_on_the_page_the_refused_for_somebody_to_look_at() -> None:
    alerts = tuple(
        SeenAlert(name=name, state=state, reason=reason, count=count, last_seen=TWO)
        for name, state, reason, count in (
            ("DiskOdd", "unmapped", "no route matches", 3),
            ("Down", "refused", "There is no deployment x/invoice", 1),
            ("Slow", "waiting", "", 1),
        )
    )
    lines = {line.what: line for line in judge(seen(run()), alerts=alerts).lines if "alert" in line.what}
    assert {what: (line.level, line.how) for what, line in lines.items()} == {
        "alert DiskOdd": ("note", "started nothing, 3 times, last Sat 02:00"),
        "alert Down": ("bad", "was refused, last Sat 02:00"),
        "alert Slow": ("bad", "waits for its run, last Sat 02:00"),
    }
    assert lines["alert Down"].said.startswith("There is no deployment x/invoice. Prefect does not start")


def test_what_cannot_be_seen_is_not_well_and_says_why() -> None:
    blind = Unknown(why="The server does not answer.")
    page = judge(blind, repository=blind, escalations=blind, half_done=blind, alerts=blind, credentials=blind)
    assert [(line.how, line.said) for line in page.bad] == [("not seen", "The server does not answer.")] * 6
    assert judge(seen(runbooks=())).bad
    assert judge(seen(run(), is_whole=False)).bad


def test_how_far_to_look_back_has_bounds() -> None:
    assert [bool(refuse_hours(hours)) for hours in (-1, 0, 1, 168, 169)] == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("due", "hours", "since"),
    [
        ("2026-11-21T07:00+01:00", 24, "2026-11-20T07:00+01:00"),
        ("2026-10-25T07:00+01:00", 24, "2026-10-24T07:00+02:00"),
        ("2026-03-29T07:00+02:00", 24, "2026-03-28T07:00+01:00"),
        ("2026-03-29T07:00+02:00", 49, "2026-03-27T06:00+01:00"),
        ("2026-03-29T03:30+02:00", 1, "2026-03-29T01:30+01:00"),
    ],
)
def test_a_page_begins_where_the_one_before_ended_when_the_clocks_change_too(
    due: str, hours: int, since: str
) -> None:
    assert look_back(datetime.fromisoformat(due), hours, PROFILE.zone) == datetime.fromisoformat(since)


MOMENTS = st.integers(0, 6).map(lambda hour: SINCE + timedelta(hours=hour))
STATES = st.sampled_from(
    ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING"]
)
RUNS = st.builds(
    SeenRun,
    runbook=st.sampled_from(["a", "b", "last-night"]),
    due=st.none() | MOMENTS,
    state=STATES,
    state_name=st.sampled_from(["Late", "Skipped", "x"]),
    message=st.text(max_size=3),
    started=st.none() | MOMENTS,
)
RUNBOOKS = st.builds(
    DueRunbook,
    runbook=st.sampled_from(["a", "b", "last-night"]),
    paused=st.booleans(),
    due=st.lists(MOMENTS, unique=True).map(lambda moments: tuple(sorted(moments))),
)


@given(st.lists(RUNS, max_size=8), st.lists(RUNBOOKS, max_size=4))
def test_every_moment_gets_exactly_one_verdict_and_a_run_counts_for_one_only(
    runs: list[SeenRun], runbooks: list[DueRunbook]
) -> None:
    judged = judge_times(seen(*runs, runbooks=tuple(runbooks)), LATE, NOW)
    wanted = sorted((each.runbook, moment) for each in runbooks for moment in each.due)
    assert sorted((each.runbook, each.due) for each in judged) == wanted
    for runbook, moment in set(wanted):
        due_times = wanted.count((runbook, moment))
        made = sum((each.runbook, each.due) == (runbook, moment) for each in runs)
        verdicts = [each.verdict for each in judged if (each.runbook, each.due) == (runbook, moment)]
        assert sum(verdict in {"missed", "paused"} for verdict in verdicts) == max(due_times - made, 0)


@given(st.lists(RUNS, max_size=8), st.lists(RUNBOOKS, max_size=4))
def test_the_worst_comes_first_and_well_is_said_only_of_a_page_without_anything_bad(
    runs: list[SeenRun], runbooks: list[DueRunbook]
) -> None:
    page = judge(seen(*runs, runbooks=tuple(runbooks)))
    levels = [line.level for line in page.lines]
    assert levels == sorted(levels, key=["bad", "note", "good"].index)
    assert ("all is well" in conclude(page)) == ("bad" not in levels)
