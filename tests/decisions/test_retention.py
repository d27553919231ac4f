"""Retention as a table of cases, as properties, and as the two disasters that must not happen again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decisions.backup_judgement import expect_summary
from flows.decisions.retention import plan_retention
from tasks.records.backup import RepositoryState, SetSummary, UnfinishedSet
from tasks.records.plans import RetentionPlan
from tasks.records.service import Retention

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)


def make_set(days_old: float, **changed: Any) -> SetSummary:
    created_at = NOW - timedelta(days=days_old)
    facts: dict[str, Any] = {
        "set_id": f"d{days_old:g}",
        "kind": "nightly",
        "created_at": created_at,
        "seconds": 8.0,
        "stored_bytes": 3_100_000,
        "raw_bytes": 14_200_000,
        "parts": 12,
        "entries": 10_482,
        "reread_passed": True,
        "drill_passed": None,
        "pinned": None,
        "leased_by": None,
    }
    return SetSummary(**(facts | changed))


def make_state(*sets: SetSummary, unfinished: tuple[UnfinishedSet, ...] = ()) -> RepositoryState:
    return RepositoryState(service="invoice", observed_at=NOW, sets=sets, unfinished=unfinished)


def make_policy(keep_days: int = 7, most_deletes: int = 1000, **counts: int) -> Retention:
    return Retention(keep_days=keep_days, most_deletes=most_deletes, **counts)


def plan(*sets: SetSummary, policy: Retention | None = None, **given_: Any) -> RetentionPlan:
    return plan_retention(make_state(*sets), policy or make_policy(), BERLIN, NOW, **given_)


def reasons_of(found: RetentionPlan, set_id: str) -> tuple[str, ...]:
    return next(decision.reasons for decision in found.decisions if decision.set_id == set_id)


# --- what is kept


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"pinned": "before migration 42"}, "pinned: before migration 42"),
        ({"leased_by": "restore-drill on host-b"}, "leased by restore-drill on host-b"),
        ({"drill_passed": True}, "newest that passed a restore drill"),
    ],
)
def test_an_old_set_stays_for_one_reason_alone(changed: dict[str, Any], reason: str) -> None:
    found = plan(make_set(1), make_set(100, **changed), make_set(101))
    assert reasons_of(found, "d100") == (reason,)
    assert found.deletes == ("d101",)


def test_only_the_newest_drilled_set_stays_for_its_drill() -> None:
    found = plan(make_set(1), make_set(50, drill_passed=True), make_set(80, drill_passed=True))
    assert found.deletes == ("d80",)


def test_the_newest_that_passed_a_reread_stays_however_old() -> None:
    found = plan(make_set(0, reread_passed=False), make_set(90), make_set(91))
    assert "newest that passed a reread" in reasons_of(found, "d90")
    assert found.deletes == ("d91",)


def test_a_drilled_set_that_was_damaged_since_does_not_push_out_a_sound_one() -> None:
    damaged = make_set(20, drill_passed=True, reread_passed=False)
    found = plan(make_set(1), damaged, make_set(30, drill_passed=True), make_set(31))
    assert found.deletes == ("d31",)
    assert reasons_of(found, "d30") == ("newest that passed a restore drill and has nothing against it",)


def test_sets_exactly_keep_days_old_go_and_younger_ones_stay() -> None:
    found = plan(make_set(0), make_set(6.99), make_set(7), policy=make_policy(7))
    assert found.deletes == ("d7",)
    assert reasons_of(found, "d6.99") == ("younger than 7 days",)


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ({"keep_daily": 3}, ["d0", "d1", "d2"]),
        ({"keep_weekly": 3}, ["d0", "d6", "d13"]),
        ({"keep_monthly": 3}, ["d0", "d21", "d52"]),
        ({"keep_daily": 2, "keep_weekly": 2, "keep_monthly": 2}, ["d0", "d1", "d6", "d21"]),
    ],
)
def test_the_newest_of_each_day_week_and_month_stays(counts: dict[str, int], kept: list[str]) -> None:
    # 2026-11-21 is a Saturday: the week before ends on Sunday the 15th, October on the 31st.
    found = plan(*(make_set(days) for days in range(90)), policy=make_policy(1, **counts))
    assert list(found.keeps) == kept


def test_periods_are_counted_by_sets_and_not_by_the_calendar() -> None:
    """As restic does: a service that was off for a year keeps its last three days."""
    found = plan(*(make_set(days) for days in range(400, 410)), policy=make_policy(1, keep_daily=3))
    assert found.keeps == ("d400", "d401", "d402")


def test_a_week_belongs_to_its_iso_year() -> None:
    new_year = make_set(0, set_id="friday", created_at=datetime(2027, 1, 1, 1, tzinfo=UTC))
    state = make_state(new_year).model_copy(update={"observed_at": new_year.created_at})
    found = plan_retention(state, make_policy(1, keep_weekly=1), BERLIN, new_year.created_at)
    assert "stands for week 2026-W53" in found.decisions[0].reasons


@pytest.mark.parametrize("verdict", ["reread_passed", "drill_passed"])
def test_a_set_that_failed_stands_for_no_day(verdict: str) -> None:
    failed = make_set(10, **{verdict: False})
    earlier = make_set(10.1, created_at=make_set(10).created_at - timedelta(minutes=30))
    found = plan(make_set(0), failed, earlier, policy=make_policy(1, keep_daily=2))
    assert found.deletes == ("d10",)
    assert reasons_of(found, "d10.1") == ("stands for day 2026-11-11",)


def test_a_set_not_yet_verified_stands_for_its_day() -> None:
    found = plan(make_set(0), make_set(10, reread_passed=None), policy=make_policy(1, keep_daily=2))
    assert found.deletes == ()


def test_a_verified_set_stands_for_its_week_before_a_newer_one_that_is_not() -> None:
    sunday, saturday, friday = make_set(13, reread_passed=None), make_set(14), make_set(15)
    found = plan(make_set(0), sunday, saturday, friday, policy=make_policy(1, keep_weekly=2))
    assert found.keeps == ("d0", "d14")
    assert "d14 stands for week 2026-W45" in reasons_of(found, "d13")


def test_a_failed_set_stays_while_it_is_young() -> None:
    found = plan(make_set(0), make_set(3, reread_passed=False))
    assert reasons_of(found, "d3") == ("younger than 7 days",)


def test_a_set_that_goes_says_what_no_longer_holds_it() -> None:
    found = plan(
        *(make_set(days) for days in (0, 1, 2, 40)),
        make_set(41, reread_passed=False),
        policy=make_policy(1, keep_daily=1, keep_weekly=1),
    )
    assert reasons_of(found, "d1") == (
        "not younger than 1 day",
        "day 2026-11-20 is not among the last 1 with sets",
        "d0 stands for week 2026-W47",
    )
    assert reasons_of(found, "d41") == ("not younger than 1 day", "failed its reread")


# --- the service's own days


@pytest.mark.parametrize(
    ("created_at", "day"),
    [
        # The day of the service, not of UTC: 23:30 UTC is half past midnight in Berlin.
        (datetime(2026, 11, 20, 23, 30, tzinfo=UTC), "2026-11-21"),
        (datetime(2026, 7, 10, 22, 30, tzinfo=UTC), "2026-07-11"),
        (datetime(2026, 7, 10, 21, 30, tzinfo=UTC), "2026-07-10"),
    ],
)
def test_a_day_is_a_day_of_the_services_zone(created_at: datetime, day: str) -> None:
    found = plan(make_set(0, set_id="x", created_at=created_at), policy=make_policy(1, keep_daily=1))
    assert f"stands for day {day}" in reasons_of(found, "x")


def test_the_hour_that_happens_twice_is_one_day() -> None:
    """On 2026-10-25 02:30 happens twice in Berlin; the later one, by UTC, is the newest of the day."""
    summer = make_set(0, set_id="summer", created_at=datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    winter = make_set(0, set_id="winter", created_at=datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    found = plan(summer, winter, policy=make_policy(1, keep_daily=1))
    assert found.keeps == ("winter",)


@pytest.mark.parametrize(
    ("now", "created_at", "kept"),
    [
        # Clocks went back on 2026-10-25: seven days of the wall clock have 169 hours.
        (datetime(2026, 10, 26, 1, 0, tzinfo=UTC), datetime(2026, 10, 19, 0, 30, tzinfo=UTC), True),
        (datetime(2026, 10, 26, 1, 0, tzinfo=UTC), datetime(2026, 10, 18, 23, 59, tzinfo=UTC), False),
        # Clocks went forward on 2026-03-29: seven days have 167 hours.
        (datetime(2026, 3, 30, 0, 0, tzinfo=UTC), datetime(2026, 3, 23, 0, 30, tzinfo=UTC), False),
        (datetime(2026, 3, 30, 0, 0, tzinfo=UTC), datetime(2026, 3, 23, 1, 1, tzinfo=UTC), True),
    ],
)
def test_days_are_days_of_the_wall_clock_when_the_clocks_change(
    now: datetime, created_at: datetime, kept: bool
) -> None:
    old = make_set(0, set_id="old", created_at=created_at)
    newest = make_set(0, set_id="newest", created_at=now)
    state = make_state(old, newest).model_copy(update={"observed_at": now})
    found = plan_retention(state, make_policy(7), BERLIN, now)
    assert ("old" in found.keeps) is kept


# --- tonight's set


def test_tonights_set_counts_before_it_is_there_and_is_not_listed() -> None:
    tonight = expect_summary("tonight", "nightly", NOW, None)
    found = plan(make_set(9), make_set(10), policy=make_policy(1, keep_daily=2), expected=tonight)
    assert found.deletes == ("d10",)
    assert [decision.set_id for decision in found.decisions] == ["d9", "d10"]


def test_tonights_set_takes_over_as_the_newest_that_passed_a_reread() -> None:
    assert plan(make_set(9)).deletes == ()
    assert plan(make_set(9), expected=expect_summary("tonight", "nightly", NOW, None)).deletes == ("d9",)


def test_once_it_is_there_tonights_set_is_judged_by_what_the_repository_says_of_it() -> None:
    tonight = expect_summary("tonight", "nightly", NOW, None)
    really = make_set(0, set_id="tonight", reread_passed=False)
    found = plan(really, make_set(9), make_set(10), expected=tonight)
    assert found.deletes == ("d10",)
    assert reasons_of(found, "tonight")[0] == "tonight's set"


def test_the_plan_shown_before_the_backup_equals_the_one_after_it() -> None:
    sets = [make_set(days) for days in range(1, 12)]
    tonight = expect_summary("tonight", "nightly", NOW, None)
    shown = plan(*sets, expected=tonight)
    later = NOW + timedelta(hours=3)
    made = make_set(0, set_id="tonight", created_at=later)
    state = make_state(made, *sets).model_copy(update={"observed_at": later})
    fresh = plan_retention(state, make_policy(), BERLIN, later, expected=tonight, as_of=shown.decided_at)
    assert shown.deletes == fresh.deletes != ()
    # Counted from three hours later, one more would go that nobody was shown.
    aged = make_set(6.9)
    state = state.model_copy(update={"sets": (made, aged)})
    assert plan_retention(state, make_policy(), BERLIN, later, as_of=NOW).deletes == ()
    assert plan_retention(state, make_policy(), BERLIN, later).deletes == ("d6.9",)


# --- refusals


def assert_refused(found: RetentionPlan, *words: str) -> None:
    assert found.refusal is not None
    for word in words:
        assert word in found.refusal
    assert found.deletes == ()
    assert found.collect == ()
    assert len(found.keeps) == len(found.decisions)


def test_more_deletes_than_the_cap_are_refused_by_name() -> None:
    sets = [make_set(0), *(make_set(days) for days in range(10, 16))]
    found = plan(*sets, policy=make_policy(7, most_deletes=5))
    assert_refused(found, "6 sets would go, the cap is 5", "d10, d11", "allow_deletes=6")
    assert sum(not decision.keep for decision in found.decisions) == 6
    assert plan(*sets, policy=make_policy(7, most_deletes=6)).refusal is None


def test_the_cap_can_be_raised_and_lowered_for_one_run() -> None:
    sets = [make_set(0), make_set(10), make_set(11)]
    assert plan(*sets, policy=make_policy(7, most_deletes=1), most_deletes=2).deletes == ("d10", "d11")
    assert_refused(plan(*sets, policy=make_policy(7), most_deletes=0), "the cap is 0")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"reread_passed": False}, "failed its reread"),
        ({"drill_passed": False}, "failed its restore drill"),
        ({"kind": "safety"}, "holds what a restore replaced"),
        ({"stored_bytes": 0}, "holds nothing"),
        ({"entries": 0}, "holds nothing"),
    ],
)
def test_a_set_that_goes_says_what_was_against_it(changed: dict[str, Any], why: str) -> None:
    found = plan(make_set(0), make_set(40, **changed), policy=make_policy(7, keep_monthly=2))
    assert reasons_of(found, "d40") == ("not younger than 7 days", why)


@pytest.mark.parametrize("minutes", [6, 60 * 24 * 400])
def test_a_clock_before_the_newest_set_is_refused(minutes: int) -> None:
    ahead = make_set(0, set_id="ahead", created_at=NOW + timedelta(minutes=minutes))
    assert_refused(plan(ahead, make_set(10)), "ahead", "clock", "delete that set by hand")


@pytest.mark.parametrize("minutes", [4, 5])
def test_a_few_minutes_of_skew_are_no_reason_to_refuse(minutes: int) -> None:
    ahead = make_set(0, set_id="ahead", created_at=NOW + timedelta(minutes=minutes))
    assert plan(ahead, make_set(10)).deletes == ("d10",)


def test_a_clock_before_the_observation_is_refused() -> None:
    state = make_state(make_set(10), make_set(11))
    found = plan_retention(state, make_policy(), BERLIN, NOW - timedelta(minutes=6))
    assert_refused(found, "clock", "the moment the repository was looked at")


def test_an_empty_keep_set_is_refused() -> None:
    failed = [make_set(days, reread_passed=False) for days in (10, 11)]
    assert_refused(plan(*failed), "No set would be kept", "d10, d11")


def test_an_empty_repository_is_no_reason_to_refuse() -> None:
    found = plan()
    assert (found.refusal, found.decisions) == (None, ())


def test_sets_that_may_be_good_never_go_while_only_bad_ones_would_stay() -> None:
    never_verified = [make_set(days, reread_passed=None) for days in (10, 11)]
    bad = [make_set(days, reread_passed=False) for days in range(7)]
    assert_refused(plan(*bad, *never_verified), "d10, d11", "last good ones")


# --- the disasters


@pytest.mark.parametrize("verdict", [False, None])
@pytest.mark.parametrize("nights", [7, 30, 365])
def test_bad_nights_never_evict_the_last_good_backup(verdict: bool | None, nights: int) -> None:
    """securityonion#15896: seven bad days evicted every good backup. Night after night, applied each time."""
    sets = [make_set(days) for days in range(8)]
    for night in range(1, nights + 1):
        now = NOW + timedelta(days=night)
        bad = make_set(-night, reread_passed=verdict)
        state = make_state(*sets, bad).model_copy(update={"observed_at": now})
        found = plan_retention(state, make_policy(7), BERLIN, now)
        sets = [kept for kept in state.sets if kept.set_id not in found.deletes]
        assert "d0" in [kept.set_id for kept in sets]


