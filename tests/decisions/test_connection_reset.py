"""Which sessions are stuck: those that hold others up, and no one that goes on by itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.connection_reset import find_stuck, plan_reset
from tasks.profiles import read_profile
from tasks.records.stuck_sessions import ApplicationSession, Blocker, DatabaseSessions, SessionIdentity

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "propertypulse.yaml")
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
LIMIT = timedelta(seconds=60)
LONG, SHORT = 61.0, 59.0
IDLE = "idle in transaction"


def session(  # noqa: PLR0913  each is told apart by name
    number: str,
    state: str = "active",
    seconds: float = LONG,
    *,
    waits: float | None = None,
    by: tuple[str, ...] = (),
    statement: str = "",
    reads_only: bool = False,
) -> ApplicationSession:
    return ApplicationSession(
        identity=SessionIdentity(kind="session", number=number, since=NOW),
        who="app",
        state=state,
        seconds=seconds,
        waiting_seconds=waits,
        blocked_by=by,
        statement=statement,
        reads_only=reads_only,
    )


def among(*sessions: ApplicationSession, strangers: dict[str, float] | None = None) -> DatabaseSessions:
    """The sessions, and who keeps whom waiting; strangers wait for these so long."""
    longest: dict[str, float] = dict(strangers or {})
    for one in sessions:
        for number in one.blocked_by:
            longest[number] = max(longest.get(number, 0.0), one.waiting_seconds or 0.0)
    blockers = tuple(Blocker(number=n, who=f"who {n}", longest_wait=s) for n, s in longest.items())
    return DatabaseSessions(at=NOW, where="the database", sessions=sessions, blockers=blockers)


def stuck(*sessions: ApplicationSession, strangers: dict[str, float] | None = None) -> dict[str, str]:
    return {one.identity.number: one.why for one in find_stuck(among(*sessions, strangers=strangers), LIMIT)}


def test_a_transaction_that_is_idle_is_stuck_after_the_limit_and_not_before() -> None:
    found = stuck(session("1", IDLE), session("2", IDLE, SHORT), session("3", f"{IDLE} (aborted)"))
    assert found == {
        "1": "is idle in a transaction for 1 min 1 s",
        "3": "is idle in a transaction for 1 min 1 s",
    }


def test_a_session_that_works_or_is_idle_is_never_stuck_however_long() -> None:
    assert stuck(session("1", "active", 9999), session("2", "idle", 9999)) == {}


def test_a_session_for_which_others_wait_too_long_is_stuck_whoever_they_are() -> None:
    assert stuck(session("1"), session("2", waits=LONG, by=("1",))) == {
        "1": "keeps others waiting for 1 min 1 s"
    }
    assert stuck(session("1"), strangers={"1": LONG}) == {"1": "keeps others waiting for 1 min 1 s"}
    assert stuck(session("1"), session("2", waits=SHORT, by=("1",))) == {}


def test_of_a_chain_only_its_root_is_ended() -> None:
    chain = (
        session("1", IDLE),
        session("2", waits=LONG, by=("1",)),
        session("3", waits=LONG, by=("2", "1")),
    )
    assert stuck(*chain) == {
        "1": "is idle in a transaction for 1 min 1 s, and keeps others waiting for 1 min 1 s"
    }


def test_who_waits_for_a_stranger_is_stuck_and_the_stranger_is_named() -> None:
    found = stuck(session("1", waits=LONG, by=("99",)))
    assert found == {"1": "waits for a lock for 1 min 1 s, which session 99 (who 99) holds"}
    both = stuck(session("1", IDLE), session("2", waits=LONG, by=("1", "99")))
    assert set(both) == {"1", "2"}


def test_a_mongodb_operation_that_waits_or_reads_too_long_is_stuck_and_one_that_writes_is_not() -> None:
    found = stuck(session("1", waits=LONG), session("2", reads_only=True), session("3", "update on books"))
    assert set(found) == {"1", "2"}
    assert "reads for 1 min 1 s" in found["2"]


def test_a_plan_shows_the_shape_of_a_statement_and_no_value_of_it() -> None:
    statement = "UPDATE users SET token = 'hunter2' WHERE email = 'a@b.c'"
    found = among(session("1", IDLE, statement=statement), session("2", "idle"), strangers={"99": LONG})
    plan = plan_reset(PROFILE, found, all_of_the_application=False)
    (act,) = plan.acts
    assert "UPDATE users SET token = ? WHERE email = ?" in act.why
    assert "hunter2" not in plan.model_dump_json()
    # The stranger keeps only strangers waiting.
    assert "99" not in plan.summary
    assert (
        plan.summary
        == "Of the 2 sessions of the application in the database, 1 is stuck for 1 min and terminated."
    )


def test_all_of_them_are_all_of_them() -> None:
    found = among(session("1", "idle", 0), session("2", waits=1, by=("99",)), strangers={"99": LONG})
    plan = plan_reset(PROFILE, found, all_of_the_application=True)
    assert [target.identity.number for target in plan.targets] == ["1", "2"]
    assert "kept waiting by session 99 (who 99), not the application's, which is left alone" in plan.summary


NUMBERS = [str(number) for number in range(8)]


@st.composite
def crowds(draw: st.DrawFn) -> DatabaseSessions:
    """Sessions of the application, 0 to 5, of which some wait for earlier ones or strangers, 6 and 7."""
    sessions = []
    for number in NUMBERS[:6]:
        earlier = [other for other in NUMBERS if other < number or other > "5"]
        by = tuple(draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)))
        seconds = draw(st.sampled_from([SHORT, LONG]))
        state = draw(st.sampled_from(["active", "idle", IDLE]))
        waits = seconds if by else None
        sessions.append(session(number, "active" if by else state, seconds, waits=waits, by=by))
    return among(*sessions)


@given(crowds())
def test_when_the_stuck_are_gone_nobody_waits_too_long_for_the_application_itself(
    found: DatabaseSessions,
) -> None:
    gone = {one.identity.number for one in find_stuck(found, LIMIT)}
    assert gone <= {one.identity.number for one in found.sessions}
    left = [one for one in found.sessions if one.identity.number not in gone]
    free = {one.identity.number for one in left if not one.blocked_by}
    while more := {
        one.identity.number
        for one in left
        if one.identity.number not in free and set(one.blocked_by) <= free | gone
    }:
        free |= more
    for one in left:
        if (one.waiting_seconds or 0) >= LIMIT.total_seconds():
            assert set(one.blocked_by) <= free | gone, one
    # And nobody who neither waits nor keeps anybody waiting is ended, unless it is idle in a transaction.
    waited_for = {blocker.number for blocker in found.blockers}
    harmless = {
        one.identity.number
        for one in found.sessions
        if not one.blocked_by and one.identity.number not in waited_for and one.state != IDLE
    }
    assert not gone & harmless
