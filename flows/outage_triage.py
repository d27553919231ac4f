"""Runbook rows I14, I15, I18, I33, P19 and P20: find what took a service down, and bring it back."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.remediating import remediate
from flows.triaging import diagnose_now
from tasks.conclusion import failing_in_one_sentence
from tasks.diagnosis_rendering import publish_diagnosis
from tasks.handing_over import hand_over
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name="outage-triage", flow_run_name="{service}")
@failing_in_one_sentence
def outage_triage(service: str, dry_run: bool = False) -> State[Any]:
    """Find out what is wrong with a service, say so on one page, and do about it what may be done.

    Trigger: an alert, or a person to whom somebody said that the service is down. There is no schedule.

    Preconditions: none. What cannot be observed is named, and hides nothing else.

    Steps: load the profile; observe everything at once, each part within six seconds; diagnose; show what is
    broken, since when, why we think so and what to do; finish what a killed triage began. If there are
    remedies against all causes: show the plan; wait for approval unless the profile allows it at once;
    observe and diagnose again; free the port, reset the connections, restart, as planned, and ask the kill
    switch before each; prove that the service stays healthy; show the page again with what was done. Where
    people are needed, tell them by escalate.

    Rollback: an application that was down and does not become healthy is stopped again, and people are told;
    nothing else can be taken back. A killed run is finished by the next one, and its remedies count.

    Args:
        service: The service's name, as in its profile.
        dry_run: Show the diagnosis and what would be done, and stop.
    """
    profile, run = load_service(service), observe_run()
    diagnosis = diagnose_now(profile)
    publish_diagnosis(diagnosis, profile.zone, dry_run=dry_run)
    after = remediate(profile, run, diagnosis, dry_run=dry_run)
    publish_diagnosis(diagnosis, profile.zone, dry_run=dry_run, after=after)
    message = f"{diagnosis.headline} {after.said}"
    if after.outcome == "healthy again" or (
        after.outcome == "not needed" and diagnosis.verdict != "degraded"
    ):
        return Completed(message=message)
    if not dry_run:
        cause = diagnosis.causes[0].name if diagnosis.causes else ""
        message += f" {hand_over(profile, run, message, cause, diagnosis.verdict)}"
    return Failed(message=message)