@pytest.mark.parametrize("emptied", [{"stored_bytes": 0}, {"entries": 0}])
def test_sets_of_nothing_that_pass_their_reread_never_evict_those_of_something(
    emptied: dict[str, int],
) -> None:
    """DBackup#154: 0 bytes were reported as success, and then retention ran."""
    sets = [make_set(0), make_set(1)]
    policy = make_policy(7, keep_daily=7)
    for night in range(1, 40):
        now = NOW + timedelta(days=night)
        state = make_state(*sets, make_set(-night, **emptied)).model_copy(update={"observed_at": now})
        found = plan_retention(state, policy, BERLIN, now)
        sets = [kept for kept in state.sets if kept.set_id not in found.deletes]
    assert {"d0", "d1"} <= {kept.set_id for kept in sets}


def test_a_database_that_was_always_empty_has_a_retention_too() -> None:
    found = plan(make_set(0, entries=0), make_set(10, entries=0))
    assert (found.refusal, found.deletes) == (None, ("d10",))


# --- what nobody finished


@pytest.mark.parametrize(
    ("hours_old", "tombstoned", "collected"),
    [(24, False, False), (24.1, False, True), (0.1, True, True), (-50, False, False)],
)
def test_unfinished_sets_are_collected_after_a_day_and_tombstoned_ones_at_once(
    hours_old: float, tombstoned: bool, collected: bool
) -> None:
    left = UnfinishedSet(
        set_id="left", last_written_at=NOW - timedelta(hours=hours_old), tombstoned=tombstoned
    )
    found = plan_retention(make_state(make_set(0), unfinished=(left,)), make_policy(), BERLIN, NOW)
    assert (found.collect == ("left",)) is collected


