"""A person agrees to a plan, or does not: in Prefect's form, or at the terminal of a shell run."""

import sys
from typing import Any, Literal, TypeVar

from prefect import task
from prefect.context import TaskRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks.change_rendering import render_runbook_plan
from tasks.errors import RefusedError
from tasks.records.runbook_plan import RunbookPlan
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.trail import record_event

PlanT = TypeVar("PlanT", bound=RunbookPlan)


class Answer(RunInput):
    """The form that a waiting run shows. Prefect stores what is written here in clear."""

    decision: Literal["reject", "approve"] = Field(
        default="reject", description="Nothing is changed unless this says approve."
    )
    name: str = Field(default="", description="Who answers; it goes into the audit trail.")
    comment: str = Field(default="", description="Why; it goes into the audit trail.")


def _one_plan_a_run(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    return f"plan-{parameters['plan'].runbook}-{context.task_run.flow_run_id}"


@task(persist_result=True, cache_key_fn=_one_plan_a_run)
def remember_plan(plan: PlanT) -> PlanT:
    """Given the plan of a run, return the one that the run made first: after a wait it is the one shown."""
    return plan


def approve(profile: ServiceProfile, plan: RunbookPlan, run: Run, *, always: bool = False) -> None:
    """Given a plan, return when a person agrees, or the profile asks for none and it is not always needed.

    A deployed run is suspended: it holds no worker and no lock, and begins anew when it is answered. A run
    from a shell asks at its terminal. Raise ``RefusedError`` if the answer is no, or nobody can answer. A run
    that nobody answers in time is not started again: Prefect's server ends it as Failed, in its own words and
    without a line in the audit trail. Nothing was changed by then.
    """
    if not always and plan.runbook not in profile.approval.required_for:
        return
    if run.deployed:
        answer = _ask_in_the_ui(profile, plan)
    else:
        answer = _ask_at_the_terminal(profile, plan, run.started_by)
    who = answer.name.strip() or "somebody who gave no name"
    outcome = f"by {who}" + (f": {answer.comment.strip()}" if answer.comment.strip() else "")
    agreed = answer.decision == "approve"
    event: Literal["approved", "rejected"] = "approved" if agreed else "rejected"
    record_event(profile, run, plan.runbook, event, plan=plan.digest, outcome=outcome)
    if not agreed:
        raise RefusedError(f"{profile.name}: the plan was rejected {outcome}. Nothing was changed.")


def _ask_in_the_ui(profile: ServiceProfile, plan: RunbookPlan) -> Answer:
    shown = f"{render_runbook_plan(plan)}\n\nNo answer by the time this wait ends is a no."
    return suspend_flow_run(
        wait_for_input=Answer.with_initial_data(description=shown, decision="reject"),
        timeout=int(profile.approval.expires_after.total_seconds()),
        key=f"approve-{plan.digest[:16]}",
    )


def _ask_at_the_terminal(profile: ServiceProfile, plan: RunbookPlan, who: str) -> Answer:
    if not sys.stdin.isatty():
        raise RefusedError(
            f"{profile.name}: {plan.runbook} needs somebody's approval, and nobody can be asked here: start "
            "it from its deployment, or from a terminal. Nothing was changed."
        )
    question = f"Type {profile.name} to approve, anything else to reject: "
    sys.stderr.write(f"\n{render_runbook_plan(plan)}\n\n{question}")
    sys.stderr.flush()
    agreed = sys.stdin.readline().strip() == profile.name
    return Answer(decision="approve" if agreed else "reject", name=who)
