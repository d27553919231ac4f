"""What is done about a suspected breach, in which order, and when it may be called contained."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.incident import (
    ENDING,
    LOGGING,
    REPLACING,
    SERVING,
    choose_credentials,
    find_killed,
    find_progress,
    list_containment,
    make_incident_report,
    plan_incident,
)
from flows.decisions.incident_findings import count_refusals, find_new_admins
from tasks.profiles import read_profile
from tasks.records.accounts import Account, AdminsThen, Attempt, AttemptExtract, KnownAdmin
from tasks.records.credential_care import CredentialName
from tasks.records.incident import (
    CLOSED,
    Fact,
    IncidentOpening,
    IncidentRecord,
    IncidentReport,
    IncidentStep,
    Investigation,
    Outcome,
)
from tasks.records.personal_data import mask_email
from tasks.records.rotation import RotationEvent

SERVICES = Path(__file__).parents[2] / "deployments" / "services"
PROFILE = read_profile(SERVICES / "propertypulse.yaml")
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL: tuple[CredentialName, ...] = choose_credentials(PROFILE, ())[0]


def opened(*credentials: CredentialName, at: datetime = NOW, identity: str = "one") -> IncidentRecord:
    opening = IncidentOpening(
        id=identity,
        at=at,
        service="propertypulse",
        by="ann",
        host="host",
        run="run",
        suspicion="A laptop was stolen.",
        since=at - DAY,
        credentials=credentials,
    )
    return IncidentRecord(opening=opening)


def after(record: IncidentRecord, outcomes: dict[str, Outcome]) -> IncidentRecord:
    steps = [
        IncidentStep(at=NOW, step=step, outcome=outcome, said=f"why {step} is {outcome}.")
        for step, outcome in outcomes.items()
    ]
    return record.model_copy(update={"steps": (*record.steps, *steps)})


def finish(record: IncidentRecord, **otherwise: Outcome) -> IncidentRecord:
    steps = (*list_containment(record.opening.credentials), SERVING)
    return after(record, {step: otherwise.get(step.replace(" ", "_"), "done") for step in steps})


def report(record: IncidentRecord, **found: tuple[Fact, ...]) -> IncidentReport:
    return make_incident_report(PROFILE, record, Investigation(at=NOW, **found))


# --- What is done ---


def test_the_secret_of_tokens_is_replaced_last_and_the_databases_password_first() -> None:
    assert ALL[0] == "database-password"
    assert ALL[-1] == "jwt-secret"
    assert ALL.index("stripe-key") < ALL.index("stripe-webhook-secret"), "a rolled key may be dead already"
    steps = list_containment(ALL)
    assert (steps[0], steps[-1]) == (LOGGING, ENDING)


def test_what_is_wanted_comes_in_the_safe_order_and_what_the_profile_lacks_is_named() -> None:
    assert choose_credentials(PROFILE, ["jwt-secret", "s3"]) == (("s3", "jwt-secret"), ())
    bare = PROFILE.model_copy(update={"credentials": PROFILE.credentials.model_copy(update={"s3": None})})
    assert choose_credentials(bare, ["s3"]) == ((), ("s3",))


def test_a_killed_incident_is_gone_on_with_for_a_day_and_the_newest_of_several() -> None:
    old, first, second = (
        opened(at=NOW - 25 * HOUR, identity="old"),
        opened(at=NOW - 2 * HOUR, identity="first"),
        opened(at=NOW - HOUR, identity="second"),
    )
    assert find_killed([old], NOW) is None
    assert find_killed([old, first, second], NOW) == second


def test_the_plan_has_what_is_left_and_says_that_it_goes_on() -> None:
    record = opened("s3", "jwt-secret")
    whole = plan_incident(PROFILE, record)
    assert [act.what for act in whole.acts][1:3] == [
        "Replace s3 without grace",
        "Replace jwt-secret without grace",
    ]
    rest = plan_incident(PROFILE, after(record, {LOGGING: "done", f"{REPLACING}s3": "done"}))
    assert rest.acts[0].what == "Replace jwt-secret without grace"
    assert "2 steps are done" in rest.summary


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], "not in force"),
        ([("rotated", 0, 1)], "old one not retired"),
        ([("rotated", 0, 1), ("retired", 0, 2)], "old one refused"),
        ([("rotated", -2, -2), ("retired", -2, -1)], "not in force"),
        ([("rotated", -1, -1), ("retired", -1, 1)], "not in force"),
        ([("rotated", -1, 1), ("retired", -1, 2)], "not in force"),
        ([("rotated", 0, 1), ("retired", 0, 2), ("rotated", 3, 3)], "old one not retired"),
        ([("undone", 0, 1)], "not in force"),
    ],
)
def test_how_far_a_killed_rotation_came_is_read_in_its_history(
    events: list[tuple[Literal["rotated", "retired", "undone"], int, int]], expected: str
) -> None:
    """An event's numbers are the hours when its rotation was begun and when it happened."""
    history = [
        RotationEvent(
            at=NOW + hour * HOUR,
            credential="s3",
            rotation=f"{NOW + begun * HOUR:%Y%m%dT%H%M%S}-0a1b2c",
            event=event,
            by="ann",
        )
        for event, begun, hour in events
    ]
    assert find_progress(history, "s3", NOW) == expected
    assert find_progress(history, "jwt-secret", NOW) == "not in force"


