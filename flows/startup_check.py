"""Runbook row I3: say whether a start is whole, and name the first step that is missing."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.diagnosis import diagnose
from flows.decisions.log_signatures import recognize
from flows.decisions.startup_judgement import find_early_start, judge_startup
from flows.triaging import gather
from tasks.check_rendering import publish_check
from tasks.conclusion import failing_in_one_sentence
from tasks.log_reading import read_logs
from tasks.profiles import load_service
from tasks.records.checks import Checked
from tasks.records.service import ServiceProfile
from tasks.starting import await_start


@flow(name="startup-check", flow_run_name="{service}")
@failing_in_one_sentence
def startup_check(service: str) -> State[Any]:
    """Fail when a service's start is not whole, and name the first of its steps that is missing.

    Trigger: by hand, after a start, a deploy or a reboot of the host.

    Preconditions: none. A step that cannot be seen is not called done.

    Steps: load the profile; wait while the application is still starting; observe everything at once; hold it
    to the start-up sequence: env file, process, port, database, Firebase, routes, start-up line, health; if
    a step is missing look once more; show each step.

    Rollback: none is needed, nothing is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile = load_service(service)
    await_start(profile)
    checked = _look(profile)
    if not checked.good:
        # A host that has just been started may be too busy to answer in time.
        checked = _look(profile)
    publish_check(checked, "startup-check")
    return (Completed if checked.good else Failed)(message=checked.headline)


def _look(profile: ServiceProfile) -> Checked:
    evidence = gather(profile)
    if (since := find_early_start(evidence)) is not None:
        logs = recognize(read_logs(profile, since), profile)
        evidence = evidence.model_copy(update={"logs": logs})
    return judge_startup(evidence, diagnose(evidence, profile), profile)
