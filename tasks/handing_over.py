"""Hand over to people: start the runbook that tells them, level by level."""

import hashlib

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import RunbookError
from tasks.escalation_runs import start_escalate
from tasks.records.service import ServiceProfile
from tasks.run_context import Run


@task(cache_policy=NO_CACHE, persist_result=False)
def hand_over(profile: ServiceProfile, run: Run, reason: str, cause: str = "", severity: str = "") -> str:
    """Given why people are needed, start telling them; return what became of that, in a sentence.

    The same cause within an hour starts nothing new. A run from a shell tells nobody: somebody sits there. It
    raises nothing: what a runbook found out is worth more than that nobody could be told.
    """
    if not run.deployed:
        return "Nobody was told: this run was started at a shell."
    if not profile.escalation.levels:
        return "Nobody was told: the profile has no escalation.levels."
    content = f"{profile.name}\n{cause or reason}\n{severity}\n{run.started:%Y-%m-%dT%H}"
    key = f"hand-over:{profile.name}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    parameters = {"service": profile.name, "reason": reason, "cause": cause, "severity": severity}
    try:
        start_escalate(profile.name, parameters, key)
    except RunbookError as error:
        return f"People could not be told: {error}"
    return f"People are being told: see escalate/{profile.name}."