def test_what_is_listed_as_a_set_or_is_tonights_own_is_never_collected() -> None:
    old = NOW - timedelta(days=9)
    left = tuple(UnfinishedSet(set_id=name, last_written_at=old, tombstoned=True) for name in ("d0", "own"))
    state = make_state(make_set(0), unfinished=left)
    found = plan_retention(
        state, make_policy(), BERLIN, NOW, expected=expect_summary("own", "nightly", NOW, None)
    )
    assert found.collect == ()


def test_a_refused_plan_collects_nothing() -> None:
    left = UnfinishedSet(set_id="left", last_written_at=NOW - timedelta(days=9), tombstoned=False)
    state = make_state(make_set(0), make_set(10), unfinished=(left,))
    assert_refused(plan_retention(state, make_policy(), BERLIN, NOW, most_deletes=0))


# --- properties

MAYBE = st.sampled_from([True, False, None])


@st.composite
def many_sets(draw: st.DrawFn) -> tuple[SetSummary, ...]:
    hours = draw(st.lists(st.integers(0, 24 * 500), unique=True, max_size=25))
    return tuple(
        make_set(
            hour / 24,
            set_id=f"h{hour}",
            reread_passed=draw(MAYBE),
            drill_passed=draw(MAYBE),
            pinned=draw(st.sampled_from([None, None, None, "kept"])),
            leased_by=draw(st.sampled_from([None, None, None, "drill"])),
            entries=draw(st.sampled_from([0, 5, 10_482])),
            stored_bytes=draw(st.sampled_from([0, 20, 3_100_000])),
        )
        for hour in hours
    )


