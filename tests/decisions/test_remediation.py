"""What is done about an outage and what is not: cases, and a thousand random sequences of alerts."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from flows.decisions.remediation import RemedyFacts, plan_remediation, tell_problem
from tasks.profiles import read_profile
from tasks.records.diagnosis import Cause, Certainty, Diagnosis, Verdict
from tasks.records.evidence import HealthAnswer, HealthFacts
from tasks.records.outage_care import Outage, Remedy
from tasks.records.remediation import DeliberateStop, Hold, Outcome, PastRemedy, RemediationPlan
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
ALL: tuple[Remedy, ...] = get_args(Remedy)
INVOICE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
HOUR, DAY = timedelta(hours=1), timedelta(hours=24)


def make_profile(remedies: Sequence[Remedy] = ALL, an_hour: int = 3) -> ServiceProfile:
    return INVOICE.model_copy(update={"outage": Outage(remedies=tuple(remedies), remedies_per_hour=an_hour)})


def make_cause(name: str, remedy: Remedy | None = "restart", **changed: Any) -> Cause:
    facts: dict[str, Any] = {
        "name": name,
        "title": f"It is {name}.",
        "certainty": "proven",
        "evidence": (),
        "row": "I33",
        "advice": f"Mend {name}.",
        "remedy": remedy,
    }
    return Cause(**(facts | changed))


STOPPED = make_cause("process stopped")
LEFT_BEHIND = make_cause("port kept by its own", "free-port", target="process 412 since 2026-11-22T01:00:00")
STUCK = make_cause("connections used up", "reset-connections", target="7, 9")
DISK_FULL = make_cause("disk full", None)


def diagnose(*causes: Cause, verdict: Verdict = "broken") -> Diagnosis:
    return Diagnosis(service="invoice", at=NOW, verdict=verdict, headline="It is down.", causes=causes)


def plan(
    *causes: Cause,
    profile: ServiceProfile | None = None,
    verdict: Verdict = "broken",
    problem: str | None = "it does not answer",
    past: Sequence[PastRemedy] = (),
    **said: Any,
) -> RemediationPlan:
    facts = RemedyFacts(problem=problem, past=past, now=NOW, **{"hold": Hold()} | said)
    return plan_remediation(profile or make_profile(), diagnose(*causes, verdict=verdict), facts)


def did(ago: timedelta, *causes: Cause, outcome: Outcome = "healthy again") -> PastRemedy:
    return PastRemedy(
        at=NOW - ago,
        run="run",
        remedy="restart",
        fingerprint=diagnose(*causes).fingerprint,
        outcome=outcome,
    )


def refusal_of(found: RemediationPlan) -> str:
    assert found.refusal is not None
    assert found.refusal.endswith(".")
    return found.refusal


# --- which remedies, and in which order


@pytest.mark.parametrize(
    ("causes", "remedies"),
    [
        ((STOPPED,), ["restart"]),
        ((STUCK,), ["reset-connections"]),
        ((LEFT_BEHIND,), ["free-port", "restart"]),
        ((STOPPED, LEFT_BEHIND), ["free-port", "restart"]),
        ((STOPPED, STUCK), ["reset-connections", "restart"]),
        ((STOPPED, make_cause("hanging")), ["restart"]),
        ((STOPPED, STUCK, LEFT_BEHIND), ["free-port", "reset-connections", "restart"]),
        ((STOPPED, make_cause("certificate expired", None)), ["restart"]),
        ((STOPPED, make_cause("guessed", None, certainty="possible")), ["restart"]),
    ],
)
def test_what_gives_something_back_comes_before_the_one_restart(
    causes: tuple[Cause, ...], remedies: list[str]
) -> None:
    found = plan(*causes, profile=make_profile(an_hour=5))
    assert found.refusal is None
    assert [step.remedy for step in found.steps] == remedies
    assert len(found.acts) == len(remedies)
    assert not found.needs_approval


@pytest.mark.parametrize("hopeless", [DISK_FULL, make_cause("a rule nobody wrote yet", None)])
def test_nothing_is_done_where_something_else_keeps_the_service_down(hopeless: Cause) -> None:
    found = plan(STOPPED, hopeless)
    assert hopeless.title.rstrip(".") in refusal_of(found)
    assert found.steps == ()


def test_a_cause_without_a_remedy_is_for_people() -> None:
    assert "people are needed" in refusal_of(plan(make_cause("guessed", None, certainty="possible")))


def test_the_plan_rests_on_what_each_remedy_acts_on() -> None:
    assert plan(LEFT_BEHIND).rests_on == {
        "free-port against port kept by its own": LEFT_BEHIND.target,
        "restart against port kept by its own": "found",
    }


# --- what waits for a person


def test_what_the_profile_does_not_allow_waits_for_a_person() -> None:
    assert plan(STOPPED, profile=make_profile([])).needs_approval
    assert plan(LEFT_BEHIND, profile=make_profile(["free-port"])).needs_approval
    assert not plan(STOPPED, profile=make_profile(["restart"])).needs_approval


def test_a_remedy_for_what_is_merely_possible_waits_for_a_person() -> None:
    assert plan(make_cause("hanging", certainty="possible")).needs_approval
    assert not plan(make_cause("hanging", certainty="likely")).needs_approval


def test_where_the_kill_switch_cannot_be_asked_the_person_at_the_shell_decides() -> None:
    found = plan(STOPPED, hold=Hold(asked=False))
    assert found.needs_approval
    assert "kill switch" in found.summary
    assert found.refusal is None


# --- what is refused


def test_a_healthy_service_is_left_alone() -> None:
    assert "healthy" in refusal_of(plan(STOPPED, problem=None))
    assert "healthy" in refusal_of(plan(STOPPED, verdict="healthy"))


def test_an_unknown_verdict_is_no_ground_to_act() -> None:
    assert "unknown" in refusal_of(plan(STOPPED, verdict="unknown"))


def test_what_a_person_stopped_is_left_to_people() -> None:
    stopped = DeliberateStop(at=NOW - HOUR, by="Ada")
    found = refusal_of(plan(STOPPED, stop=stopped))
    assert found.startswith("It was stopped on purpose at ")
    assert "by Ada: start it with control-service" in found


def test_the_kill_switch_says_why_it_is_on() -> None:
    found = refusal_of(plan(STOPPED, hold=Hold(reason="Ada migrates the database until 5.")))
    assert "Ada migrates the database until 5. Nothing is done" in found


def test_a_spent_budget_says_when_the_next_remedy_is_possible() -> None:
    past = [did(timedelta(minutes=minutes)) for minutes in (50, 20, 10)]
    assert "The next is possible at 2026-11-22 13:10:00 AEDT." in refusal_of(plan(STOPPED, past=past))
    assert plan(STOPPED, past=past[1:]).refusal is None
    assert plan(STOPPED, past=[did(HOUR), *past[1:]]).refusal is None


def test_all_steps_of_a_plan_must_fit_into_the_budget() -> None:
    past = [did(timedelta(minutes=50)), did(timedelta(minutes=20))]
    assert "at 2026-11-22 13:10:00 AEDT." in refusal_of(plan(LEFT_BEHIND, past=past))
    said = refusal_of(plan(LEFT_BEHIND, profile=make_profile(an_hour=1)))
    assert said == "2 remedies would be needed, and the profile allows 1 an hour: people are needed."


def test_a_clock_that_goes_back_gives_no_budget_back() -> None:
    past = [did(-timedelta(hours=hours)) for hours in (1, 2, 30)]
    assert "were done already" in refusal_of(plan(STOPPED, past=past))


@pytest.mark.parametrize("outcome", ["begun", "not healthy", "undone", "failed"])
def test_what_did_not_help_is_not_done_again_for_a_day(outcome: Outcome) -> None:
    said = refusal_of(plan(STOPPED, past=[did(timedelta(hours=23), STOPPED, outcome=outcome)]))
    assert "did not help" in said
    assert plan(STOPPED, past=[did(DAY, STOPPED, outcome=outcome)]).refusal is None
    assert plan(STUCK, past=[did(HOUR, STOPPED, outcome=outcome)]).refusal is None


def test_a_busy_cpu_beside_it_makes_no_other_evidence_of_it() -> None:
    past = [did(HOUR, STOPPED, outcome="undone")]
    assert "did not help" in refusal_of(plan(STOPPED, make_cause("cpu saturated", None), past=past))


def test_what_helped_may_be_done_again() -> None:
    assert plan(STOPPED, past=[did(timedelta(minutes=5), STOPPED)]).refusal is None


# --- how the service looks


def answered(*answers: tuple[float, str | None]) -> HealthFacts:
    return HealthFacts(
        answers=tuple(
            HealthAnswer(url="http://x", seconds=took, problem=problem) for took, problem in answers
        )
    )


@pytest.mark.parametrize(
    ("health", "problem"),
    [
        (answered((0.1, None)), None),
        (answered((0.1, "it answered 500"), (0.1, None)), None),
        (answered((0.1, None), (0.1, "it answered 500")), "it answered 500"),
        (answered((3, None), (0.1, None)), None),
        (answered((3.5, None), (2.5, None)), "none of its answers took less than 2.5 s"),
    ],
)
def test_slow_without_exception_is_a_problem_as_well(health: HealthFacts, problem: str | None) -> None:
    assert tell_problem(Outage(), health) == problem


# --- a thousand random sequences of alerts


class Night:
    """A service in trouble, its alerts, and what the triages did, by the true time and by the host's clock.

    The host's clock may go back; people turn the kill switch on and off, also between two steps.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.profile = make_profile(self.chance.sample(ALL, k=3), an_hour=self.chance.randint(0, 4))
        self.now, self.behind = NOW, timedelta(0)
        self.held = False
        self.past: list[PastRemedy] = []
        self.acts: list[tuple[datetime, PastRemedy]] = []
        self.refusals: list[str] = []

    def live(self) -> None:
        for _ in range(25):
            self.now += timedelta(seconds=self.chance.choice([1, 30, 300, 900, 4000, 40_000]))
            if self.chance.random() < 0.1:
                self.behind += timedelta(minutes=self.chance.choice([1, 59, 600]))
            self.held = self.chance.random() < (0.8 if self.held else 0.15)
            self.triage()

    def triage(self) -> None:
        problem = self.chance.choice([None, "it answered 500", "it does not answer"])
        verdict = self.chance.choice(get_args(Verdict))
        found = diagnose(*self.some_causes(), verdict=verdict)
        facts = RemedyFacts(problem, tuple(self.past), self.now - self.behind, self.some_hold())
        made = plan_remediation(self.profile, found, facts)
        if made.refusal is not None:
            self.refusals.append(made.refusal)
            return
        assert problem is not None
        assert verdict in {"broken", "degraded"}
        assert not self.held
        first = len(self.past)
        for step in made.steps:
            if self.some_hold().reason is not None:
                break
            self.begin(step.remedy, made.fingerprint)
            self.now += timedelta(seconds=self.chance.randint(0, 90))
            self.held = self.chance.random() < 0.1
        outcome: Outcome = self.chance.choice(get_args(Outcome))
        self.past[first:] = [remedy.model_copy(update={"outcome": outcome}) for remedy in self.past[first:]]

    def begin(self, remedy: Remedy, fingerprint: str) -> None:
        assert not self.held
        at = self.now - self.behind
        begun = PastRemedy(at=at, run="run", remedy=remedy, fingerprint=fingerprint, outcome="begun")
        self.past.append(begun)
        self.acts.append((self.now, begun))

    def some_hold(self) -> Hold:
        return Hold(reason="people are at work" if self.held else None)

    def some_causes(self) -> list[Cause]:
        pool = [STOPPED, LEFT_BEHIND, STUCK, DISK_FULL, make_cause("hanging"), make_cause("clock skew", None)]
        pool.append(make_cause("hanging", target=str(self.chance.randint(1, 3))))
        certainty = self.chance.choice(get_args(Certainty))
        chosen = self.chance.sample(pool, k=self.chance.choice([0, 1, 1, 1, 2]))
        return [cause.model_copy(update={"certainty": certainty}) for cause in chosen]

    def assert_guarded(self) -> None:
        allowed = self.profile.outage.remedies_per_hour
        for at, _ in self.acts:
            assert len([other for other, _ in self.acts if at <= other < at + HOUR]) <= allowed
        ended = {(remedy.at, remedy.remedy, remedy.fingerprint): remedy.outcome for remedy in self.past}
        for number, (at, act) in enumerate(self.acts):
            for other_at, other in self.acts[:number]:
                repeated = other.fingerprint == act.fingerprint and other.remedy == act.remedy
                if repeated and at - other_at < DAY:
                    assert ended[other.at, other.remedy, other.fingerprint] == "healthy again"


def test_a_thousand_random_sequences_of_alerts_never_get_past_the_guard() -> None:
    acts, refusals = 0, []
    for seed in range(1000):
        night = Night(seed)
        night.live()
        night.assert_guarded()
        acts += len(night.acts)
        refusals += night.refusals
    assert acts > 2000
    # Each part of the guard was needed.
    for reason in ("kill switch is on", "were done already", "did not help", "is healthy", "verdict is"):
        assert sum(reason in refusal for refusal in refusals) > 100
