"""Runbook rows I29 and P18: put a service's database back to a backup set, without risking what is there."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.drill_plan import choose_set
from flows.decisions.restore_plan import plan_restore
from flows.restore_settling import settle
from flows.restoring import apply_restore, finish, holding_set, observe, required
from tasks import backup_sets
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_history, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError
from tasks.mutation import mutating
from tasks.profiles import load_service
from tasks.run_context import observe_run, read_clock
from tasks.swapping import open_swap_server

RUNBOOK = "restore-database"


@flow(name=RUNBOOK, flow_run_name="{service}: {wanted_set}")
@failing_in_one_sentence
def restore_database(
    service: str, wanted_set: str = "latest-verified", nothing_to_save: str = "", dry_run: bool = False
) -> State[Any]:
    """Put a service's database back to a backup set; the old data stays until the new is proven.

    Trigger: by hand, when data was lost or spoilt.

    Preconditions: the store and the database's server answer; the server has room for a second copy.

    Steps: finish or undo what a killed run left; list the sets and choose one; read all of it back; show the
    plan; wait for approval where the profile asks for it; restore into a new database beside the real one and
    compare it with the manifest; stop the application; back up what is there; put the new database in the
    real one's place; run the migrations; start; prove it by health and a login; drop the old data.

    Rollback: until the swap nothing is changed; after it, any failure swaps the old data back and starts the
    application; what users may have written meanwhile is saved first. A killed run is undone by the next one,
    which then goes on, or finished by it where the new data is proven.

    Args:
        service: The service's name, as in its profile.
        wanted_set: "latest-verified", "latest", or the id of a set.
        nothing_to_save: The service's name, typed, restores without backing up what is there now.
        dry_run: Show the sets and the plan, and stop.
    """
    profile, run = load_service(service), observe_run()
    if finished := settle(profile, run, RUNBOOK, nothing_to_save=nothing_to_save, dry_run=dry_run):
        return Completed(message=finished)
    server = open_swap_server(profile)
    state = backup_sets.observe_repository(profile, read_clock())
    publish_history(service, state.sets, profile.zone, runbook=RUNBOOK)
    facts = observe(profile, server, required(choose_set(state, wanted_set)))
    plan = remember_plan(plan_restore(profile, facts, nothing_to_save))
    publish_runbook_plan(plan)
    if plan.refusal is not None:
        raise RefusedError(f"{service}: {plan.refusal}")
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    approve(profile, plan, run)
    with (
        backup_sets.hold_repository(profile, purpose=RUNBOOK, holder=run.name) as lease,
        mutating(profile, run, plan) as journal,
    ):
        with holding_set(profile, server, plan, journal, lease):
            said = apply_restore(profile, server, plan, journal, lease)
        finish(profile, server, plan, journal, said)
    return Completed(message=said)