policies = st.builds(
    Retention,
    keep_days=st.integers(1, 60),
    keep_daily=st.integers(0, 10),
    keep_weekly=st.integers(0, 6),
    keep_monthly=st.integers(0, 6),
    most_deletes=st.sampled_from([0, 3, 1000]),
)
expectations = st.sampled_from([None, expect_summary("tonight", "nightly", NOW, None)])


@given(sets=many_sets(), policy=policies, expected=expectations)
@settings(deadline=None)
def test_every_set_is_kept_or_deleted_with_a_reason(
    sets: tuple[SetSummary, ...], policy: Retention, expected: SetSummary | None
) -> None:
    found = plan(*sets, policy=policy, expected=expected)
    assert sorted(found.keeps + found.deletes) == sorted(each.set_id for each in sets)
    assert not set(found.keeps) & set(found.deletes)
    assert all(decision.reasons for decision in found.decisions)
    ages = [decision.created_at for decision in found.decisions]
    assert ages == sorted(ages, reverse=True)
    assert len(found.deletes) <= policy.most_deletes


@given(sets=many_sets(), policy=policies, expected=expectations)
@settings(deadline=None)
def test_protected_sets_never_go(
    sets: tuple[SetSummary, ...], policy: Retention, expected: SetSummary | None
) -> None:
    newest_first = sorted(sets, key=lambda each: each.created_at, reverse=True)
    protected = {each.set_id for each in sets if each.pinned or each.leased_by}
    protected |= {each.set_id for each in [one for one in newest_first if one.drill_passed][:1]}
    if expected is None:
        protected |= {each.set_id for each in [one for one in newest_first if one.reread_passed][:1]}
    assert not protected & set(plan(*sets, policy=policy, expected=expected).deletes)


