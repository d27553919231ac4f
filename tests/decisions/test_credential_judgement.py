"""Which credential is overdue: a table, and that nothing overdue is called well."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.credential_judgement import BAD, conclude, judge_ages
from tasks.records.credential_age import CredentialAge

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def age(**changed: Any) -> CredentialAge:
    fields: dict[str, Any] = {
        "service": "invoice",
        "name": "jwt-secret",
        "owner": "Development team",
        "held_in": "JWT_SECRET",
        "is_set": True,
        "since": NOW - 10 * DAY,
        "source": "rotated here",
        "rotate_every": 365 * DAY,
    }
    return CredentialAge(**fields | changed)


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({}, "ok", None),
        ({"since": NOW - 340 * DAY}, "due soon", None),
        (
            {"since": NOW - 366 * DAY},
            "OVERDUE",
            "366 days old, the policy is 365 days: start rotate-jwt-secret",
        ),
        ({"since": NOW - 366 * DAY, "source": "first seen"}, "OVERDUE", "at least 366 days old"),
        ({"is_set": False, "since": None}, "NOT SET", "not set in JWT_SECRET"),
        ({"since": None}, "not known", None),
        ({"is_set": False, "problem": "The secret file is open to others."}, "not known", "open to others"),
        ({"expires": date(2026, 3, 1)}, "EXPIRED", "expired on 2026-03-01"),
        (
            {"name": "database-password", "expires": date(2026, 3, 1)},
            "EXPIRED",
            "let the database's administrator say ALTER ROLE ... VALID UNTIL 'infinity'",
        ),
        ({"expires": date(2026, 3, 2)}, "due soon", None),
        (
            {"retires": NOW - 4 * timedelta(hours=1)},
            "not retired",
            "should be retired since 2026-03-01 04:00",
        ),
        ({"retires": NOW - timedelta(hours=1)}, "ok", None),
        ({"name": "smtp", "since": NOW - 366 * DAY}, "OVERDUE", "replace it by hand (Development team)"),
    ],
)
def test_a_credential_has_one_verdict_and_what_to_do(
    changed: dict[str, Any], verdict: str, said: str | None
) -> None:
    (judged,) = judge_ages([age(**changed)], NOW)
    assert judged.verdict == verdict
    assert (judged.to_do is None) == (said is None)
    assert (said or "") in (judged.to_do or "")


def test_the_worst_comes_first_and_a_service_answers_for_its_own_only() -> None:
    ages = [age(), age(service="other", since=NOW - 400 * DAY), age(name="smtp", since=NOW - 345 * DAY)]
    judged = judge_ages(ages, NOW)
    assert [one.verdict for one in judged] == ["OVERDUE", "due soon", "ok"]
    assert conclude("invoice", judged) == "invoice: 2 credentials, none of them overdue. Due soon: smtp."
    assert conclude("other", judged).startswith("other: jwt-secret is 400 days old")


@given(st.integers(0, 2000), st.integers(1, 1000))
def test_what_is_older_than_its_policy_is_bad_and_nothing_else_is(days: int, policy: int) -> None:
    (judged,) = judge_ages([age(since=NOW - days * DAY, rotate_every=policy * DAY)], NOW)
    assert (judged.verdict in BAD) == (days >= policy)
