"""What a triage makes of evidence: one row a fault, several faults at once, and what it must never say."""

from datetime import timedelta
from pathlib import Path

import pytest

from flows.decisions.diagnosis import diagnose, find_causes
from flows.decisions.diagnosis_rules import RULES
from tasks.records.observation import Complaint, Unknown
from tests.decisions.outage_evidence import (
    CRASHED,
    DOWN,
    FAULTS,
    FULL,
    GOOD_ANSWER,
    LOOPS,
    MINUTE,
    NOW,
    PROFILE,
    SICK,
    SILENT,
    Fault,
    answers,
    database,
    evidence,
    log,
    log_without_times,
    of,
    process,
    upstream,
)

CAUSES_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "causes.md"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_the_first_cause_and_named(fault: Fault) -> None:
    found = diagnose(evidence(fault.looks), PROFILE)
    assert [cause.name for cause in found.causes] == [fault.cause]
    assert fault.named in found.causes[0].title
    assert found.causes[0].certainty == fault.certainty
    assert found.verdict == fault.verdict
    assert found.causes[0].title in found.headline
    assert {cause.name for cause in found.consequences} >= set(fault.consequences)


def test_every_rule_has_a_fault_that_it_finds() -> None:
    told = {
        cause.name
        for fault in FAULTS.values()
        for found in [diagnose(evidence(fault.looks), PROFILE)]
        for cause in (*found.causes, *found.consequences)
    }
    assert {rule.name for rule in RULES} - told == {"recent change"}


def test_a_healthy_service_is_a_false_alarm() -> None:
    found = diagnose(evidence(), PROFILE)
    assert (found.verdict, found.causes, found.unobserved) == ("healthy", (), ())
    assert found.headline == "invoice is healthy: it answered in 0.02 s, and nothing is wrong with it."


def test_pressure_that_nobody_feels_is_a_note_and_no_cause() -> None:
    busy = of("host", cpu_percent=100.0, waiting_percent=90.0, memory_available_bytes=1)
    found = diagnose(evidence({"host": busy}), PROFILE)
    assert (found.verdict, found.causes) == ("healthy", ())
    assert sum("Nobody suffers from it yet." in note for note in found.notes) == 2


def test_what_would_keep_it_from_starting_is_a_note_as_long_as_it_runs() -> None:
    found = diagnose(evidence({"environment": of("environment", missing=("ENCRYPTION_KEY",))}), PROFILE)
    assert (found.verdict, found.causes) == ("healthy", ())
    assert found.notes[1].startswith("ENCRYPTION_KEY is missing in /srv/invoice/.env.")


def test_one_slow_answer_of_three_is_chance() -> None:
    slow = GOOD_ANSWER.model_copy(update={"seconds": 4.0})
    assert diagnose(evidence({"health": answers(slow, GOOD_ANSWER, slow)}), PROFILE).verdict == "healthy"


def test_two_independent_faults_are_both_causes_and_the_deeper_one_is_first() -> None:
    both = CRASHED | {
        "host": of("host", disks=FULL),
        "database": database("refuses the password"),
        "environment": of("environment", missing=("ENCRYPTION_KEY",)),
    }
    found = diagnose(evidence(both), PROFILE)
    assert [cause.name for cause in found.causes] == [
        "disk full",
        "missing variable",
        "database password refused",
    ]
    assert [cause.name for cause in found.consequences] == ["process errored"]
    assert found.consequences[0].explained_by == "disk full"


def test_a_person_who_stopped_it_is_a_cause_beside_any_other() -> None:
    stopped = DOWN | {
        "process": process(state="stopped", exit_code=0),
        "environment": of("environment", missing=("ENCRYPTION_KEY",)),
    }
    found = diagnose(evidence(stopped), PROFILE)
    assert {cause.name for cause in found.causes} == {"missing variable", "process stopped"}


