"""A person agrees to a plan or a late start, or does not: in Prefect's form, or at a shell run's terminal."""

import sys
from typing import Any, Final, Literal, TypeVar

from prefect import task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks.change_rendering import render_runbook_plan
from tasks.errors import RefusedError
from tasks.prefect_server import asking_prefect
from tasks.records.runbook_plan import RunbookPlan
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.trail import record_event

PlanT = TypeVar("PlanT", bound=RunbookPlan)
LATE_TAG: Final = "asks-whether-to-start-late"


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
        shown = f"{render_runbook_plan(plan)}\n\nNo answer by the time this wait ends is a no."
        answer = _ask_in_the_ui(profile, shown, f"approve-{plan.digest[:16]}")
    else:
        answer = _ask_at_the_terminal(profile, plan, run.started_by)
    agreed, outcome = _record(profile, run, plan.runbook, answer, plan.digest)
    if not agreed:
        raise RefusedError(f"{profile.name}: the plan was rejected {outcome}. Nothing was changed.")


def agree_to_late_start(profile: ServiceProfile, run: Run, why: str) -> tuple[bool, str]:
    """Given a scheduled run that is late, return whether a person wants it all the same, and who said so.

    The run is suspended and shows what it would do: it holds no worker, and begins anew when it is answered.
    One that nobody answers in time is ended as Skipped, by an automation of Prefect's server that knows it by
    its tag.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        raise RefusedError(f"{profile.name}: {why} Nobody can be asked here.")
    flow, flow_run = context.flow, context.flow_run
    with asking_prefect() as client:
        client.update_flow_run(flow_run.id, tags={*flow_run.tags, LATE_TAG})
    steps = (flow.description or "").partition("\nArgs:")[0].strip()
    shown = (
        f"{why}\n\nShall it run now? It would:\n\n{steps}\n\nNo answer by the time this wait ends skips it."
    )
    answer = _ask_in_the_ui(profile, shown, "late-start")
    return _record(profile, run, flow.name, answer)


def _ask_in_the_ui(profile: ServiceProfile, shown: str, key: str) -> Answer:
    return suspend_flow_run(
        wait_for_input=Answer.with_initial_data(description=shown, decision="reject"),
        timeout=int(profile.approval.expires_after.total_seconds()),
        key=key,
    )


def _record(
    profile: ServiceProfile, run: Run, runbook: str, answer: Answer, plan: str = ""
) -> tuple[bool, str]:
    """Write the answer into the audit trail; return whether it is yes, and who gave it."""
    who = answer.name.strip() or "somebody who gave no name"
    outcome = f"by {who}" + (f": {answer.comment.strip()}" if answer.comment.strip() else "")
    agreed = answer.decision == "approve"
    event: Literal["approved", "rejected"] = "approved" if agreed else "rejected"
    record_event(profile, run, runbook, event, plan=plan, outcome=outcome)
    return agreed, outcome


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
