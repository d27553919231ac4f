"""Runbook rows I14, I15, I18, I33, P19 and P20: find what took a service down, and bring it back."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.triaging import diagnose_now
from tasks.conclusion import failing_in_one_sentence
from tasks.diagnosis_rendering import publish_diagnosis
from tasks.profiles import load_service


@flow(name="outage-triage", flow_run_name="{service}")
@failing_in_one_sentence
def outage_triage(service: str, dry_run: bool = False) -> State[Any]:
    """Find out what is wrong with a service, and say so on one page.

    Trigger: an alert, or a person to whom somebody said that the service is down. There is no schedule.

    Preconditions: none. What cannot be observed is named, and hides nothing else.

    Steps: load the profile; observe everything at once, each part within six seconds; diagnose; show what is
    broken, since when, why we think so and what to do.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
        dry_run: Show the diagnosis and what would be done, and stop.
    """
    profile = load_service(service)
    diagnosis = diagnose_now(profile)
    publish_diagnosis(diagnosis, profile.zone, dry_run=dry_run)
    if diagnosis.verdict == "healthy":
        return Completed(message=diagnosis.headline)
    return Failed(message=diagnosis.headline)
