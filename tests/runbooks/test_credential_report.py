"""credential-report: what is overdue is said, whoever put it there and whenever."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from flows.credential_report import credential_report
from tasks.credential_ages import observe_credential_ages
from tasks.rotation_files import record_rotation
from tests.runbooks.conftest import Ledger, Ledgers, artifacts_of, completed, failed

NOW = datetime.now(UTC)


@pytest.fixture
def ledger(ledgers: Ledgers) -> Ledger:
    ledger = ledgers.make("postgresql")
    write(ledger, "s" * 64)
    ledger.change(
        credentials={
            "jwt_secret": {"owner": "Team", "rotate_every": "P90D"},
            "database_password": {},
            "others": [{"name": "smtp-password", "variable": "SMTP_PASSWORD", "rotate_every": "P30D"}],
        }
    )
    return ledger


def write(ledger: Ledger, secret: str) -> None:
    ledger.write_env(ledger.database.url)
    with (ledger.application / ".env").open("a") as file:
        file.write(f"JWT_SECRET={secret}\nSMTP_PASSWORD=kept-in-a-drawer\n")


def report(ledger: Ledger) -> State[Any]:
    return cast("State[Any]", credential_report(ledger.name, return_state=True))


def ages(ledger: Ledger, days: int) -> dict[str, tuple[str, int]]:
    now = NOW + timedelta(days=days)
    return {
        age.name: (age.source, (now - (age.since or now)).days)
        for age in observe_credential_ages.fn(ledger.profile, now)
    }


def test_a_value_is_as_old_as_it_is_known_and_a_new_one_is_young_again(ledger: Ledger) -> None:
    assert set(ages(ledger, 0).values()) == {("first seen", 0)}
    assert set(ages(ledger, 40).values()) == {("first seen", 40)}
    write(ledger, "t" * 64)
    assert ages(ledger, 50) == {
        "database-password": ("first seen", 50),
        "jwt-secret": ("first seen", 0),
        "smtp-password": ("first seen", 50),
    }


def test_a_rotation_tells_the_age_until_somebody_changes_the_value_by_hand(ledger: Ledger) -> None:
    record_rotation(ledger.profile, "jwt-secret", "r", "rotated", "me", NOW - timedelta(days=7))
    assert ages(ledger, 0)["jwt-secret"] == ("rotated here", 7)
    write(ledger, "t" * 64)
    assert ages(ledger, 1)["jwt-secret"] == ("first seen", 0)


@pytest.mark.parametrize("is_rotated", [True, False])
def test_another_parameter_of_the_databases_url_makes_no_new_password(
    ledger: Ledger, is_rotated: bool
) -> None:
    if is_rotated:
        record_rotation(ledger.profile, "database-password", "r", "rotated", "me", NOW)
    expected = "rotated here" if is_rotated else "first seen"
    assert ages(ledger, 0)["database-password"] == (expected, 0)
    ledger.write_env(f"{ledger.database.url}?connection_limit=5")
    assert ages(ledger, 40)["database-password"] == (expected, 40)
    ledger.write_env(ledger.database.url.replace("@", "x@"))
    assert ages(ledger, 50)["database-password"] == ("first seen", 0)


def test_the_run_fails_with_what_is_overdue_and_shows_one_table_without_any_value(ledger: Ledger) -> None:
    state = report(ledger)
    assert completed(state) == "ledger: 3 credentials, none of them overdue."
    record_rotation(ledger.profile, "jwt-secret", "r", "rotated", "me", NOW - timedelta(days=91))
    state = report(ledger)
    said = failed(state)
    assert said.startswith(
        "ledger: jwt-secret is 91 days old, the policy is 90 days: start rotate-jwt-secret"
    )
    page = artifacts_of(state)["credential-report-credentials-ledger"]
    assert page.index("OVERDUE") < page.index("ok")
    assert "smtp-password" in page
    assert not [secret for secret in ("s" * 64, "kept-in-a-drawer") if secret in page + said]


def test_a_password_that_postgresql_ends_is_seen_to_end(ledger: Ledger) -> None:
    ends = (NOW + timedelta(days=3)).date()
    with ledger.database.limited_role() as (role, url):  # type: ignore[attr-defined]
        ledger.database.execute(f"ALTER ROLE {role} VALID UNTIL '{ends} 12:00+00'")  # type: ignore[attr-defined]
        ledger.write_env(url)
        found = {age.name: age.expires for age in observe_credential_ages.fn(ledger.profile, NOW)}
    assert found["database-password"] == ends


def test_the_date_of_the_role_that_it_becomes_after_the_login_is_not_that_of_the_password(
    ledger: Ledger,
) -> None:
    """Two users that take turns become, by a setting, the role that owns everything."""
    execute = ledger.database.execute  # type: ignore[attr-defined]
    with ledger.database.limited_role() as (role, url):  # type: ignore[attr-defined]
        execute(f"CREATE ROLE owner_{role} VALID UNTIL '2020-01-01'; GRANT owner_{role} TO {role}")
        execute(f"ALTER ROLE {role} SET role = owner_{role}; ALTER ROLE {role} VALID UNTIL 'infinity'")
        ledger.write_env(url)
        found = {age.name: age for age in observe_credential_ages.fn(ledger.profile, NOW)}
        execute(f"DROP ROLE owner_{role}")
    assert (found["database-password"].expires, found["database-password"].used) == (None, None)


def test_an_env_file_that_is_gone_is_one_sentence(ledger: Ledger) -> None:
    (ledger.application / ".env").unlink()
    assert "does not exist" in failed(report(ledger))


def test_a_url_of_the_database_that_is_not_set_is_said_and_hides_nothing_else(ledger: Ledger) -> None:
    env = ledger.application / ".env"
    env.write_text("".join(line for line in env.open() if "JWT_SECRET" in line or "SMTP" in line))
    said = failed(report(ledger))
    assert "database-password is not set in DATABASE_URL: set it" in said
    record_rotation(ledger.profile, "jwt-secret", "r", "rotated", "me", NOW - timedelta(days=91))
    assert "jwt-secret is 91 days old" in failed(report(ledger))
