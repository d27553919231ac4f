"""A change as the Markdown that the Prefect UI shows: its plan, what was done, the trail of them all."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from tasks.artifact_rendering import (
    HASH_DIGITS,
    LONGEST_SENTENCE,
    MOST_LINES,
    escape,
    render_list,
    render_table,
)
from tasks.records.figures import say_duration, say_time
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.trail import CheckedTrail


def render_runbook_plan(plan: RunbookPlan) -> str:
    """Return what a runbook means to change, act by act, and what that rests on.

    As lists: the form in which somebody approves it is too narrow for a table.
    """
    difference = [f"```diff\n{plan.difference}\n```"] if plan.difference else []
    refused = [f"**Refused: {escape(plan.refusal, LONGEST_SENTENCE)}**"] if plan.refusal else []
    rests_on = (f"- {escape(name)}: {escape(value)}" for name, value in plan.rests_on.items())
    return "\n\n".join(
        (
            f"# Plan: {escape(plan.runbook)} of {plan.service}",
            *refused,
            escape(plan.summary, LONGEST_SENTENCE),
            "\n".join(_render_act(number, act) for number, act in enumerate(plan.acts, start=1)),
            *difference,
            "It rests on:",
            "\n".join(rests_on),
            f"Plan {plan.digest[:HASH_DIGITS]}",
        )
    )


def _render_act(number: int, act: PlannedAct) -> str:
    how_many = f" ({escape(act.how_many)})" if act.how_many else ""
    why, undo = escape(act.why, LONGEST_SENTENCE), escape(act.undo, LONGEST_SENTENCE)
    return f"{number}. **{escape(act.what)}**{how_many}. {why}. To undo: {undo}."


def render_done(
    runbook: str, service: str, said: str, steps: Sequence[tuple[datetime, str]], zone: tzinfo
) -> str:
    """Return what a runbook did, step by step as its journal has it, and how that ended."""
    rows = (
        (f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}", step, say_duration((after - at).total_seconds()))
        for (at, step), (after, _) in zip(steps, [*steps[1:], steps[-1]], strict=True)
    )
    table = render_table(("When", "Step", ">Took"), rows)
    return f"# Done: {escape(runbook)} of {service}\n\n{escape(said, LONGEST_SENTENCE)}\n\n{table}"


def render_trail(service: str, found: CheckedTrail, zone: tzinfo = UTC) -> str:
    """Return what is wrong with an audit trail, if anything, and its newest lines, newest first."""
    rows = (
        (
            line.number,
            say_time(line.at, zone),
            f"{line.run}, {line.started_by}",
            line.runbook,
            line.event,
            line.plan[:HASH_DIGITS],
            line.outcome,
        )
        for line in reversed(found.lines[-MOST_LINES:])
    )
    table = render_table((">", "When", "Who or what", "Runbook", "Event", "Plan", "Outcome"), rows)
    verdict = render_list(found.findings) or "Every line is as it was written."
    return f"# Audit trail of {service}\n\n{verdict}\n\n{table}"
