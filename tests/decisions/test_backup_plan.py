"""When a backup is refused, and when what was shown no longer holds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.decisions.backup_judgement import expect_summary
from flows.decisions.backup_plan import check_drift, plan_backup, plan_retention_around
from tasks.records.application import Application
from tasks.records.backup import RepositoryState
from tasks.records.plans import BackupOrder, PlannedPart, RetentionPlan, SetDecision
from tasks.records.service import Backup, Database, Destination, Retention, ServiceProfile

NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
APPLICATION = PlannedPart("application", "application", 12, 4000)
USERS = PlannedPart("users", "collection", 12, 4000)
PROFILE = ServiceProfile(
    name="invoice",
    title="Invoices",
    time_zone="Europe/Berlin",
    application=Application(
        directory=Path("/srv/invoice"),
        health_url="http://127.0.0.1:8080/health",
        process_manager="pm2",
        process_name="invoice-backend",
    ),
    database=Database(kind="mongodb", url_variable="MONGODB_URI", admin_url="env:ADMIN_URL"),
    backup=Backup(destination=Destination(url="s3://bucket/prefix"), retention=Retention(keep_days=7)),
)


def retention(*deletes: str, keeps: tuple[str, ...] = ("k",), refusal: str | None = None) -> RetentionPlan:
    decisions = [SetDecision(name, NOW, 1, keep=True, reasons=("young",)) for name in keeps]
    decisions += [SetDecision(name, NOW, 1, keep=False, reasons=("old",)) for name in deletes]
    return RetentionPlan("invoice", NOW, tuple(decisions), (), refusal)


def test_a_plan_has_what_the_operator_must_see() -> None:
    found = plan_backup(PROFILE, [USERS, APPLICATION], retention("a"), "s1", "One moment.", "On time.")
    assert (found.refusal, found.service, found.destination) == (None, "invoice", "s3://bucket/prefix")
    assert (found.set_id, found.consistency, found.lateness) == ("s1", "One moment.", "On time.")
    assert found.parts == (USERS, APPLICATION)


@pytest.mark.parametrize("parts", [[], [APPLICATION]])
def test_a_database_with_nothing_to_save_is_refused(parts: list[PlannedPart]) -> None:
    refusal = plan_backup(PROFILE, parts, retention(), "s1", "", "").refusal
    assert refusal is not None
    assert "MONGODB_URI in /srv/invoice/.env" in refusal


def test_a_part_planned_twice_is_refused() -> None:
    refusal = plan_backup(PROFILE, [USERS, USERS], retention(), "s1", "", "").refusal
    assert refusal is not None
    assert "users" in refusal


def test_a_refused_retention_is_no_reason_to_go_without_a_backup() -> None:
    found = plan_backup(PROFILE, [USERS], retention("a", refusal="too many"), "s1", "", "")
    assert found.refusal is None
    assert found.retention.deletes == ()


def test_another_services_retention_is_refused() -> None:
    other = RetentionPlan("other", NOW, (), (), None)
    assert "other" in (plan_backup(PROFILE, [USERS], other, "s1", "", "").refusal or "")


@pytest.mark.parametrize(
    ("shown", "fresh", "says"),
    [
        (retention("a", "b"), retention("b", "a"), None),
        (retention(), retention(keeps=("k", "tonight")), None),
        (retention("a"), retention("a", "b"), "b would go and was not shown"),
        (retention("a", "b", "c"), retention("a"), "b, c were shown and would stay"),
        (retention("a"), retention("b"), "b would go and was not shown; a was shown and would stay"),
        (retention("a"), retention("a", refusal="the clock was set back"), "the clock was set back"),
    ],
)
def test_any_difference_between_shown_and_fresh_deletes_is_drift(
    shown: RetentionPlan, fresh: RetentionPlan, says: str | None
) -> None:
    found = check_drift(shown, fresh)
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert says in found
        assert found.startswith("Nothing was deleted")


STATE = RepositoryState(service="invoice", observed_at=NOW, sets=(), unfinished=())


def test_an_emergency_backup_deletes_nothing_whatever_the_policy_says() -> None:
    order = BackupOrder(kind="emergency", reason="before migration 42", dry_run=False, allow_deletes=99)
    old = expect_summary("s1", "nightly", NOW - timedelta(days=4000), None)
    state = STATE.model_copy(update={"sets": (old,)})
    plan = plan_retention_around(PROFILE, order, state, "tonight", NOW)
    assert (plan.deletes, plan.collect, plan.refusal) == ((), (), None)


def test_ages_are_counted_from_the_start_of_the_run_before_and_after_the_backup() -> None:
    order = BackupOrder(kind="nightly", reason="Started by hand.", dry_run=False)
    days = PROFILE.backup.retention.keep_days
    young = expect_summary("s1", "nightly", NOW - timedelta(days=days) + timedelta(minutes=1), None)
    newer = expect_summary("s2", "nightly", NOW - timedelta(days=1), None)
    before = STATE.model_copy(update={"sets": (newer, young)})
    after = before.model_copy(update={"observed_at": NOW + timedelta(hours=3)})
    shown = plan_retention_around(PROFILE, order, before, "tonight", NOW)
    fresh = plan_retention_around(PROFILE, order, after, "tonight", NOW)
    assert shown.keeps == fresh.keeps == ("s2", "s1")
    assert check_drift(shown, fresh) is None
