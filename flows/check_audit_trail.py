"""Is the audit trail as it was written? Runbooks change a service only with a line in it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.artifacts import publish_trail
from tasks.conclusion import failing_in_one_sentence
from tasks.profiles import load_service
from tasks.records.figures import say_count
from tasks.trail import check_trail

# A state's message is a sentence or two; the artifact has all of them.
_MOST_TOLD = 3


@flow(name="check-audit-trail", flow_run_name="{service}")
@failing_in_one_sentence
def check_audit_trail(service: str) -> State[Any]:
    """Check that no line of a service's audit trail was altered, taken out or put in, and show the newest.

    Trigger: weekly, or by hand.

    Preconditions: it runs on the service's host, where the trail is; the store with the copies answers.

    Steps: load the profile; read the trail and its copies in the store; follow the chain of hashes; compare
    each line with its copy; show the newest lines and what is wrong; conclude.

    Rollback: nothing is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile = load_service(service)
    found = check_trail(profile)
    publish_trail(service, found, profile.zone)
    if found.findings:
        more = len(found.findings) - _MOST_TOLD
        return Failed(
            message=f"{service}: the audit trail is not as it was written. "
            f"{' '.join(found.findings[:_MOST_TOLD])}{f' And {more:,} more.' if more > 0 else ''} "
            "Keep both copies, and find out who was on the host."
        )
    lines = say_count(len(found.lines), "line")
    if found.lines:
        lines += f", the newest of {found.lines[-1].at.astimezone(profile.zone):%Y-%m-%d %H:%M %Z}"
    return Completed(message=f"{service}: the audit trail is as it was written: {lines}.")
