"""Runbook rows I21 and I22: indexes that waste space are rebuilt, useless ones named, and tables kept up."""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.index_optimization import RUNBOOK, plan_optimization, say_done
from flows.index_optimizing import LIMITS, apply_plan, look, record_use, settle, show
from flows.late_starting import skip_late
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.errors import RunbookError
from tasks.mutation import mutating
from tasks.opening_index_care import observe_index_use
from tasks.profiles import load_service
from tasks.records.figures import say_count
from tasks.records.index_care import Finding
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def optimize_indexes(service: str, drop_unused: bool = False, dry_run: bool = False) -> State[Any]:
    """Rebuild indexes that waste space, vacuum what autovacuum does not get to, and name what nobody needs.

    Trigger: on the first of every month at 05:00 in the service's time zone; or by hand.

    Preconditions: the database answers. To call an index unused, its uses were sampled for so long as the
    profile's queries.unused_for says; sample-index-use does that every day.

    Steps: put right what a killed run left; look at indexes, tables, sequences and transactions; keep each
    index's count of uses; show the plan and what was found, worst first; wait for approval where an index
    that works is dropped, or the profile asks for it; do each act without keeping anybody out; look again,
    and compare sizes.

    Rollback: nothing that is stored changes. A dropped index is made again by the statement in the plan. A
    rebuild that fails or is killed leaves the old index as it is, and what it has built is dropped.

    Args:
        service: The service's name, as in its profile.
        drop_unused: Also plan to drop indexes that nobody used, or that another serves; a person must agree.
        dry_run: Show the plan and what was found, and stop.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    settle(profile, run, dry_run=dry_run)
    examined = look(profile)
    plan = remember_plan(plan_optimization(profile, examined, LIMITS, drop_unused=drop_unused))
    publish_runbook_plan(plan)
    if dry_run or not plan.steps:
        said = "dry run, the plan is shown and nothing was done." if dry_run else "nothing needed to be done."
        return _conclude(service, said, show(profile, examined))
    approve(profile, plan, run, always=plan.drops)
    with mutating(profile, run, plan) as journal:
        done, after, unproven = apply_plan(profile, plan, journal)
        findings = show(profile, after, done)
        journal.close(unproven or say_done(done))
        if unproven:
            raise RunbookError(f"{service}: {say_done(done)} But {unproven}")
    return _conclude(service, say_done(done), findings)


@flow(name="sample-index-use", flow_run_name="{service}")
@failing_in_one_sentence
def sample_index_use(service: str) -> State[Any]:
    """Keep today's count of each index's uses, so that optimize-indexes can tell which nobody needs.

    Trigger: every day at 04:45 in the service's time zone; or by hand.

    Preconditions: the database answers.

    Steps: load the profile; read every index's count; see whether the server counts at all; keep it.

    Rollback: none is needed, nothing of the service is changed.

    Args:
        service: The service's name, as in its profile.
    """
    profile, run = load_service(service), observe_run()
    if (skipped := skip_late(profile, run)) is not None:
        return skipped
    facts = observe_index_use(profile)
    record_use(profile, facts)
    if facts.uncounted:
        return Completed(message=f"{service}: no count of uses is kept: {facts.uncounted}")
    return Completed(
        message=f"{service}: the uses of {say_count(len(facts.indexes), 'index', 'indexes')} are kept."
    )


def _conclude(service: str, said: str, findings: Sequence[Finding]) -> State[Any]:
    alarms = [finding.sentence for finding in findings if finding.severity == "alarm"]
    if alarms:
        return Failed(message=f"{service}: {said} {' '.join(alarms)}")
    warnings = [finding.sentence for finding in findings if finding.severity == "warning"]
    more = f" {say_count(len(warnings), 'warning')}, the first: {warnings[0]}" if warnings else ""
    return Completed(message=f"{service}: {said}{more}")
