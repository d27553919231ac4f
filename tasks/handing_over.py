"""Hand over to people: start the runbook that tells them, level by level."""

import hashlib

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from tasks.errors import RunbookError
from tasks.escalation_runs import start_escalate
from tasks.records.service import ServiceProfile
from tasks.run_context import Run


@task(cache_policy=NO_CACHE, persist_result=False)
def hand_over(profile: ServiceProfile, run: Run, reason: str, cause: str = "", severity: str = "") -> str:
    """Given why people are needed, start telling them; return what became of that, in a sentence.

    A run that waited and goes on starts nothing new; what another run says of an outage that people are still
    being told of joins that. A run from a shell tells nobody: somebody sits there. It raises nothing: what a
    runbook found out is worth more than that nobody could be told.
    """
    if not run.deployed:
        return "Nobody was told: this run was started at a shell."
    if not profile.escalation.levels:
        return "Nobody was told: the profile has no escalation.levels."
    about = hashlib.sha256(reason.encode()).hexdigest()[:16]
    key = f"hand-over:{profile.name}:{about}:{_identify(run)}"
    parameters = {"service": profile.name, "reason": reason, "cause": cause, "severity": severity}
    try:
        start_escalate(profile.name, parameters, key)
    except RunbookError as error:
        get_run_logger().warning("People could not be told: %s", error)
        return f"People could not be told: {error}"
    return f"People are being told: see escalate/{profile.name}."


def _identify(run: Run) -> str:
    """Return what a run that was suspended has in common with itself when it starts anew."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    return str(flow_run.id) if flow_run is not None else f"{run.name} of {run.started.isoformat()}"
