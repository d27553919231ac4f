"""Runbook row I27: let a user in no more, or again, and prove it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.account_changing import apply_and_prove, observe_and_plan, refuse_drift, settle
from flows.decisions.account_change import RUNBOOK
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError
from tasks.mutation import mutating
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def disable_user(service: str, user: str, enable: bool = False, dry_run: bool = False) -> State[Any]:
    """Let a user of the application in no more, or again, and prove it.

    Trigger: by hand, when somebody leaves, or somebody else is in an account.

    Preconditions: the database answers the application's own user, which may write users.

    Steps: finish what a killed run began; look at the account and at who else administers; show the plan;
    refuse the last active administrator, and the probe; wait for approval where the profile asks for it;
    look again; change the account; end its sessions in the database, where the profile says that there are
    any; read the account back, and log the probe user in.

    Rollback: start it again with enable. A failure leaves what was done, and the next run does the rest.

    Args:
        service: The service's name, as in its profile.
        user: The user's e-mail address, as the application has it.
        enable: Let the user in again instead.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    settle(profile, run, dry_run=dry_run)
    plan = remember_plan(observe_and_plan(profile, user.strip(), enable=enable))
    publish_runbook_plan(plan)
    if plan.refusal is not None:
        raise RefusedError(f"{service}: {plan.refusal} Nothing was changed.")
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    if not plan.acts:
        return Completed(message=f"{service}: {plan.summary} There was nothing to do.")
    approve(profile, plan, run)
    with mutating(profile, run, plan) as journal:
        refuse_drift(profile, plan)
        said = apply_and_prove(profile, plan, journal)
        publish_done(plan, said, journal.entries, profile.zone)
        journal.close(said)
    return Completed(message=f"{service}: {said}")
