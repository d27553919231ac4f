"""Runbook rows I6 and I9 to I12: say every ten minutes whether a service is healthy, line by line."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.diagnosis import diagnose
from flows.decisions.health_judgement import is_only_change, judge_health, say_conclusion
from flows.late_starting import skip_replaced
from flows.triaging import gather
from tasks.check_rendering import publish_check
from tasks.conclusion import failing_in_one_sentence
from tasks.known_good import remember_healthy
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name="health-check", flow_run_name="{service}")
@failing_in_one_sentence
def health_check(service: str, accept_changes: bool = False) -> State[Any]:
    """Fail when a service is not healthy, with the same words as a triage would find at this moment.

    Trigger: every ten minutes; or by hand.

    Preconditions: none. What cannot be observed is named, and hides nothing else.

    Steps: load the profile; observe everything at once, each part within six seconds; diagnose; show a table
    with a line for each part; remember on this host what the service looks like while it is healthy.

    Rollback: none is needed, nothing of the service is changed.

    Args:
        service: The service's name, as in its profile.
        accept_changes: Take a secret that changed since the service was healthy last as changed on purpose.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_replaced(profile, run)) is not None:
        return skipped
    evidence = gather(profile)
    diagnosis = diagnose(evidence, profile)
    if accept_changes and is_only_change(diagnosis):
        remember_healthy(profile, evidence.at, accepted=True)
        evidence = gather(profile)
        diagnosis = diagnose(evidence, profile)
    checked = judge_health(evidence, diagnosis, profile)
    publish_check(checked, "health-check")
    if not checked.good:
        return Failed(message=say_conclusion(checked))
    remember_healthy(profile, evidence.at)
    return Completed(message=say_conclusion(checked))
