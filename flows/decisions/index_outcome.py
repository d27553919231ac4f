"""Are the recommended indexes there now? What a run of ensure-indexes ends with."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from flows.decisions.index_judgement import GOOD, TO_BUILD, IndexVerdict, key_of, say_key
from flows.decisions.index_plan import IndexPlan, IndexStep
from tasks.records.figures import say_bytes, say_count, shorten
from tasks.records.indexes import IndexProof

_LONGEST_PROBLEM = 600


class StepOutcome(BaseModel):
    """A step that was begun: how it failed, or what a new connection found afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: IndexStep
    failure: str = ""
    proof: IndexProof | None = None


def judge_outcome(outcome: StepOutcome) -> str | None:
    """Return what is wrong with a step that was begun, or None when it is proven."""
    step = outcome.step
    if outcome.failure:
        return outcome.failure
    facts = outcome.proof.facts if outcome.proof is not None else None
    if step.what == "drop":
        return f"{step.name} on {step.source} is still there." if facts is not None else None
    if facts is None:
        return f"{step.name} on {step.source} was built and is gone again: somebody dropped it."
    if not facts.is_valid or (facts.key, facts.unique) != (step.key, step.unique):
        return f"{step.name} on {step.source} is not what was built: look at it on the server."
    if outcome.proof is not None and outcome.proof.used == "":
        return f"{step.name} on {step.source} is there, but no query uses it: look at it on the server."
    return None


def find_problems(plan: IndexPlan, outcomes: Sequence[StepOutcome]) -> tuple[str, ...]:
    """Return why not every recommended index is there, or not every step done, as sentences."""
    failed = [problem for outcome in outcomes if (problem := judge_outcome(outcome)) is not None]
    left = len(plan.steps) - len(outcomes)
    if left and outcomes:
        failed.append(f"{say_count(left, 'further act was', 'further acts were')} not tried.")
    return tuple(shorten(problem, _LONGEST_PROBLEM) for problem in (*failed, *plan.problems))


def describe_outcome(plan: IndexPlan, outcomes: Sequence[StepOutcome]) -> str:
    """Return in one sentence what was done and how many of the recommended indexes are there."""
    good = [outcome.step for outcome in outcomes if judge_outcome(outcome) is None]
    built = sum(step.what != "drop" for step in good)
    dropped = len(good) - built
    there = built + sum(verdict.state in GOOD for verdict in plan.verdicts)
    said = f"{there} of {say_count(len(plan.verdicts), 'recommended index', 'recommended indexes')}"
    said += f" {'is' if there == 1 else 'are'} there, {built} of them built by this run"
    if dropped:
        said += f"; {say_count(dropped, 'superfluous one was', 'superfluous ones were')} dropped"
    elif plan.superfluous:
        said += f"; {say_count(len(plan.superfluous), 'other is', 'others are')} not recommended"
    return f"{said}."


def describe_rows(
    plan: IndexPlan, outcomes: Sequence[StepOutcome]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield source, key, state, size and what was done, of each recommended index."""
    ended = {(outcome.step.source, outcome.step.name): outcome for outcome in outcomes}
    building = {
        (step.source, step.key, step.unique): (step.source, step.name)
        for step in plan.steps
        if step.what != "drop"
    }
    for verdict in plan.verdicts:
        wanted = verdict.wanted
        key = key_of(wanted)
        name = building.get((wanted.source, key, wanted.unique)) if verdict.state in TO_BUILD else None
        state, size, said = _describe(verdict, ended.get(name) if name is not None else None)
        unique = ", unique" if wanted.unique else ""
        yield wanted.source, f"{say_key(key)}{unique}", state, size, said


def _describe(verdict: IndexVerdict, outcome: StepOutcome | None) -> tuple[str, str, str]:
    if outcome is None:
        size = say_bytes(verdict.facts.bytes) if verdict.facts is not None else ""
        return verdict.state, size, verdict.said
    if (problem := judge_outcome(outcome)) is not None:
        return "failed", "", problem
    done = "built" if outcome.step.what == "build" else "built again in its place"
    proof = outcome.proof
    size = say_bytes(proof.facts.bytes) if proof is not None and proof.facts is not None else ""
    return "present", size, f"{outcome.step.name} {done}, {_say_proof(outcome)}"


def _say_proof(outcome: StepOutcome) -> str:
    used = outcome.proof.used if outcome.proof is not None else None
    if used is None:
        return "listed as valid; this server does not explain queries"
    return "a query uses it" if used == outcome.step.name else f"valid; the server prefers {used}"