# --- What it came to ---


def test_it_is_contained_when_all_was_done() -> None:
    found = report(finish(opened(*ALL)))
    assert found.well
    assert found.headline == (
        "propertypulse: contained. 6 credentials replaced, the old ones are refused, and it is healthy."
    )


def test_one_rotation_that_failed_is_an_open_door_and_people_are_told_how_to_shut_it() -> None:
    found = report(finish(opened(*ALL), replacing_s3="failed"))
    assert found.headline == "propertypulse: NOT contained. What failed: replacing s3."
    assert found.to_do[0] == (
        "Replace s3 by rotate-s3-credentials, with emergency. why replacing s3 is failed."
    )


def test_logging_that_failed_is_no_open_door_and_no_success() -> None:
    found = report(finish(opened("s3"), more_logging="failed"))
    assert found.headline.startswith("propertypulse: contained. ")
    assert not found.well
    assert "But more logging failed." in found.headline


def test_a_profile_without_credentials_is_never_contained() -> None:
    assert "names no credentials" in report(finish(opened())).headline


def test_credentials_that_were_not_asked_for_are_named() -> None:
    said = " ".join(report(finish(opened("s3"))).to_do)
    assert "still what they were: database-password, sendgrid-key, stripe-key, stripe-webhook-secret" in said


@given(
    st.dictionaries(st.sampled_from([*list_containment(ALL), SERVING]), st.sampled_from(["begun", "failed"]))
)
def test_whatever_is_not_done_is_in_the_headline_and_has_a_remedy(outcomes: dict[str, Outcome]) -> None:
    found = report(after(finish(opened(*ALL)), outcomes))
    assert found.well is (not outcomes)
    for step, outcome in outcomes.items():
        assert step in found.headline
        assert any(f"why {step} is {outcome}." in line for line in found.to_do)


def test_a_failure_that_was_mended_by_the_next_run_is_none() -> None:
    assert report(
        after(
            after(opened("s3"), {f"{REPLACING}s3": "failed"}),
            {
                LOGGING: "left out",
                f"{REPLACING}s3": "done",
                ENDING: "done",
                SERVING: "done",
            },
        )
    ).well


def test_a_record_is_closed_by_its_last_line_alone() -> None:
    record = finish(opened("s3"))
    assert not record.is_closed
    assert after(record, {CLOSED: "done"}).is_closed


# --- What was found out ---


def attempt(user: str | None, address: str | None, action: str = "LOGIN_FAILED") -> Attempt:
    return Attempt(at=NOW - HOUR, source="audit log", action=action, user=user, address=address)


def test_refusals_name_people_as_it_is_asked_for_and_our_own_probe_is_marked() -> None:
    read = AttemptExtract(
        source="audit log",
        where="AuditTrail",
        attempts=(
            attempt("ann@example.com", "203.0.113.9"),
            attempt("ann@example.com", "203.0.113.9", "UNAUTHORIZED_ACCESS"),
            attempt("probe@example.com", "127.0.0.1", "UNAUTHORIZED_ACCESS"),
        ),
    )
    found = Investigation(at=NOW, read=(read,), admins=("ann@example.com",), probe="probe@example.com")
    full = count_refusals(found, opened().opening, str)
    assert full.by_action == {"LOGIN_FAILED": 1, "UNAUTHORIZED_ACCESS": 2}
    assert [(one.name, one.count, one.is_admin) for one in full.by_user] == [
        ("ann@example.com", 2, True),
        ("our probe user, in proofs of rotations", 1, False),
    ]
    masked = count_refusals(found, opened().opening, mask_email)
    assert masked.by_user[0].name == mask_email("ann@example.com")
    assert masked.by_user[0].is_admin
    assert [one.name for one in masked.by_address] == ["203.0.113.9", "127.0.0.1"]


def test_who_became_an_administrator_is_known_by_an_earlier_look_or_by_when_it_was_made() -> None:
    admins = [
        Account(email="old@example.com", role="a", active=True, is_admin=True, created=NOW - 9 * DAY),
        Account(email="raised@example.com", role="a", active=True, is_admin=True, created=NOW - 9 * DAY),
        Account(email="made@example.com", role="a", active=True, is_admin=True, created=NOW - HOUR),
    ]
    before = AdminsThen(at=NOW - 2 * DAY, admins=(KnownAdmin(email="old@example.com"),))
    opening = opened().opening
    texts = [fact.text for fact in find_new_admins(admins, before, opening, NOW)]
    assert [text.partition(" ")[0] for text in texts] == ["raised@example.com", "made@example.com"]
    assert "was none at the look of 2026-11-20 03:00 UTC" in texts[0]
    assert [fact.text.partition(" ")[0] for fact in find_new_admins(admins, None, opening, NOW)] == [
        "made@example.com"
    ]
