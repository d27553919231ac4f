"""Runbook row I30: put a service's application back to a backup set, and back again if it does not serve."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.application_restoring import (
    apply_plan,
    finish,
    observe_and_plan,
    settle,
    undo,
)
from flows.decisions.application_plan import RUNBOOK
from flows.decisions.drill_plan import choose_set
from flows.restoring import required
from tasks import backup_sets
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_runbook_plan
from tasks.backup_pause import holding_off_backups
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError, RunbookError
from tasks.mutation import mutating, undo_or_say
from tasks.profiles import load_service
from tasks.run_context import observe_run, read_clock


@flow(name=RUNBOOK, flow_run_name="{service}: {wanted_set}")
@failing_in_one_sentence
def restore_application(
    service: str, wanted_set: str = "latest-verified", keep_env: bool = True, dry_run: bool = False
) -> State[Any]:
    """Put a service's application back to a backup set; if it does not serve then, the present files return.

    Trigger: by hand, when a deployment or a person broke the application's files.

    Preconditions: the store answers; the disk has room for a second copy of the files.

    Steps: finish or undo what a killed run left; choose the set; read its archive back; show the plan; wait
    for approval where the profile asks for it; unpack beside the present files and compare with the manifest;
    keep the present .env and what the backup leaves out; install the dependencies; stop; change places;
    start; prove it by health and a login; delete the files of before.

    Rollback: until the application is stopped nothing is changed; after that, any failure puts the files of
    before back and starts the application. A killed run is undone by the next one, which then goes on, or
    finished by it where the restored files are proven.

    Args:
        service: The service's name, as in its profile.
        wanted_set: "latest-verified", "latest", or the id of a set.
        keep_env: Keep the present .env: an old one would bring secrets back that were replaced since.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    if finished := settle(profile, run, dry_run=dry_run):
        return Completed(message=finished)
    set_id = required(choose_set(backup_sets.observe_repository(profile, read_clock()), wanted_set))
    plan = remember_plan(observe_and_plan(profile, set_id, keep_env=keep_env))
    publish_runbook_plan(plan)
    if plan.refusal is not None:
        raise RefusedError(f"{service}: {plan.refusal} Nothing was changed.")
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    approve(profile, plan, run)
    with (
        holding_off_backups(profile, RUNBOOK, run.name),
        mutating(profile, run, plan) as journal,
    ):
        try:
            apply_plan(profile, run, plan, journal)
        except RunbookError as error:
            undone = undo_or_say(lambda: undo(profile, plan, journal), RUNBOOK)
            raise RunbookError(f"{error} {undone}") from error
        except BaseException:
            undo(profile, plan, journal)
            raise
        finish(profile, plan, journal)
    proof = "healthy, and its probe user logged in" if profile.application.login else "healthy"
    return Completed(message=f"{service}: the application is that of the set {plan.set_id}, and {proof}.")
