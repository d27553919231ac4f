"""Who is told, when, and who never."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.escalation import (
    AFTER_LAST,
    UNKNOWN_FOR,
    choose_start,
    find_open,
    list_ladder,
    list_troubles,
    plan_escalation,
    sum_up,
)
from tasks.records.escalation import EscalationPlan, EscalationRecord, EscalationStep, Opening, StepKind
from tasks.records.escalation_care import Escalation

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
LADDER = Escalation.model_validate(
    {
        "levels": [
            {"name": "application", "contacts": ["Team"], "acknowledge_within": "PT30M"},
            {
                "name": "database",
                "contacts": ["Dba", "Deputy"],
                "acknowledge_within": "PT20M",
                "starts_for": ["database down"],
            },
            {
                "name": "infrastructure",
                "contacts": ["Admin"],
                "acknowledge_within": "PT10M",
                "starts_for": ["critical", "disk full"],
            },
        ]
    }
)
NAMES = [level.name for level in LADDER.levels]


def escalation(cause: str = "", severity: str = "", *, was_down: bool = True) -> EscalationRecord:
    opening = Opening(
        id="e", service="s", at=NOW, reason="it is down", cause=cause, severity=severity, was_down=was_down
    )
    return EscalationRecord(opening=opening)


def step(
    record: EscalationRecord, kind: StepKind, level: str = "", contact: str = "", minute: float = 0
) -> EscalationRecord:
    at = NOW + timedelta(minutes=minute)
    taken = EscalationStep(at=at, kind=kind, level=level, contact=contact, by="Ada")
    return record.model_copy(update={"steps": (*record.steps, taken)})


def plan(
    record: EscalationRecord, minute: float = 0, level: str = "", *, healthy: bool = False
) -> EscalationPlan:
    now = NOW + timedelta(minutes=minute)
    return plan_escalation(record, LADDER, now=now, healthy=healthy, level=level)


def test_the_first_level_is_told_and_the_second_waits_for_its_time() -> None:
    first = plan(escalation())
    assert first.tell == (("application", "Team"),)
    assert (first.next_level, first.next_at) == ("database", NOW + timedelta(minutes=30))


def test_a_cause_or_a_severity_begins_higher_and_the_higher_of_both_counts() -> None:
    assert choose_start(LADDER, "", "") == "application"
    assert choose_start(LADDER, "database down", "") == "database"
    assert choose_start(LADDER, "database down", "critical") == "infrastructure"
    assert choose_start(LADDER, "never heard of", "whatever") == "application"
    assert choose_start(Escalation(), "database down", "") == ""
    assert plan(escalation("database down")).tell == (("database", "Dba"), ("database", "Deputy"))


def test_without_a_level_it_goes_by_the_time_since_the_last_was_told() -> None:
    told = step(escalation(), "telling", "application", "Team", minute=5)
    told = step(told, "told", "application", "Team", minute=6)
    assert plan(told, minute=34).tell == ()
    assert plan(told, minute=34).next_at == NOW + timedelta(minutes=35)
    assert plan(told, minute=35).tell == (("database", "Dba"), ("database", "Deputy"))


def test_whom_a_killed_run_did_not_tell_is_told_with_the_next_level() -> None:
    killed = step(escalation("database down"), "telling", "database", "Dba")
    assert plan(killed, 20, "infrastructure").tell == (("database", "Deputy"), ("infrastructure", "Admin"))
    assert list_troubles(killed) == ("Whether Dba was told is not known: the run died meanwhile.",)


def test_a_level_that_a_killed_run_may_not_have_told_is_waited_for_no_longer_than_telling_takes() -> None:
    killed = step(escalation("database down"), "telling", "database", "Dba")
    # Somebody else of the level is still told, and then the level has its time.
    assert plan(killed, 1).tell == (("database", "Deputy"),)
    killed = step(killed, "telling", "database", "Deputy", minute=1)
    waits = plan(killed, 4)
    assert (waits.tell, waits.next_at) == ((), NOW + UNKNOWN_FOR)
    assert plan(killed, 5).tell == (("infrastructure", "Admin"),)
    told = step(killed, "told", "database", "Deputy", minute=2)
    assert plan(told, 19).tell == ()
    assert plan(told, 20).tell == (("infrastructure", "Admin"),)


def test_a_level_that_left_the_profile_gives_its_turn_to_whoever_follows() -> None:
    told = step(escalation(), "telling", "application", "Team")
    assert plan(told, 1, "sold").level == "database"


def test_nobody_is_left_after_the_last_level_and_nobody_without_levels() -> None:
    last = plan(escalation("disk full"))
    assert (last.next_level, last.next_at) == (AFTER_LAST, NOW + timedelta(minutes=10))
    told = step(escalation("disk full"), "telling", "infrastructure", "Admin")
    assert plan(told, 10, AFTER_LAST).ends == "nobody left"
    nobody = plan_escalation(escalation(), Escalation(), now=NOW, healthy=False)
    assert (nobody.tell, nobody.ends) == ((), "nobody left")
    assert not sum_up(escalation(), nobody, (), UTC).well


def test_health_ends_only_what_began_with_a_service_that_was_ill() -> None:
    assert plan(escalation(), healthy=True).ends == "recovered"
    assert plan(escalation(was_down=False), healthy=True).tell == (("application", "Team"),)


def test_the_ladder_says_of_everybody_whether_they_were_told() -> None:
    record = step(escalation("database down"), "telling", "database", "Dba")
    rows = list_ladder(record, LADDER, plan(record))
    assert [(row.contact, row.what) for row in rows] == [
        ("Team", "below where this began"),
        ("Dba", "not known: the run died while telling"),
        ("Deputy", "not yet"),
        ("Admin", "next, unless somebody acknowledges"),
    ]
    done = step(record, "acknowledged")
    assert [row.what for row in list_ladder(done, LADDER, plan(done))][2:] == ["not needed", "not needed"]


def test_what_is_open_is_the_newest_that_nobody_has() -> None:
    first, second = escalation(), escalation("disk full")
    assert find_open([first, second]) == second
    assert find_open([first, step(second, "acknowledged")]) == first
    assert find_open([step(first, "recovered")]) is None
    assert find_open([step(first, "nobody left")]) is not None


RUNS = st.tuples(
    st.sampled_from(["", *NAMES, AFTER_LAST, "gone"]),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from(["", "", "", "killed before telling", "killed while telling", "acknowledged"]),
)


@given(st.lists(RUNS, max_size=12), st.sampled_from(["", "database down", "critical"]))
def test_whatever_happens_each_is_told_at_most_once_in_order_and_nobody_after_an_acknowledgement(
    runs: list[tuple[str, int, bool, str]], cause: str
) -> None:
    record, minute = escalation(cause), 0
    taken = False
    for level, later, healthy, event in runs:
        minute += later
        doing: EscalationPlan = plan(record, minute, level, healthy=healthy)
        assert not (taken and (doing.tell or doing.next_level))
        if doing.next_at is not None:
            assert doing.next_level == AFTER_LAST or doing.next_level in NAMES
        for number, (one, contact) in enumerate(doing.tell):
            if event == "killed before telling" and number:
                break
            record = step(record, "telling", one, contact, minute)
            if event != "killed while telling":
                record = step(record, "told", one, contact, minute)
        if doing.ends is not None:
            record = step(record, doing.ends, minute=minute)
        if event == "acknowledged":
            record, taken = step(record, "acknowledged", minute=minute), True
    assert len(set(record.begun)) == len(record.begun)
    order = [NAMES.index(one) for one, _ in record.begun]
    assert order == sorted(order)
