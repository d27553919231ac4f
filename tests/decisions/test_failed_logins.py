"""When failed logins are too many, and whom the report names."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.failed_logins import find_failed_logins, make_login_report
from flows.decisions.login_bursts import count_by_hour, find_bursts
from tasks.profiles import read_profile
from tasks.records.accounts import Account, Attempt, AttemptExtract, AttemptSource
from tasks.records.failed_logins import LoginReport
from tasks.records.logs import LogExtract, LogLine
from tasks.records.observation import Complaint, Unknown
from tasks.records.personal_data import mask_email, mask_emails
from tasks.records.user_care import LoginAlarm

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
NOW = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ALARM = LoginAlarm(of_one_user=3, from_one_address=4, in_all=6)
LONG_AGO = NOW - timedelta(days=30)


def attempt(
    ago: timedelta = MINUTE, user: str | None = "ann@example.com", address: str | None = None
) -> Attempt:
    return Attempt(at=NOW - ago, source="audit log", action="LOGIN_FAILED", user=user, address=address)


def extract(*attempts: Attempt, source: AttemptSource = "audit log") -> AttemptExtract:
    return AttemptExtract(source=source, where=source, attempts=attempts)


def bursts(*attempts: Attempt, reported: datetime = LONG_AGO) -> dict[str, tuple[str, int, bool]]:
    found = find_bursts(extract(*attempts), ALARM, reported)
    return {one.kind: (one.subject, one.count, one.is_new) for one in found}


def report(
    *sources: AttemptExtract | Unknown,
    reported: datetime | None = None,
    admins: tuple[Account, ...] | Unknown = (),
) -> LoginReport:
    profile = PROFILE.model_copy(update={"users": PROFILE.users.model_copy(update={"alarm": ALARM})})
    return make_login_report(profile, sources, admins, (NOW - 24 * HOUR, NOW), reported)


def spread(number: int, **fields: str | None) -> tuple[Attempt, ...]:
    return tuple(attempt(n * MINUTE, **fields) for n in range(1, number + 1))


# --- What is too much ---


def test_one_fewer_than_the_limit_is_no_burst_and_the_limit_is() -> None:
    assert bursts(*spread(2)) == {}
    assert bursts(*spread(3)) == {"user": (mask_email("ann@example.com"), 3, True)}


def test_attempts_that_a_whole_period_lies_between_are_not_counted_together() -> None:
    assert bursts(*(attempt(n * HOUR) for n in range(3))) == {}
    assert "user" in bursts(*(attempt(n * (HOUR - MINUTE) / 2) for n in range(3)))


def test_one_address_that_tries_many_users_is_one_burst() -> None:
    tried = [attempt(n * MINUTE, f"user{n}@example.com", "203.0.113.9") for n in range(4)]
    assert bursts(*tried) == {"address": ("203.0.113.9", 4, True)}


def test_many_addresses_that_try_many_users_are_seen_in_all() -> None:
    tried = [attempt(n * MINUTE, f"user{n}@example.com", f"203.0.113.{n}") for n in range(6)]
    assert bursts(*tried) == {"all": ("", 6, True)}


def test_what_was_reported_is_not_new_and_what_goes_on_is() -> None:
    old = [attempt(2 * HOUR + n * MINUTE) for n in range(3)]
    assert not bursts(*old, reported=NOW - HOUR)["user"][2]
    going_on = [*old, *spread(3)]
    assert bursts(*going_on, reported=NOW - HOUR)["user"][2]


@given(
    st.lists(st.integers(0, 300), max_size=40),
    st.integers(1, 8),
    st.integers(1, 120),
)
def test_a_burst_is_found_exactly_when_some_period_holds_so_many(
    minutes: list[int], limit: int, within: int
) -> None:
    alarm = LoginAlarm(of_one_user=limit, from_one_address=999, in_all=999, within=within * MINUTE)
    attempts = [attempt(minute * MINUTE) for minute in minutes]
    most = max((sum(0 <= other - one < within for other in minutes) for one in minutes), default=0)
    found = [one.count for one in find_bursts(extract(*attempts), alarm, LONG_AGO)]
    assert found == ([most] if most >= limit else [])


# --- The report ---


def test_the_same_failures_in_both_logs_are_not_added() -> None:
    audit, log = extract(*spread(2)), extract(*spread(2), source="log")
    found = report(audit, log)
    assert (found.total, found.bursts) == (2, ())
    assert found.headline == "invoice: 2 failed logins in 1 day."


def test_what_only_the_log_has_is_reported_too() -> None:
    found = report(extract(), extract(*spread(3), source="log"))
    assert found.total == 3
    assert found.headline == (
        "invoice: too many failed logins: 3 within 1 h, by the log, where 3 are too many, of the user "
        f"{mask_email('ann@example.com')}."
    )


def test_an_address_says_how_many_users_it_tried_and_the_administrators_are_marked() -> None:
    tried = (
        attempt(MINUTE, "ann@example.com", "203.0.113.9"),
        attempt(HOUR, "bob@example.com", "203.0.113.9"),
    )
    admin = Account(email="bob@example.com", role="admin", active=True, is_admin=True)
    found = report(extract(*tried), admins=(admin,))
    (address,) = found.by_address
    assert (address.name, address.count, address.others) == ("203.0.113.9", 2, 2)
    assert {one.name: one.is_admin for one in found.by_user} == {
        mask_email("ann@example.com"): False,
        mask_email("bob@example.com"): True,
    }


def test_without_an_earlier_report_what_was_over_a_period_ago_raises_no_alarm() -> None:
    old = tuple(attempt(5 * HOUR + n * MINUTE) for n in range(3))
    assert report(extract(*old)).alarming == ()
    assert report(extract(*old), reported=NOW - 6 * HOUR).alarming != ()


def test_a_log_that_cannot_be_read_is_named_and_hides_nothing() -> None:
    found = report(Unknown(why="the audit log is away"), extract(*spread(3), source="log"))
    assert found.unread == ("the audit log is away.",)
    assert found.alarming


def test_nobody_is_named_in_full() -> None:
    assert "ann" not in report(extract(*spread(6))).model_dump_json(exclude={"read"})


def test_the_log_names_who_failed_and_a_refused_token_is_no_login() -> None:
    lines = tuple(
        LogLine(at=NOW, source="log", level="error", text=text)
        for text in ("❌ Authentication failed for ann@example.com", "❌ Authentication failed: jwt expired")
    )
    found = find_failed_logins(LogExtract(since=LONG_AGO, sources=("log",), lines=lines), PROFILE)
    assert isinstance(found, AttemptExtract)
    assert [one.user for one in found.attempts] == ["ann@example.com"]


def test_logs_of_which_none_can_be_read_are_no_quiet_ones() -> None:
    deaf = LogExtract(
        since=LONG_AGO, sources=("log",), unreadable=(Complaint(name="log", problem="is away"),)
    )
    assert isinstance(find_failed_logins(deaf, PROFILE), Unknown)


@given(st.lists(st.integers(0, 7 * 24 * 60), max_size=50), st.integers(1, 7 * 24))
def test_the_picture_has_every_attempt_once_and_a_bounded_number_of_periods(
    minutes: list[int], hours: int
) -> None:
    attempts = [attempt(minute * MINUTE) for minute in minutes if minute < hours * 60]
    counted = count_by_hour(attempts, NOW - hours * HOUR, NOW)
    assert sum(number for _, number in counted) == len(attempts)
    assert len(counted) <= 50


# --- Masks ---


@given(st.emails())
def test_a_masked_address_shows_the_first_letter_and_the_domain_alone(address: str) -> None:
    name, _, domain = address.rpartition("@")
    assert mask_email(address).startswith(f"{name[0]}***@{domain} (")


def test_two_addresses_that_begin_alike_are_told_apart() -> None:
    assert mask_email("user1@example.com") != mask_email("user2@example.com")
    assert mask_email("User1@example.com ")[1:] == mask_email("user1@example.com")[1:]


def test_every_address_in_a_text_is_masked() -> None:
    said = mask_emails("login of ann@example.com, then <bob.b@mail.example.org>.")
    assert "ann@" not in said
    assert "bob.b" not in said
    assert "a***@example.com" in said