def test_a_process_that_failed_to_start_follows_from_the_variable_that_it_misses() -> None:
    ended = DOWN | {
        "process": process(state="stopped", exit_code=1),
        "environment": of("environment", missing=("ENCRYPTION_KEY",)),
    }
    found = diagnose(evidence(ended), PROFILE)
    assert [cause.name for cause in found.causes] == ["missing variable"]
    assert [cause.name for cause in found.consequences] == ["process stopped"]


def test_a_full_disk_takes_a_database_down_only_if_the_log_says_so() -> None:
    looks = SICK | {"host": of("host", disks=FULL), "database": database("refuses connections")}
    apart = diagnose(evidence(looks), PROFILE)
    assert {cause.name for cause in apart.causes} == {"disk full", "database down"}
    together = diagnose(evidence(looks | {"logs": log("disk full")}), PROFILE)
    assert [cause.name for cause in together.causes] == ["disk full"]
    assert "database down" in {cause.name for cause in together.consequences}


def test_an_impairment_never_ranks_before_what_takes_the_service_down() -> None:
    looks = SILENT | {"upstreams": upstream("Stripe", "down"), "database": database("does not answer")}
    names = [cause.name for cause in diagnose(evidence(looks), PROFILE).causes]
    assert names == ["database unreachable", "upstream down"]


def test_without_a_cause_that_takes_it_down_the_verdict_is_unknown_and_the_evidence_is_told() -> None:
    looks = SICK | {
        "upstreams": upstream("Stripe", "down"),
        "logs": log("unhandled", "TypeError: x is not a function"),
    }
    found = diagnose(evidence(looks), PROFILE)
    assert found.verdict == "unknown"
    assert "nobody can say why yet" in found.headline
    assert [cause.name for cause in found.causes] == ["upstream down"]
    assert any("x is not a function" in note for note in found.notes)


def test_a_change_since_it_was_healthy_is_a_guess_and_only_if_there_is_nothing_better() -> None:
    changed = {"application": of("application", changed_files=("server.js",), changed_at=NOW - 5 * MINUTE)}
    alone = diagnose(evidence(SICK | changed), PROFILE)
    assert (alone.verdict, [cause.name for cause in alone.causes]) == ("unknown", ["recent change"])
    assert alone.causes[0].since == NOW - 5 * MINUTE
    better = diagnose(evidence(SICK | changed | {"database": database("refuses connections")}), PROFILE)
    assert [cause.name for cause in better.causes] == ["database down"]
    assert diagnose(evidence(changed), PROFILE).verdict == "healthy"


def test_what_hangs_hides_nothing_else() -> None:
    unknown = Unknown(why="there was no answer within 6 s")
    found = diagnose(evidence(SILENT | {"database": unknown, "host": of("host", disks=FULL)}), PROFILE)
    assert found.causes[0].name == "disk full"
    assert found.unobserved == ("The database: there was no answer within 6 s.",)


def test_a_stranger_on_the_port_is_only_likely_if_nobody_knows_which_processes_are_ours() -> None:
    looks = FAULTS["port taken"].looks | {"process": Unknown(why="PM2 does not answer")}
    (cause,) = diagnose(evidence(looks), PROFILE).causes
    assert (cause.name, cause.certainty) == ("port taken", "likely")


def test_a_lock_that_lasts_is_a_cause_even_if_health_does_not_need_it() -> None:
    (blocked,) = FAULTS["database locked"].looks["database"].sessions.blocked
    held = blocked.model_copy(update={"session": blocked.session.model_copy(update={"seconds": 90})})
    for wait, verdict in ((blocked, "healthy"), (held, "degraded")):
        sessions = of("database").sessions.model_copy(update={"blocked": (wait,)})
        found = diagnose(evidence({"database": of("database", sessions=sessions)}), PROFILE)
        assert found.verdict == verdict


def test_a_wait_of_a_moment_is_no_cause_unless_it_is_known_to_last() -> None:
    (blocked,) = FAULTS["database locked"].looks["database"].sessions.blocked
    short = blocked.model_copy(update={"session": blocked.session.model_copy(update={"seconds": 0.05})})
    given_up = short.model_copy(update={"lasts": True})
    for wait, cause in ((short, "hanging"), (given_up, "database locked")):
        sessions = of("database").sessions.model_copy(update={"blocked": (wait,)})
        found = diagnose(evidence(SILENT | {"database": of("database", sessions=sessions)}), PROFILE)
        assert [one.name for one in found.causes] == [cause]