@given(sets=many_sets(), policy=policies)
@settings(deadline=None)
def test_where_anything_goes_something_proven_stays(sets: tuple[SetSummary, ...], policy: Retention) -> None:
    found = plan(*sets, policy=policy)
    if found.deletes:
        stay = [each for each in sets if each.set_id in found.keeps]
        assert any(
            each.reread_passed and each.drill_passed is not False and each.stored_bytes for each in stay
        )
        if any(each.entries for each in sets):
            assert any(each.entries and each.reread_passed for each in stay)


@given(sets=many_sets(), policy=policies, expected=expectations)
@settings(deadline=None)
def test_applying_a_plan_and_planning_again_deletes_nothing_more(
    sets: tuple[SetSummary, ...], policy: Retention, expected: SetSummary | None
) -> None:
    first = plan(*sets, policy=policy, expected=expected)
    left = [each for each in sets if each.set_id not in first.deletes]
    if first.refusal is None:
        assert plan(*left, policy=policy, expected=expected).deletes == ()


@given(sets=many_sets(), policy=policies, data=st.data())
@settings(deadline=None)
def test_the_order_of_the_sets_means_nothing(
    sets: tuple[SetSummary, ...], policy: Retention, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(sets))
    assert plan(*sets, policy=policy) == plan(*shuffled, policy=policy)


