"""What the plans of a restart, a start and a stop say, for each way in which an application may be."""

from pathlib import Path

import pytest

from flows.decisions.control_plan import Action, plan_control, plan_restart, say_how_stop_is_seen
from flows.decisions.drift import find_drift
from tasks.profiles import read_profile
from tasks.records.process import ProcessStatus

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
RUNS = ProcessStatus(running=True, stopped=False, detail="PM2 says of invoice-backend: 1 online")
STOPPED = ProcessStatus(running=False, stopped=True, detail="PM2 says of invoice-backend: 1 stopped")
CRASHED = ProcessStatus(running=False, stopped=False, detail="PM2 says of invoice-backend: 1 errored")


@pytest.mark.parametrize(
    ("status", "how", "acts"),
    [
        (RUNS, "graceful", ["Restart", "Stop", "Wait"]),
        (RUNS, "hard", ["Stop", "Wait"]),
        (STOPPED, "graceful", ["Stop", "Wait"]),
        (CRASHED, "graceful", ["Stop", "Wait"]),
    ],
)
def test_a_restart_is_graceful_first_only_where_there_is_something_to_be_gentle_to(
    status: ProcessStatus, how: str, acts: list[str]
) -> None:
    plan = plan_restart(PROFILE, status, None, "graceful" if how == "graceful" else "hard")
    assert [act.what.split()[0] for act in plan.acts] == acts
    assert status.detail in plan.summary


def test_a_restart_says_what_is_wrong_and_rests_on_whether_somebody_has_stopped_the_application() -> None:
    plan = plan_restart(PROFILE, CRASHED, "it answered 503", "graceful")
    assert plan.summary.endswith("; it is not healthy, it answered 503.")
    assert find_drift(plan, plan_restart(PROFILE, RUNS, None, "graceful")) is None
    assert "state was it is not stopped" in (
        find_drift(plan, plan_restart(PROFILE, STOPPED, None, "graceful")) or ""
    )


@pytest.mark.parametrize(
    ("status", "action", "acts"),
    [
        (RUNS, "start", 0),
        (RUNS, "stop", 1),
        (STOPPED, "start", 1),
        (STOPPED, "stop", 0),
        (CRASHED, "start", 1),
        (CRASHED, "stop", 1),
    ],
)
def test_what_is_so_already_is_left_alone(status: ProcessStatus, action: Action, acts: int) -> None:
    plan = plan_control(PROFILE, status, action)
    assert len(plan.acts) == acts
    assert ("nothing to do" in plan.summary) == (acts == 0)


@pytest.mark.parametrize(
    ("manager", "seen"), [("pm2", "no process of it is left"), ("windows", "Windows says so")]
)
def test_a_stop_promises_no_more_than_the_worker_can_see(manager: str, seen: str) -> None:
    application = PROFILE.application.model_copy(update={"process_manager": manager})
    profile = PROFILE.model_copy(update={"application": application})
    assert say_how_stop_is_seen(profile) == seen
    (stop,) = plan_control(profile, RUNS, "stop").acts
    assert stop.what == f"Stop invoice-backend until {seen}"
