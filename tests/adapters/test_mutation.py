"""What stands around every change of a service: the lock, the journal and the trail, in their order."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from tasks.errors import ConfigurationError, DamagedSetError, LeaseHeldError, RefusedError
from tasks.journal import list_open_journals, open_journal
from tasks.mutation import BEGAN, mutating, read_begun_plan, settling
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.service_lock import hold_service
from tasks.trail import check_trail

RUN = Run(
    name="clever-otter",
    due=None,
    started=datetime(2026, 11, 21, tzinfo=UTC),
    started_by="ada at the shell",
    deployed=False,
)
PLAN = RunbookPlan(
    runbook="restore-database",
    service="invoice",
    summary="set 7 is restored",
    acts=(PlannedAct(what="swap", why="it was damaged", undo="swap back"),),
    rests_on={"database": "empty"},
)
OTHER = PLAN.model_copy(update={"runbook": "restore-application"})


@pytest.fixture(autouse=True)
def run_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a run there is no run's log: its sentences go to an ordinary one."""
    for module in ("mutation", "service_lock", "trail"):
        monkeypatch.setattr(f"tasks.{module}.get_run_logger", lambda: logging.getLogger("a run"))


def told(service: ServiceProfile) -> list[tuple[str, str, str]]:
    """Return runbook, event and outcome of each line of the trail, which is sound."""
    found = check_trail.fn(service)
    assert found.findings == ()
    return [(line.runbook, line.event, line.outcome) for line in found.lines]


def test_a_change_is_begun_and_finished_in_journal_and_trail_while_the_service_is_held(
    service: ServiceProfile,
) -> None:
    with mutating(service, RUN, PLAN) as journal:
        began = open_journal(service, PLAN.runbook).find(BEGAN)
        assert began is not None
        assert RunbookPlan.model_validate(began.facts["plan"]) == PLAN
        with (
            pytest.raises(LeaseHeldError, match="held by clever-otter for: restore-database"),
            hold_service(service, purpose="other", holder="other", wait=timedelta(0)),
        ):
            raise AssertionError
        journal.close("done")
    assert told(service) == [
        ("restore-database", "began", "set 7 is restored"),
        ("restore-database", "finished", "done"),
    ]
    assert {line.plan for line in check_trail.fn(service).lines} == {PLAN.digest}
    assert list_open_journals(service) == ()


def test_a_failure_stands_in_the_trail_in_its_own_words(service: ServiceProfile) -> None:
    with pytest.raises(DamagedSetError), mutating(service, RUN, PLAN):
        raise DamagedSetError("Set 7 is damaged.")
    assert told(service)[-1] == ("restore-database", "failed", "Set 7 is damaged.")


def test_a_failure_before_the_first_step_leaves_nothing_to_put_right_and_one_after_it_does(
    service: ServiceProfile,
) -> None:
    with pytest.raises(DamagedSetError), mutating(service, RUN, PLAN):
        raise DamagedSetError("Set 7 is damaged.")
    assert list_open_journals(service) == ()

    def fail_half_way() -> None:
        with mutating(service, RUN, PLAN) as journal:
            journal.write("swapped")
            raise DamagedSetError("Set 7 is damaged.")

    with pytest.raises(DamagedSetError):
        fail_half_way()
    assert list_open_journals(service) == (PLAN.runbook,)


def test_a_defect_stands_in_the_trail_without_its_text_which_may_hold_anything(
    service: ServiceProfile,
) -> None:
    with pytest.raises(KeyError), mutating(service, RUN, PLAN):
        raise KeyError("postgresql://user:password@host")
    assert told(service)[-1] == ("restore-database", "failed", "KeyError")


def leave_half_done(service: ServiceProfile) -> None:
    journal = open_journal(service, PLAN.runbook)
    journal.write(BEGAN, plan=PLAN.model_dump(mode="json"))
    journal.write("swapped")


@pytest.mark.parametrize("plan", [PLAN, OTHER])
def test_nothing_is_changed_before_what_a_killed_run_left_is_put_right(
    service: ServiceProfile, plan: RunbookPlan
) -> None:
    leave_half_done(service)
    with (
        pytest.raises(RefusedError, match=r"start restore-database again first.*Nothing was changed\."),
        mutating(service, RUN, plan),
    ):
        raise AssertionError
    assert told(service) == []
    assert [entry.step for entry in open_journal(service, PLAN.runbook).entries] == [BEGAN, "swapped"]


def test_the_next_run_puts_right_what_a_killed_one_left_and_says_so(
    service: ServiceProfile, caplog: pytest.LogCaptureFixture
) -> None:
    leave_half_done(service)
    with settling(service, RUN, PLAN.runbook) as journal:
        assert journal is not None
        assert journal.has("swapped")
        assert read_begun_plan(journal, RunbookPlan) == PLAN
        journal.close("swapped back")
    assert "restore-database that began" in caplog.text
    assert told(service) == [("restore-database", "settled", "swapped back")]
    with mutating(service, RUN, PLAN) as journal:
        journal.close("done")


def test_a_plan_that_another_version_began_is_refused_in_a_sentence_and_its_journal_stays(
    service: ServiceProfile,
) -> None:
    left = open_journal(service, PLAN.runbook)
    left.write(BEGAN, plan={"steps": "of last year"})
    with pytest.raises(ConfigurationError, match=r"another version of the runbook.*Nothing was changed\."):
        read_begun_plan(left, RunbookPlan)
    assert list_open_journals(service) == (PLAN.runbook,)


def test_where_nothing_is_left_nothing_is_settled_and_the_service_is_not_waited_for(
    service: ServiceProfile,
) -> None:
    with (
        hold_service(service, purpose="other", holder="other"),
        settling(service, RUN, PLAN.runbook) as journal,
    ):
        assert journal is None
    assert told(service) == []
