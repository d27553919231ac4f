"""Runbook row I16: find out why users, or one of them, cannot log in."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.auth_judgement import judge_authentication
from flows.decisions.diagnosis import diagnose
from flows.triaging import gather
from tasks.check_rendering import publish_check
from tasks.conclusion import failing_in_one_sentence
from tasks.observing_user import observe_user
from tasks.profiles import load_service


@flow(name="auth-triage", flow_run_name="{service}")
@failing_in_one_sentence
def auth_triage(service: str, user: str = "") -> State[Any]:
    """Find out why users, or one of them, cannot log in to a service.

    Trigger: by hand, when somebody says that a login or a token is refused.

    Preconditions: none. What cannot be observed is named, and hides nothing else.

    Steps: load the profile; observe everything at once: the secret of tokens, a login of the probe user and
    whether its token holds, Firebase's credentials, the database, the clocks, the log's refusals; look the
    user up in the application's database, if one is given; rank what is wrong; show it.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
        user: What the user logs in with, as an e-mail address; empty if it concerns everybody. It is kept
            with the run's parameters, and shown on the page, nowhere else.
    """
    profile = load_service(service)
    looked_up = observe_user.submit(profile, user.strip()) if user.strip() else None
    evidence = gather(profile)
    found = looked_up.result() if looked_up is not None else None
    checked = judge_authentication(evidence, diagnose(evidence, profile), found, profile)
    publish_check(checked, "auth-triage", unlogged=user.strip())
    return (Completed if checked.good else Failed)(message=checked.headline)
