"""Runbook row I35: data is corrupt. Find out what is damaged, and go back to a set from before it."""

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.corruption import choose_set_before, plan_recovery
from flows.decisions.restore_plan import RestorePlan, plan_restore
from flows.restore_settling import settle
from flows.restoring import apply_restore, finish, holding_set, observe, put_back, required
from tasks import backup_sets
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_findings, publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RefusedError
from tasks.journal import Journal
from tasks.mutation import mutating
from tasks.process_manager import observe_application, stop_application
from tasks.profiles import load_service
from tasks.records.service import ServiceProfile
from tasks.run_context import observe_run, read_clock
from tasks.swapping import SwapServer, open_swap_server

RUNBOOK = "corruption-recovery"


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def corruption_recovery(
    service: str, damaged_since: datetime | None = None, nothing_to_save: str = "", dry_run: bool = False
) -> State[Any]:
    """Stop a service, examine its database, and restore the newest verified set from before the damage.

    Trigger: by hand, when the application or the server reports damaged data.

    Preconditions: as restore-database.

    Steps: finish or undo what a killed run left; choose the newest verified set from before the damage and
    read all of it back; show the plan; wait for approval where the profile asks for it; stop the application;
    examine every collection or table; where something is damaged, go on as restore-database does, up to a
    login; where nothing is, start the application again.

    Rollback: as restore-database. What could not be saved before is not replaced unless somebody says so.

    Args:
        service: The service's name, as in its profile.
        damaged_since: Sets that were not complete before this moment are not trusted; left out, the newest
            verified one is taken. Without a zone it is the service's time.
        nothing_to_save: The service's name, typed, restores although the damaged data cannot be backed up.
        dry_run: Show the plan, and stop.
    """
    profile, run = load_service(service), observe_run()
    if finished := settle(profile, run, RUNBOOK, nothing_to_save=nothing_to_save, dry_run=dry_run):
        return Completed(message=finished)
    server = open_swap_server(profile)
    state = backup_sets.observe_repository(profile, read_clock())
    if damaged_since is not None and damaged_since.tzinfo is None:
        damaged_since = damaged_since.replace(tzinfo=profile.zone)
    facts = observe(profile, server, required(choose_set_before(state, damaged_since)))
    restore = plan_restore(profile, facts, nothing_to_save, RUNBOOK)
    plan = remember_plan(plan_recovery(restore, profile.application.process_name))
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
            findings = _examine(profile, server, plan, journal)
            said = apply_restore(profile, server, plan, journal, lease) if findings else ""
        if findings:
            finish(profile, server, plan, journal, said)
        else:
            said = put_back(profile, server, journal)
    damage = f"Damaged: {' '.join(findings)} {said}" if findings else f"nothing is damaged. {said}"
    return Completed(message=f"{service}: {damage}")


def _examine(
    profile: ServiceProfile, server: SwapServer, plan: RestorePlan, journal: Journal
) -> tuple[str, ...]:
    """Stop the application, and say what of its database is damaged."""
    journal.write("stopping", was_running=not observe_application(profile).stopped)
    stop_application(profile)
    findings = server.examine()
    publish_findings(profile.name, plan.real, findings, runbook=RUNBOOK)
    return findings
