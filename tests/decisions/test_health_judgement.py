"""What a health check makes of evidence: the same as a triage, line by line."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decisions.diagnosis import diagnose
from flows.decisions.diagnosis_rules import RULES
from flows.decisions.health_judgement import is_only_change, judge_health, say_conclusion
from flows.decisions.health_lines import LINES, place
from tasks.records.checks import Checked
from tasks.records.evidence import Evidence
from tasks.records.observation import Unknown
from tests.decisions.outage_evidence import (
    BAD_STATUS,
    FAULTS,
    GOOD_ANSWER,
    NOW,
    PROFILE,
    TIMED_OUT,
    Fault,
    answers,
    evidence,
    of,
)


def check(seen: Evidence) -> Checked:
    return judge_health(seen, diagnose(seen, PROFILE), PROFILE)


def verdicts(checked: Checked) -> dict[str, str]:
    return {line.name: line.verdict for line in checked.lines}


def agree(seen: Evidence) -> None:
    diagnosis = diagnose(seen, PROFILE)
    checked = check(seen)
    assert checked.good == (diagnosis.verdict == "healthy")
    assert checked.headline == diagnosis.headline
    wrong = [line for line in checked.lines if line.verdict == "WRONG"]
    assert bool(wrong) is not checked.good
    for cause in (*diagnosis.causes, *diagnosis.consequences):
        assert any(cause.title in line.seen for line in wrong), cause.name


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_check_says_what_the_triage_says_and_shows_it_in_a_line(fault: Fault) -> None:
    agree(evidence(fault.looks))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(FAULTS)), max_size=4))
def test_a_check_agrees_with_the_triage_whatever_is_wrong_at_once(names: list[str]) -> None:
    agree(evidence(*(FAULTS[name].looks for name in names)))


def test_a_healthy_service_has_no_line_that_is_wrong_or_to_be_watched() -> None:
    checked = check(evidence())
    assert checked.good
    assert set(verdicts(checked).values()) <= {"ok", "-"}
    assert checked.to_do == ()


def test_every_rule_of_the_diagnosis_has_a_line_of_the_check() -> None:
    lines = {line.name for line in LINES}
    assert {rule.name: place(rule.name) for rule in RULES if place(rule.name) not in lines} == {}
    assert place("a cause of tomorrow") == "a cause of tomorrow"


def test_what_nobody_could_see_is_not_called_well() -> None:
    checked = check(evidence({"database": Unknown(why="nobody asked"), "host": Unknown(why="no answer")}))
    assert checked.good
    found = verdicts(checked)
    assert {found[name] for name in ("database", "disks", "memory", "processors")} == {"not known"}
    assert say_conclusion(checked).endswith(" Not known: database, disks, memory, processors.")


def test_a_variable_that_will_be_missed_at_the_next_start_is_to_be_watched() -> None:
    checked = check(evidence({"environment": of("environment", missing=("ENCRYPTION_KEY",))}))
    assert checked.good
    assert verdicts(checked)["env file"] == "watch"
    assert any("ENCRYPTION_KEY" in line.seen for line in checked.lines)


def test_a_service_that_blinked_is_to_be_watched() -> None:
    checked = check(evidence({"health": answers(TIMED_OUT, GOOD_ANSWER)}))
    assert checked.good
    assert verdicts(checked)["health"] == "watch"


def test_a_service_that_says_now_and_then_that_it_is_ill_is_not_good() -> None:
    checked = check(evidence({"health": answers(BAD_STATUS, GOOD_ANSWER, GOOD_ANSWER)}))
    assert not checked.good
    assert verdicts(checked)["health"] == "WRONG"


def test_a_certificate_that_ends_soon_is_to_be_watched() -> None:
    soon = of("certificate", ends_at=NOW + timedelta(days=3))
    assert verdicts(check(evidence({"certificate": soon})))["certificate"] == "watch"


def test_firebases_line_is_missed_only_in_a_log_that_has_the_start() -> None:
    name = "Firebase's line in the log"
    for seen, verdict in ((True, "ok"), (False, "watch"), (None, "-")):
        checked = check(evidence({"logs": of("logs", firebase_started=seen)}))
        assert (checked.good, verdicts(checked)[name]) == (True, verdict)


def test_only_a_change_that_a_person_may_have_meant_can_be_taken_as_meant() -> None:
    changed = {"authentication": of("authentication", secret_changed=True, token_verifies=True)}
    assert is_only_change(diagnose(evidence(changed), PROFILE))
    assert not is_only_change(diagnose(evidence(), PROFILE))
    also = changed | {"firebase": of("firebase", credentials="refused")}
    assert not is_only_change(diagnose(evidence(also), PROFILE))
