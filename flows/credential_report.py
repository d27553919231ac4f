"""How old every credential is, and which of them is overdue."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.credential_judgement import BAD, RUNBOOK, conclude, judge_ages
from tasks.conclusion import failing_in_one_sentence
from tasks.credential_ages import observe_ages_beside, observe_credential_ages
from tasks.credential_rendering import publish_credentials
from tasks.profiles import load_service
from tasks.run_context import read_clock


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def credential_report(service: str) -> State[Any]:
    """Show age, last rotation, last use, end and owner of every credential, what is overdue first.

    Trigger: every Monday at 08:00 in the service's time zone, or by hand.

    Preconditions: the profile's credentials name them; the worker's user may read the env file.

    Steps: load the profile, and those of the other services of this host; read what is known of each
    credential, from earlier rotations here and from its provider; hold it against the policy; show one table.
    Fail if one of this service's is overdue, has expired, is not set, or if an old one was not retired.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile = load_service(service)
    now = read_clock()
    ages = (*observe_credential_ages(profile, now), *observe_ages_beside(profile, now))
    judged = judge_ages(ages, now)
    said = conclude(service, judged)
    publish_credentials(RUNBOOK, service, said, judged, now, profile.zone)
    bad = any(one.verdict in BAD for one in judged if one.age.service == service)
    return Failed(message=said) if bad else Completed(message=said)