@given(sets=many_sets(), policy=policies, verdict=st.sampled_from([True, False, None]))
@settings(deadline=None)
def test_one_more_set_never_takes_away_what_protects_another(
    sets: tuple[SetSummary, ...], policy: Retention, verdict: bool | None
) -> None:
    held = {
        decision.set_id
        for decision in plan(*sets, policy=policy).decisions
        if any(
            reason.startswith(("pinned", "leased", "newest that passed a restore"))
            for reason in decision.reasons
        )
    }
    more = make_set(0, set_id="more", reread_passed=verdict, entries=0)
    assert not held & set(plan(*sets, more, policy=policy).deletes)


@given(sets=many_sets(), policy=policies, wider=st.integers(0, 60))
@settings(deadline=None)
def test_a_wider_policy_never_deletes_more(
    sets: tuple[SetSummary, ...], policy: Retention, wider: int
) -> None:
    narrow = plan(*sets, policy=policy, most_deletes=1000)
    wide_policy = policy.model_copy(
        update={"keep_days": policy.keep_days + wider, "keep_weekly": policy.keep_weekly + wider}
    )
    wide = plan(*sets, policy=wide_policy, most_deletes=1000)
    if narrow.refusal is None:
        assert set(wide.deletes) <= set(narrow.deletes)
