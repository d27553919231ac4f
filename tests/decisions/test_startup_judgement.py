"""Whether a start is whole: step by step, the first that is missing by its name."""

from datetime import timedelta
from typing import Any

import pytest

from flows.decisions.diagnosis import diagnose
from flows.decisions.startup_judgement import find_early_start, find_start, judge_startup
from tasks.records.checks import Checked
from tasks.records.evidence import Evidence
from tasks.records.observation import Complaint, Unknown
from tasks.records.service import ServiceProfile
from tests.decisions.outage_evidence import (
    DOWN,
    MINUTE,
    NOW,
    PROFILE,
    REFUSED,
    STRANGER,
    answers,
    database,
    evidence,
    of,
    process,
)

STARTED = NOW - 2 * MINUTE
LOGGED = of("logs", started_at=STARTED + timedelta(seconds=3), firebase_started=True, sources=("out.log",))
FRESH: dict[str, Any] = {
    "process": process(since=STARTED),
    "logs": LOGGED,
    "authentication": of("authentication", login="works", login_status=200),
}


def judge(*changes: dict[str, Any], profile: ServiceProfile = PROFILE) -> Checked:
    seen: Evidence = evidence(FRESH, *changes)
    return judge_startup(seen, diagnose(seen, profile), profile)


def test_a_whole_start_is_all_steps_in_their_order() -> None:
    checked = judge()
    assert checked.good
    assert checked.headline == "invoice has started: 8 of 8 steps are seen to be done."
    assert [line.name for line in checked.lines] == [
        "env file",
        "process",
        "port",
        "database",
        "Firebase's line",
        "routes",
        "start-up line",
        "health",
    ]


@pytest.mark.parametrize(
    ("step", "change", "said"),
    [
        ("env file", {"environment": of("environment", missing=("PORT",))}, "PORT is not set."),
        (
            "env file",
            {"environment": of("environment", malformed=(Complaint(name="PORT", problem="is no port"),))},
            "PORT is no port.",
        ),
        ("env file", {"environment": of("environment", problem="It is not there.")}, "It is not there."),
        ("process", {**DOWN, "process": process(state="errored", pid=None)}, ""),
        ("port", {"port": of("port", holders=(STRANGER,))}, "listens nginx (666), which is not"),
        ("port", {"port": of("port", holders=())}, "Nobody listens on port"),
        ("database", {"database": database("refuses the password")}, "It refuses the password."),
        (
            "Firebase's line",
            {"logs": LOGGED.model_copy(update={"firebase_started": False})},
            'The log does not say "Firebase Messaging initialized successfully".',
        ),
        (
            "routes",
            {"authentication": of("authentication", login="refused", login_status=404)},
            "answered 404",
        ),
        ("routes", {"authentication": of("authentication", login="no answer", login_status=500)}, "fails"),
        (
            "routes",
            {"authentication": of("authentication", login="no answer", login_problem="Nobody.")},
            "Nobody.",
        ),
        (
            "start-up line",
            {"logs": LOGGED.model_copy(update={"started_at": STARTED - MINUTE})},
            'The log does not say "Server running on port" since the process was started.',
        ),
        ("health", {"health": answers(REFUSED)}, "it does not answer"),
    ],
)
def test_the_first_step_that_is_missing_is_named(step: str, change: dict[str, Any], said: str) -> None:
    checked = judge(change)
    assert not checked.good
    assert checked.headline.startswith(f"invoice's start is not whole: the step '{step}' is missing. ")
    assert said in checked.headline


def test_a_login_that_is_refused_proves_that_the_route_is_there() -> None:
    assert judge({"authentication": of("authentication", login="refused", login_status=401)}).good


def test_a_step_that_cannot_be_seen_is_not_called_done() -> None:
    checked = judge({"database": Unknown(why="nobody knows its URL")})
    assert not checked.good
    assert checked.headline == (
        "invoice's start is not whole: the step 'database' cannot be seen. nobody knows its URL."
    )


def test_a_missing_step_is_named_before_one_that_cannot_be_seen() -> None:
    checked = judge({"environment": Unknown(why="nobody knows"), "health": answers(REFUSED)})
    assert "the step 'health' is missing" in checked.headline


def test_a_log_that_was_cut_off_since_is_no_missing_step() -> None:
    long_ago = NOW - timedelta(days=9)
    cut_off = LOGGED.model_copy(update={"started_at": None, "firebase_started": None})
    checked = judge({"process": process(since=long_ago), "logs": cut_off})
    assert checked.good
    assert checked.headline == "invoice has started: 6 of 8 steps are seen to be done."


def test_a_service_without_firebase_and_login_misses_neither() -> None:
    application = PROFILE.application.model_copy(update={"login": None})
    bare = PROFILE.model_copy(update={"firebase": None, "application": application})
    checked = judge(profile=bare)
    assert checked.good
    assert [line.verdict for line in checked.lines].count("-") == 2


def test_the_log_is_read_from_the_start_on_that_counts() -> None:
    seen = evidence(FRESH, {"process": process(since=NOW - timedelta(days=3))})
    assert find_start(seen) == NOW - timedelta(days=3)
    early = find_early_start(seen)
    assert early is not None
    assert early < NOW - timedelta(days=3)
    assert find_early_start(evidence(FRESH)) is None
    assert find_early_start(evidence(FRESH, {"logs": Unknown(why="no")})) is None
