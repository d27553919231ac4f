"""Why users, or one of them, cannot log in: what is wrong for everybody comes first."""

from collections.abc import Mapping
from typing import Any

import pytest

from flows.decisions.auth_judgement import judge_authentication
from flows.decisions.diagnosis import diagnose
from tasks.observing_user import judge_active
from tasks.records.checks import Checked
from tasks.records.observation import Unknown
from tasks.records.user import UserFacts
from tests.decisions.outage_evidence import DOWN, PROFILE, SICK, clock, database, evidence, log, of

ANNA = "anna@example.com"


def judge(*changes: Any, user: UserFacts | Unknown | None = None) -> Checked:
    seen = evidence(*changes)
    return judge_authentication(seen, diagnose(seen, PROFILE), user, PROFILE)


def anna(**changed: Any) -> UserFacts:
    facts = {"asked": ANNA, "where": "users, email", "found": "found", "active": True, "told_by": "isActive"}
    return UserFacts.model_validate({**facts, **changed})


def test_when_all_is_well_nothing_is_wrong_and_nothing_is_to_be_done() -> None:
    checked = judge()
    assert checked.good
    assert checked.to_do == ()
    assert {line.verdict for line in checked.lines} == {"ok"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"authentication": of("authentication", secret="not set", login="no answer")}, "JWT_SECRET"),
        ({"authentication": of("authentication", secret_changed=True)}, "JWT_SECRET changed"),
        ({"authentication": of("authentication", login="refused", token_verifies=None)}, "cannot log in"),
        ({"firebase": of("firebase", credentials="refused")}, "Firebase's credentials are refused"),
        (SICK | {"database": database("refuses the password")}, "password"),
        ({"clocks": clock(400.0, "Stripe", "S3", "application")}, "clock is"),
    ],
)
def test_what_keeps_everybody_out_is_named(change: Mapping[str, Any], said: str) -> None:
    checked = judge(change)
    assert not checked.good
    assert said in checked.headline
    assert any(one.verdict == "WRONG" for one in checked.lines)
    assert checked.to_do


def test_a_database_that_only_we_find_slow_keeps_nobody_out() -> None:
    checked = judge({"database": database("does not answer")})
    assert checked.good
    assert [line.verdict for line in checked.lines if line.name == "database"] == ["watch"]


def test_a_service_that_is_down_is_said_first() -> None:
    checked = judge(DOWN, user=anna(found="not found"))
    assert checked.headline.startswith("Nobody can log in while the service is down. invoice is down")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"found": "not found"}, f"{ANNA} is not in users, email."),
        ({"found": "several"}, "more than once"),
        ({"found": "spelled otherwise"}, "only with other capitals"),
        ({"active": False}, "not active by its field isActive"),
    ],
)
def test_what_is_wrong_with_the_user_is_shown_on_the_page_and_not_in_the_state(
    changed: dict[str, Any], said: str
) -> None:
    checked = judge(user=anna(**changed))
    assert not checked.good
    assert said in checked.lines[0].seen
    assert checked.lines[0].verdict == "WRONG"
    assert ANNA not in checked.headline + " ".join(checked.to_do)
    assert len(checked.to_do) == 1


def test_a_user_who_is_known_and_active_has_another_trouble() -> None:
    checked = judge(user=anna())
    assert checked.good
    assert checked.headline.endswith("The user that was asked about is known and active.")
    assert judge(user=anna(active=None, told_by=None)).headline.endswith("is known.")


def test_a_user_who_cannot_be_looked_up_is_neither_known_nor_unknown() -> None:
    checked = judge(user=Unknown(why="the database does not answer"))
    assert checked.good
    assert (checked.lines[0].verdict, checked.lines[0].seen) == (
        "not known",
        "the database does not answer.",
    )


def test_refused_tokens_in_the_log_are_to_be_watched_and_wrong_passwords_are_not() -> None:
    verdicts = {
        line.name: line.verdict
        for name in ("token refused", "authentication failed")
        for line in judge({"logs": log(name)}).lines
    }
    assert verdicts["log: token refused"] == "watch"
    assert verdicts["log: authentication failed"] == "ok"
    unread = judge({"logs": Unknown(why="no")}).lines[-1]
    assert (unread.name, unread.verdict) == ("log", "not known")


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ({}, (None, None)),
        ({"isActive": True}, (True, "isActive")),
        ({"is_active": False}, (False, "is_active")),
        ({"isActive": "yes"}, (None, None)),
        ({"disabled": False}, (True, "disabled")),
        ({"deletedAt": None}, (True, "deletedAt")),
        ({"active": True, "deleted_at": "2024-01-01"}, (False, "deleted_at")),
        ({"status": "Suspended"}, (False, "status")),
        ({"status": "ACTIVE", "email": ANNA}, (True, "status")),
    ],
)
def test_whether_a_user_is_active_is_read_from_the_fields_that_tell(
    values: dict[str, Any], active: tuple[bool | None, str | None]
) -> None:
    assert judge_active(values) == active
