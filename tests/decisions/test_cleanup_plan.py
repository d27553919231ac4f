"""What a cleanup does and refuses: cutoffs, deadlines, wrong clocks, typos, missing indexes."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.cleanup_judgement import judge_cleanup, say_cleaned
from flows.decisions.cleanup_plan import (
    CleanupFacts,
    CleanupPlan,
    choose_cutoffs,
    find_deadline,
    list_grounds,
    plan_cleanup,
)
from flows.decisions.drift import find_drift
from tasks.records.cleanup import MOST_WITHOUT_INDEX, AfterCleaning, CleanedRule, MonthOfExpired, RuleFacts
from tasks.records.data_care import CleanupRule, RecommendedIndex
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 22, 16, 30, 0, 123_456, tzinfo=UTC)
YEAR = timedelta(days=365)
ARCHIVE = "20261122T163000Z-0a1b2c"
SYDNEY = ZoneInfo("Australia/Sydney")
LOG = CleanupRule(name="audit-log", source="auditLogs", time_field="timestamp", older_than=YEAR)
OTPS = CleanupRule(
    name="otps",
    source="otps",
    time_field="expiresAt",
    older_than=timedelta(0),
    archive=False,
    may_empty=True,
)


def profile(*rules: CleanupRule, **cleanup: Any) -> ServiceProfile:
    return ServiceProfile.model_validate(
        {
            "name": "invoice",
            "title": "Invoices",
            "time_zone": "Australia/Sydney",
            "application": {
                "directory": "/srv/invoice",
                "health_url": "http://127.0.0.1/health",
                "process_manager": "pm2",
                "process_name": "invoice",
            },
            "database": {"kind": "mongodb", "url_variable": "URL", "admin_url": "env:ADMIN"},
            "backup": {"destination": {"url": "file:///backups"}, "retention": {"keep_days": 7}},
            "cleanup": {"rules": list(rules), **cleanup},
        }
    )


def meets(rule: CleanupRule, **changed: Any) -> RuleFacts:
    months = (MonthOfExpired(month="2025-10", entries=40, raw_bytes=4000),)
    found: dict[str, Any] = {
        "rule": rule.name,
        "source": rule.source,
        "exists": True,
        "entries": 100,
        "newest": NOW,
        "months": months,
        "index": "timestamp_1",
    }
    return RuleFacts(**(found | changed))


def plan(rule: CleanupRule = LOG, facts: Mapping[str, Any] | None = None, **changed: Any) -> CleanupPlan:
    return plan_of((rule,), (meets(rule, **changed),), **(facts or {}))


def plan_of(rules: tuple[CleanupRule, ...], found: tuple[RuleFacts, ...], **changed: Any) -> CleanupPlan:
    facts: dict[str, Any] = {
        "now": NOW,
        "servers_clock": NOW,
        "last_run": None,
        "database": "invoice",
        "identity": "0a1b2c",
        "rules": found,
        "archive_ids": {rule.name: ARCHIVE for rule in rules},
    }
    return plan_cleanup(profile(*rules), CleanupFacts(**(facts | changed)))


def test_a_plan_says_what_goes_why_how_many_and_how_to_undo_it() -> None:
    made = plan_of((LOG, OTPS), (meets(LOG), meets(OTPS)))
    log, otps = made.acts
    older = "what of auditLogs has its timestamp before 2025-11-22 16:30 UTC"
    assert log.what == f"Archive as {ARCHIVE} and delete {older}"
    assert (log.why, log.how_many) == ("The rule audit-log keeps 365 days", "about 40 entries, 4.0 kB")
    assert log.undo == f"Run restore-archive with the rule audit-log and the archive {ARCHIVE}"
    assert otps.what == "Delete what of otps has its expiresAt before 2026-11-22 16:30 UTC"
    assert otps.undo == "It cannot be undone"
    assert made.summary == "About 80 entries (8.0 kB) go by 2 of 2 rules."
    assert [work.archive_id for work in made.rules] == [ARCHIVE, None]


def test_a_rule_by_which_nothing_goes_has_no_act() -> None:
    made = plan(months=())
    assert (made.rules, made.acts, made.refused) == ((), (), ())
    assert made.summary == "Nothing goes by any of 1 rule."


# --- Cutoffs and deadlines ---


@given(st.timedeltas(min_value=timedelta(0)), st.datetimes(timezones=st.just(UTC)))
def test_a_cutoff_is_never_younger_than_the_rule_says(older_than: timedelta, now: datetime) -> None:
    rule = LOG.model_copy(update={"older_than": older_than})
    cutoff = choose_cutoffs((rule,), now)["audit-log"]
    assert now - cutoff >= older_than or cutoff == datetime.min.replace(tzinfo=UTC)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.times(),
    st.sampled_from(["Australia/Sydney", "America/New_York", "UTC"]),
)
def test_a_deadline_is_the_next_time_the_services_clock_shows_it(
    started: datetime, stop_at: time, zone: str
) -> None:
    deadline = find_deadline(started, stop_at, ZoneInfo(zone))
    assert deadline is not None
    # A day in which the clock changes has 23 or 25 hours, and its night may skip an hour.
    assert timedelta(0) < deadline - started <= timedelta(hours=25)


def test_a_deadline_is_of_the_same_night() -> None:
    started = datetime(2026, 11, 22, 3, 30, tzinfo=SYDNEY)
    assert find_deadline(started, time(5), SYDNEY) == datetime(2026, 11, 22, 5, tzinfo=SYDNEY)
    assert find_deadline(started, time(3, 30), SYDNEY) == datetime(2026, 11, 23, 3, 30, tzinfo=SYDNEY)
    assert find_deadline(started, None, SYDNEY) is None


# --- Refused ---


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"exists": False, "others": ("auditLog", "users")},
            "there is no auditLogs in the database. Did you mean auditLog?",
        ),
        ({"exists": False, "others": ("x",)}, "there is no auditLogs in the database."),
        ({"has_time_field": False}, "no entry of auditLogs has a time in timestamp: correct time_field."),
        (
            {"wrong_type": 3, "wrong_type_example": "_id 1, which has a value of type str"},
            (
                "3 entries of auditLogs with something else than a time in timestamp, as _id 1, which has a "
                "value of type str: such never expire. Convert them first."
            ),
        ),
        ({"obstacles": ("auditLogs is a view.",)}, "auditLogs is a view."),
        (
            {"index": None, "entries": MOST_WITHOUT_INDEX + 1},
            (
                "no index of auditLogs begins with timestamp, and every batch would read all of its 10,001 "
                "entries: add {source: auditLogs, key: {timestamp: 1}} to the profile's indexes and run "
                "ensure-indexes."
            ),
        ),
        (
            {"newest": NOW - 2 * YEAR},
            (
                "the newest entry of auditLogs is of 2024-11-22, so that all would go: the clock is wrong, "
                "or nobody writes there any more. If that is as it should be, set may_empty."
            ),
        ),
    ],
)
def test_a_rule_that_cannot_be_right_is_refused_in_words(changed: dict[str, Any], said: str) -> None:
    made = plan(**changed)
    assert made.refused == (f"audit-log: {said}",)
    assert (made.rules, made.refusal) == ((), None)
    assert judge_cleanup(made, (), finished=True) == (f"Not applied: audit-log: {said}",)


def test_the_index_that_is_advised_is_what_a_profile_takes() -> None:
    (said,) = plan(index=None, entries=MOST_WITHOUT_INDEX + 1).refused
    advised = re.search(r"add (\{.*\}) to the profile", said)
    assert advised is not None
    index = RecommendedIndex.model_validate(yaml.safe_load(advised[1]))
    assert (index.source, index.key) == (LOG.source, {LOG.time_field: 1})


def test_a_legal_hold_that_keeps_nothing_is_said() -> None:
    held = LOG.model_copy(update={"legal_hold": {"organizationID": "ACME"}})
    (warning,) = plan(held).warnings
    assert warning.startswith("audit-log: its legal_hold keeps nothing of what has expired")
    assert plan(held, held=1).warnings == ()
    assert plan(held, months=()).warnings == ()
    assert plan(LOG).warnings == ()


def test_a_rule_that_is_refused_keeps_no_other_from_its_work() -> None:
    made = plan_of((LOG, OTPS), (meets(LOG, wrong_type=1), meets(OTPS)))
    assert [work.rule.name for work in made.rules] == ["otps"]
    assert made.summary == "About 40 entries (4.0 kB) go by 1 of 2 rules."


def test_few_entries_do_without_an_index_and_an_empty_source_without_a_word() -> None:
    made = plan(index=None)
    assert (made.refused, len(made.rules)) == ((), 1)
    (warning,) = made.warnings
    assert warning.startswith(
        "audit-log: no index of auditLogs begins with timestamp; its 100 entries are few"
    )
    assert plan(index=None, entries=0, months=()).warnings == ()


def test_what_else_a_deletion_does_is_said_and_refuses_nothing() -> None:
    made = plan(cautions=("audit has the trigger told for DELETE.",))
    assert made.warnings == (f"{LOG.name}: audit has the trigger told for DELETE.",)
    assert made.refused == ()


def test_a_rule_may_empty_its_source_if_it_says_so() -> None:
    old = NOW - timedelta(days=1)
    assert plan(OTPS, newest=old).refused == ()
    assert plan(newest=NOW - 2 * YEAR, months=()).refused == ()


@pytest.mark.parametrize("apart", [timedelta(minutes=6), -timedelta(minutes=6)])
def test_clocks_that_differ_refuse_the_whole_run(apart: timedelta) -> None:
    refusal = plan(facts={"servers_clock": NOW + apart}).refusal
    assert refusal is not None
    assert "clock and the database server's are 6 min apart" in refusal
    assert plan(facts={"servers_clock": NOW + apart / 2}).refusal is None


def test_a_clock_behind_the_last_run_refuses_the_whole_run() -> None:
    assert plan(facts={"last_run": NOW}).refusal is None
    refusal = plan(facts={"last_run": NOW + timedelta(seconds=1)}).refusal
    assert refusal is not None
    assert refusal.startswith("The last cleanup ran at 2026-11-22 16:30 UTC")


def test_a_profile_without_rules_is_told() -> None:
    assert "no cleanup.rules" in str(plan_of((), ()).refusal)


# --- What it rests on ---


def test_a_plan_rests_on_the_rule_and_the_database_and_not_on_counts() -> None:
    shown = plan()
    assert find_drift(shown, plan(entries=7, newest=NOW + YEAR)) is None
    other = LOG.model_copy(update={"legal_hold": {"a": 1}})
    for grounds in (
        list_grounds((LOG,), "invoice", "other"),
        list_grounds((LOG,), "other", "0a1b2c"),
        list_grounds((other,), "invoice", "0a1b2c"),
        list_grounds((), "invoice", "0a1b2c"),
    ):
        assert find_drift(shown, shown.model_copy(update={"rests_on": grounds})) is not None


# --- What is said afterwards ---


def cleaned(entries: int, archive_id: str | None = ARCHIVE) -> CleanedRule:
    return CleanedRule(
        rule="audit-log", archive_id=archive_id, entries=entries, raw_bytes=4000, stored_bytes=900
    )


def test_what_was_done_is_said_with_its_archive_and_what_is_left() -> None:
    said = f"40 entries deleted by audit-log, 4.0 kB that are 900 bytes in the archive {ARCHIVE}."
    assert say_cleaned((cleaned(40),)) == said
    assert say_cleaned((cleaned(1, None), cleaned(0))) == "1 entry deleted by audit-log, without an archive."
    assert say_cleaned(()) == "Nothing was deleted."
    assert say_cleaned((), left=7) == (
        "Nothing was deleted. It was time to stop: about 7 entries are left for the next run."
    )


def test_what_has_expired_and_is_there_again_is_a_complaint_only_of_a_run_that_finished() -> None:
    made = plan()
    clean = AfterCleaning(rule="audit-log", entries=60, storage_bytes=1, is_clean=True)
    left = clean.model_copy(update={"is_clean": False})
    (complaint,) = judge_cleanup(made, (left,), finished=True)
    assert complaint.startswith("Entries of auditLogs older than the cutoff are there again")
    assert judge_cleanup(made, (left,), finished=False) == ()
    assert judge_cleanup(made, (clean,), finished=True) == ()
    assert judge_cleanup(plan(months=()), (left,), finished=True) == ()