def test_a_remedy_is_told_what_exactly_to_act_on() -> None:
    left = diagnose(evidence(FAULTS["port kept by an old process"].looks), PROFILE).causes[0]
    assert (left.remedy, left.target) == (
        "free-port",
        FAULTS["port kept by an old process"].looks["port"].holders[0].identity,
    )
    locked = diagnose(evidence(FAULTS["database locked"].looks), PROFILE).causes[0]
    assert (locked.remedy, locked.target) == ("reset-connections", "session 77")


def test_what_the_log_said_before_the_last_start_is_history() -> None:
    old = log("out of memory", started_at=NOW - MINUTE / 2)
    assert diagnose(evidence(SILENT | {"logs": old}), PROFILE).causes[0].name == "hanging"


def test_a_line_of_which_nobody_knows_the_time_proves_nothing() -> None:
    heap = {"logs": log_without_times("out of memory", "FATAL ERROR: Reached heap limit Allocation failed")}
    assert [cause.name for cause in diagnose(evidence(SILENT, heap), PROFILE).causes] == ["hanging"]
    lost = {"logs": log_without_times("database connection failed", "❌ Database connection failed: timeout")}
    (cause,) = diagnose(evidence(SICK, lost, {"database": database("does not answer")}), PROFILE).causes
    assert (cause.name, cause.certainty) == ("database unreachable", "likely")
    # A process that crashes for another reason says so after it.
    other = heap["logs"].model_copy(update={"last_words": ("TypeError: x is not a function",)})
    (cause,) = diagnose(evidence(LOOPS, {"logs": other}), PROFILE).causes
    assert cause.name == "crash loop"


def test_since_is_the_earliest_moment_that_is_later_than_the_last_healthy_one() -> None:
    looks = FAULTS["missing variable"].looks
    found = diagnose(evidence(looks), PROFILE)
    assert found.causes[0].since == NOW - 10 * MINUTE
    assert found.headline.startswith("invoice is down since 14:00:00 AEDT. ENCRYPTION_KEY is missing")
    later = diagnose(evidence(looks, {"last_healthy": NOW - 5 * MINUTE}), PROFILE)
    assert later.causes[0].since is None
    assert later.headline.startswith("invoice is down, and was healthy last at 14:05:00 AEDT. ")


def test_the_timeline_tells_in_order_what_evidence_dates() -> None:
    looks = FAULTS["syntax error"].looks | {"logs": log("syntax error")}
    told = diagnose(evidence(looks), PROFILE).timeline
    assert [entry.at for entry in told] == sorted(entry.at for entry in told)
    assert {entry.what for entry in told} >= {
        "It was healthy last.",
        "routes/auth.js changed.",
        "First line about: syntax error (3 lines).",
    }
    assert all(entry.at <= NOW for entry in told)


def test_a_certificate_that_ends_soon_is_worth_a_word() -> None:
    soon = of("certificate", ends_at=NOW + timedelta(days=9))
    found = diagnose(evidence({"certificate": soon}), PROFILE)
    assert (found.verdict, found.causes) == ("healthy", ())
    assert found.notes[-1] == "The certificate of invoice.example.com ends in 9 days: renew it."


def test_variables_that_are_set_twice_are_worth_a_word() -> None:
    twice = of("environment", repeated=("JWT_SECRET", "PORT"))
    found = diagnose(evidence({"environment": twice}), PROFILE)
    assert (found.verdict, found.causes) == ("healthy", ())
    assert found.notes[-1] == (
        "/srv/invoice/.env sets JWT_SECRET and PORT more than once, to different values: the last one counts."
    )


def test_a_wrong_clock_of_ours_explains_a_certificate_that_seems_to_have_ended() -> None:
    looks = FAULTS["this host's clock"].looks | FAULTS["certificate expired"].looks
    found = diagnose(evidence(looks), PROFILE)
    assert [cause.name for cause in found.causes] == ["clock skew"]
    assert {cause.name for cause in found.consequences} == {"certificate expired", "public way broken"}


