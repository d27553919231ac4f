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

    The same cause in runs of one hour starts nothing new, nor does a run that waited and goes on. A run from
    a shell tells nobody: somebody sits there. It raises nothing: what a runbook found out is worth more than
    that nobody could be told.
    """
    if not run.deployed:
        return "Nobody was told: this run was started at a shell."
    if not profile.escalation.levels:
        return "Nobody was told: the profile has no escalation.levels."
    about = hashlib.sha256((cause or reason).encode()).hexdigest()[:16]
    key = f"hand-over:{profile.name}:{about}:{_say_hour(run)}"
    parameters = {"service": profile.name, "reason": reason, "cause": cause, "severity": severity}
    try:
        start_escalate(profile.name, parameters, key)
    except RunbookError as error:
        get_run_logger().warning("People could not be told: %s", error)
        return f"People could not be told: {error}"
    return f"People are being told: see escalate/{profile.name}."


def _say_hour(run: Run) -> str:
    """Return the hour in which the run was made: one that was suspended starts anew, and later."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    made = flow_run.created if flow_run is not None else None
    return f"{made or run.started:%Y-%m-%dT%H}"
