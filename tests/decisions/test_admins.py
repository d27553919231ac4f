"""Who is new among the administrators, and when one may be disabled."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.account_change import plan_account_change
from flows.decisions.admins import choose_before, judge_admins, remember
from tasks.profiles import read_profile
from tasks.records.accounts import Account, AccountFacts, AdminReport

SERVICES = Path(__file__).parents[2] / "deployments" / "services"
PROFILE = read_profile(SERVICES / "invoice.yaml")
PROBE = "probe@example.com"
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def account(
    email: str = "ann@example.com",
    *,
    active: bool = True,
    organization: str | None = "acme",
    role: str = "admin",
) -> Account:
    return Account(email=email, role=role, active=active, is_admin=role == "admin", organization=organization)


def judge(now: list[Account], before: list[Account] | None = None) -> AdminReport:
    then = remember(before, NOW - DAY) if before is not None else None
    return judge_admins("invoice", now, then, PROBE, NOW)


def facts(
    *exact: Account, others: int = 1, of_organization: int = 1, sessions: int | None = None
) -> AccountFacts:
    return AccountFacts(
        where="users of the application's database",
        asked=exact[0].email if exact else "ann@example.com",
        exact=exact,
        other_admins=others,
        other_admins_of_organization=of_organization,
        sessions=sessions,
    )


def refusal(*exact: Account, others: int = 1, of_organization: int = 1, enable: bool = False) -> str:
    found = facts(*exact, others=others, of_organization=of_organization)
    plan = plan_account_change(PROFILE, found, enable=enable)
    assert not (plan.refusal and plan.acts)
    return plan.refusal or ""


# --- Who is new ---


def test_the_first_look_calls_nobody_new() -> None:
    report = judge([account()])
    assert report.new == ()
    assert "no earlier look" in report.headline


def test_somebody_who_was_not_there_is_new_and_stands_first() -> None:
    report = judge([account("ann@example.com"), account("zoe@example.com")], [account("ann@example.com")])
    assert report.new == ("zoe@example.com",)
    assert report.admins[0].email == "zoe@example.com"
    assert report.headline == "invoice: 2 active administrators of 2; 1 new."


def test_an_administrator_who_was_disabled_and_can_log_in_again_is_new() -> None:
    assert judge([account()], [account(active=False)]).new == ("ann@example.com",)
    assert judge([account(active=False)], [account()]).gone == ("ann@example.com",)


def test_a_service_that_nobody_can_administer_is_told_also_when_the_probe_could() -> None:
    report = judge([account(active=False), account(PROBE)])
    assert any("Nobody can administer" in finding for finding in report.findings)


def test_an_organisation_without_an_active_administrator_is_named() -> None:
    report = judge([account(), account("bob@example.com", active=False, organization="umbrella")])
    assert report.findings == ("No administrator of the organisation umbrella is active.",)


def test_what_is_compared_with_is_the_newest_look_before_the_moment() -> None:
    looks = [remember([account(f"{n}@example.com")], NOW - n * DAY) for n in (3, 1, 2)]
    assert choose_before(looks, NOW - DAY) == looks[2]
    assert choose_before(looks, NOW - 3 * DAY) is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), unique_by=lambda one: one[0]))
def test_a_look_is_never_new_to_itself(people: list[tuple[str, bool]]) -> None:
    admins = [account(f"{name}@example.com", active=active) for name, active in people]
    report = judge(admins, admins)
    assert (report.new, report.gone) == ((), ())


# --- Who may be disabled ---


def test_an_ordinary_user_is_disabled_whoever_else_administers() -> None:
    plan = plan_account_change(PROFILE, facts(account(role="employee"), others=0), enable=False)
    assert plan.refusal is None
    (act,) = plan.acts
    assert act.what == "Set isActive of ann@example.com to false"
    assert "rotate-jwt-secret" in act.why, "what cannot be ended is said, with the way"
    assert "enable on" in act.undo


def test_the_last_active_administrator_is_not_disabled_and_the_way_out_is_said() -> None:
    said = refusal(account(), others=0, of_organization=0)
    assert "last active administrator." in said
    assert "Make another user one first" in said


def test_the_last_one_of_an_organisation_is_not_either() -> None:
    assert "of the organisation acme" in refusal(account(), others=3, of_organization=0)
    assert refusal(account(organization=None), others=3, of_organization=0) == ""


def test_the_probe_is_not_disabled() -> None:
    assert "application.login first" in refusal(account(PROBE))


def test_enabling_is_never_refused_for_who_else_administers() -> None:
    assert refusal(account(active=False), others=0, of_organization=0, enable=True) == ""


def test_nobody_and_two_are_refused() -> None:
    assert "There is no user ann@example.com" in refusal()
    assert "More than one user" in refusal(account(), account())
    spelled = facts().model_copy(update={"alike": "Ann@example.com"})
    plan = plan_account_change(PROFILE, spelled, enable=False)
    assert plan.refusal is not None
    assert "Ann@example.com" in plan.refusal
    unnamed = plan_account_change(PROFILE, facts().model_copy(update={"asked": ""}), enable=False)
    assert unnamed.refusal == "No user is named: give the e-mail address."


def test_who_is_so_already_is_left_alone() -> None:
    plan = plan_account_change(PROFILE, facts(account(active=False), others=0), enable=False)
    assert (plan.refusal, plan.acts) == (None, ())
    assert "not active already" in plan.summary


def test_sessions_of_who_is_disabled_already_are_ended_all_the_same() -> None:
    plan = plan_account_change(PROFILE, facts(account(active=False), sessions=2), enable=False)
    assert [act.how_many for act in plan.acts] == ["2 sessions"]
    assert plan_account_change(PROFILE, facts(account(active=False), sessions=2), enable=True).sessions == 0