@pytest.mark.parametrize("url", ["https://api.example.com/health", "http://127.0.0.1/health"])
def test_a_proxy_in_front_of_it_has_a_port_of_its_own(url: str) -> None:
    application = PROFILE.application.model_copy(update={"health_url": url})
    behind_a_proxy = PROFILE.model_copy(update={"application": application})
    healthy = diagnose(evidence(), behind_a_proxy)
    assert (healthy.verdict, any("listens on port" in note for note in healthy.notes)) == ("healthy", False)
    assert [cause.name for cause in diagnose(evidence(SILENT), behind_a_proxy).causes] == ["hanging"]
    # Nobody listens there: this host's port may be the application's own, another host's is the proxy's.
    refused = {"health": DOWN["health"]}
    causes = [cause.name for cause in diagnose(evidence(refused), behind_a_proxy).causes]
    assert causes == ([] if "example.com" in url else ["wrong port"])


def test_some_causes_may_be_asked_for_on_a_part_of_the_evidence() -> None:
    nothing = Unknown(why="it was not looked at")
    seen = evidence(
        {"host": nothing, "port": nothing, "process": nothing},
        {"environment": of("environment", missing=("JWT_SECRET", "PORT"))},
    )
    names = ("jwt secret missing", "firebase credentials bad")
    assert [cause.name for cause in find_causes(seen, PROFILE, names)] == ["jwt secret missing"]


def test_a_secret_that_the_service_does_not_require_may_be_missing() -> None:
    required = tuple(name for name in PROFILE.application.required_variables if name != "JWT_SECRET")
    application = PROFILE.application.model_copy(update={"required_variables": required})
    needs_no_tokens = PROFILE.model_copy(update={"application": application})
    seen = evidence({"authentication": of("authentication", secret="not set", login="not probed")})
    assert diagnose(seen, needs_no_tokens).verdict == "healthy"
    assert diagnose(seen, PROFILE).verdict == "degraded"


@pytest.mark.parametrize("state", ["does not answer", "unknown host"])
def test_a_database_that_is_slow_for_a_moment_is_a_note_unless_the_application_complains_too(
    state: str,
) -> None:
    found = diagnose(evidence({"database": database(state)}), PROFILE)
    assert (found.verdict, found.causes) == ("healthy", ())
    assert any("127.0.0.1:27017" in note for note in found.notes)
    complained = evidence({"database": database(state), "logs": log("database connection failed")})
    assert diagnose(complained, PROFILE).verdict == "degraded"


def test_the_env_file_itself_is_told_once() -> None:
    looks = FAULTS["env file gone"].looks | {
        "application": of(
            "application", unreadable=(Complaint(name="/srv/invoice/.env", problem="cannot be read"),)
        )
    }
    assert [cause.name for cause in diagnose(evidence(looks), PROFILE).causes] == ["env file unreadable"]


def test_the_rules_are_a_sound_table() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    explains = {rule.name: set(rule.explains) for rule in RULES}
    assert {name for follows in explains.values() for name in follows} <= set(names)
    # Something always is a root: no rule explains, by whatever way round, itself.
    while leaves := [name for name, follows in explains.items() if not follows & set(explains)]:
        for name in leaves:
            del explains[name]
    assert explains == {}
    assert all(rule.proof and rule.advice.endswith(".") for rule in RULES)


def test_the_reference_has_every_cause_as_the_table_has_it() -> None:
    lines = CAUSES_PAGE.read_text(encoding="utf-8").splitlines()
    rows = [
        f"| {rule.name} | {rule.row} | {rule.kind} | {rule.proof} | {rule.remedy or ''} | {rule.advice} |"
        for rule in RULES
    ]
    missing = "\n".join(row for row in rows if row not in lines)
    assert not missing, f"put these lines there:\n{missing}"
    assert [line for line in lines if line.startswith("| ") and line not in rows][1:] == []
