"""How a rotation is planned, and what becomes of one that was killed: a table."""

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.rotation import (
    decide_after_kill,
    follow_stage,
    list_due,
    plan_retirement,
    plan_rotation,
)
from tasks.profiles import read_profile
from tasks.records.rotation import CredentialFacts, FoundAfterKill, OpenRotation, Stage
from tasks.records.service import ServiceProfile

SERVICES = Path(__file__).parents[2] / "deployments" / "services"
NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
HOUR, NONE = timedelta(hours=1), timedelta(0)
STAGES = (
    Stage(name="make the old key inactive", after=HOUR),
    Stage(name="delete it", after=timedelta(days=7)),
)


@pytest.fixture
def profile() -> ServiceProfile:
    return read_profile(SERVICES / "propertypulse.yaml")


def facts(**changed: Any) -> CredentialFacts:
    fields: dict[str, Any] = {
        "credential": "s3",
        "identity": "uploads",
        "variables": {"AWS_ACCESS_KEY_ID": "1a2b", "AWS_SECRET_ACCESS_KEY": "3c4d"},
        "provider": {"AKIA1": "active"},
        "making": "Create a second key",
        "testing": "Put, get and delete an object",
        "proving": "Compare fingerprints",
        "undoing": "it is deleted",
        "stages": STAGES,
    }
    return CredentialFacts(**fields | changed)


def in_grace(due: datetime = NOW, stages: tuple[Stage, ...] = STAGES) -> OpenRotation:
    return OpenRotation(rotation="r", credential="s3", verified_at=NOW, due=due, stages=stages, facts={})


def test_a_plan_names_every_act_and_what_it_rests_on(profile: ServiceProfile) -> None:
    plan = plan_rotation(profile, facts(setting="Set it"), "r", emergency=False)
    assert [act.what for act in plan.acts] == [
        "Create a second key",
        "Set it",
        "Put, get and delete an object",
        f"Write AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into {profile.env_path}",
        f"Restart {profile.application.process_name} gracefully",
        "Compare fingerprints",
        "1 h later: make the old key inactive, and prove that the old one is refused",
        "7 days later: delete it, and prove that the old one is refused",
    ]
    assert plan.rests_on == {
        "AWS_ACCESS_KEY_ID": "1a2b",
        "AWS_SECRET_ACCESS_KEY": "3c4d",
        "at the provider: AKIA1": "active",
    }
    assert "the old one is retired 7 days 1 h later" in plan.summary


def test_an_emergency_knows_no_grace(profile: ServiceProfile) -> None:
    plan = plan_rotation(profile, facts(), "r", emergency=True)
    assert [stage.after for stage in plan.stages] == [NONE, NONE]
    assert "the old one is retired at once" in plan.summary
    assert "emergency" in plan.summary


@pytest.mark.parametrize(
    ("since", "due"),
    [(-1, []), (0, ["make the old key inactive"]), (7 * 24 * 60, ["make the old key inactive", "delete it"])],
)
def test_a_stage_is_due_when_its_grace_is_over_and_not_a_minute_before(
    profile: ServiceProfile, since: int, due: list[str]
) -> None:
    now = NOW + timedelta(minutes=since)
    assert [stage.name for stage in list_due(in_grace(), now)] == due
    assert len(plan_retirement(profile, in_grace(), now).acts) == len(due)


def test_after_a_stage_the_next_ones_grace_begins_and_after_the_last_nothing_is_left() -> None:
    left = follow_stage(in_grace(), NOW + HOUR)
    assert left is not None
    assert (left.stages, left.due) == (STAGES[1:], NOW + HOUR + timedelta(days=7))
    assert follow_stage(left, NOW) is None


@pytest.mark.parametrize(
    ("pending", "previous", "environment", "present", "what"),
    [
        ("not kept", "not kept", "previous", "accepted", "discard"),
        ("not kept", "accepted", "previous", "accepted", "discard"),
        ("accepted", "accepted", "previous", "accepted", "go on"),
        ("accepted", "refused", "previous", "refused", "go on"),
        ("accepted", "accepted", "pending", "accepted", "go on"),
        ("refused", "accepted", "previous", "accepted", "go back"),
        ("refused", "accepted", "pending", "refused", "go back"),
        ("refused", "refused", "pending", "refused", "go back"),
        ("accepted", "accepted", "other", "accepted", "leave"),
        ("accepted", "accepted", "other", "refused", "ask a person"),
    ],
)
def test_what_becomes_of_a_rotation_that_was_killed(
    pending: Any, previous: Any, environment: Any, present: Any, what: str
) -> None:
    found = FoundAfterKill(pending=pending, previous=previous, environment=environment, present=present)
    assert decide_after_kill(found) == what


def test_who_was_going_back_goes_on_with_that_unless_only_the_new_one_works() -> None:
    def decide(pending: Any, previous: Any) -> str:
        found = FoundAfterKill(pending=pending, previous=previous, environment="pending", present=pending)
        return decide_after_kill(found, was_going_back=True)

    assert decide("accepted", "accepted") == "go back"
    assert decide("refused", "accepted") == "go back"
    assert decide("accepted", "refused") == "go on"


@pytest.mark.parametrize(
    ("pending", "environment", "present", "what"),
    [
        ("not kept", "previous", "refused", "discard"),
        ("refused", "previous", "refused", "discard"),
        ("accepted", "previous", "refused", "go on"),
        ("accepted", "pending", "accepted", "go on"),
        ("refused", "pending", "refused", "discard"),
        ("accepted", "other", "accepted", "leave"),
        ("accepted", "other", "refused", "discard"),
    ],
)
def test_an_old_one_that_was_dead_before_is_put_in_force_by_nobody(
    pending: Any, environment: Any, present: Any, what: str
) -> None:
    found = FoundAfterKill(pending=pending, previous="refused", environment=environment, present=present)
    assert decide_after_kill(found, is_dead=True) == what
    assert decide_after_kill(found, was_going_back=True, is_dead=True) == what


def test_a_plan_promises_nothing_of_an_old_one_that_is_dead(profile: ServiceProfile) -> None:
    plan = plan_rotation(profile, facts(is_dead=True), "r", emergency=False)
    assert plan.is_dead
    assert not any("put back" in act.undo for act in plan.acts)
    stays = "if it does not come back, the new one stays: the old one is refused already"
    assert stays in [act.undo for act in plan.acts]


_WORKS = ("accepted", "refused")


@pytest.mark.parametrize(
    "found",
    [
        FoundAfterKill.model_validate(
            {"pending": pending, "previous": previous, "environment": environment, "present": present}
        )
        for pending, previous, environment, present in product(
            ("not kept", *_WORKS), ("not kept", *_WORKS), ("previous", "pending", "other"), _WORKS
        )
    ],
    ids=str,
)
def test_a_new_credential_that_does_not_work_is_never_put_in_force_and_no_persons_work_is_undone(
    found: FoundAfterKill,
) -> None:
    what = decide_after_kill(found)
    assert what != "go on" or found.pending == "accepted"
    assert what not in {"go on", "go back"} or found.environment != "other"
    assert what != "ask a person" or found.present == "refused"


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=4), st.integers(-10, 40_000))
def test_stages_end_in_their_order_and_all_of_them_in_time(minutes: list[int], passed: int) -> None:
    stages = tuple(
        Stage(name=str(number), after=timedelta(minutes=span)) for number, span in enumerate(minutes)
    )
    rotation = in_grace(NOW + stages[0].after, stages)
    due = list_due(rotation, NOW + timedelta(minutes=passed))
    assert due == stages[: len(due)]
    assert (len(due) == len(stages)) == (sum(minutes) <= passed)
