"""Runbook rows I34 and P22: somebody says that they have it, and nobody else is told."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.escalation import find_open
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RunbookError
from tasks.escalation_runs import call_off_levels, has_server
from tasks.escalations import list_escalations, read_escalation, record_step
from tasks.log_masking import mask
from tasks.profiles import load_service
from tasks.records.escalation import EscalationStep
from tasks.records.service import ServiceProfile
from tasks.run_context import observe_run


@flow(name="acknowledge", flow_run_name="{service} {who}")
@failing_in_one_sentence
def acknowledge(service: str, escalation: str = "", who: str = "", comment: str = "") -> State[Any]:
    """Take an escalation: from now on nobody else is told.

    Trigger: the link in what people were told, or a person in the Prefect UI.

    Preconditions: none.

    Steps: load the profile; find the escalation, the newest open one unless its id is given; write down who
    has it; cancel the runs that would tell the next levels.

    Rollback: start `escalate` again: it begins a new one.

    Args:
        service: The service's name, as in its profile.
        escalation: Its id, as in what people were told; empty is the newest that is open.
        who: Your name, for those who look at the report.
        comment: What you are about to do, if you wish.
    """
    profile, run = load_service(service), observe_run()
    record = read_escalation(profile, escalation) if escalation else find_open(list_escalations(profile))
    if record is None:
        return Completed(message=f"{service}: no escalation is open: nothing to acknowledge.")
    found = record.opening.id
    if (already := record.acknowledged) is not None:
        said = f"{service}: escalation {found} was acknowledged before, by {already.by}."
    else:
        by = mask(who, frozenset()) or run.started_by
        said = mask(comment, frozenset())
        record_step(profile, found, EscalationStep(at=run.started, kind="acknowledged", by=by, said=said))
        said = f"{service}: {by} has escalation {found}: nobody else is told."
    return Completed(message=f"{said}{_call_off(profile, found, said)}")


def _call_off(profile: ServiceProfile, escalation: str, why: str) -> str:
    if not has_server():
        return ""
    try:
        call_off_levels(profile, escalation, why)
    except RunbookError as error:
        return f" The next level's run could not be cancelled, but will tell nobody: {error}"
    return ""
