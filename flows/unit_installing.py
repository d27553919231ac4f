"""What install-service-unit does around its plan: observe, apply, undo, settle."""

from flows.decisions.drift import find_drift
from flows.decisions.unit_plan import (
    RUNBOOK,
    UnitPlan,
    find_obstacle,
    plan_unit,
    unit_file_name,
    write_unit_text,
)
from flows.restarting import PROVEN, RESTARTING, restart
from tasks.errors import ConfigurationError, RefusedError
from tasks.journal import Journal
from tasks.mutation import read_begun_plan, refuse_half_done, settling
from tasks.process_manager import observe_application, start_application, stop_application
from tasks.records.availability import Restarted
from tasks.records.process import ProcessStatus
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.service_unit import (
    disable_unit,
    enable_unit,
    is_unit_gone,
    load_units,
    observe_unit,
    put_unit_back,
    stop_removed_unit,
    write_unit,
)

WRITING = "writing the unit"
ENABLING = "enabling it"


def observe_and_plan(profile: ServiceProfile) -> UnitPlan:
    """Look at the unit and plan; raise ``RefusedError`` if the profile allows none."""
    unit, obstacle = profile.application.unit, find_obstacle(profile)
    if obstacle is not None or unit is None:
        raise RefusedError(obstacle or "")
    text = write_unit_text(profile, unit)
    facts = observe_unit(profile, unit.directory / unit_file_name(profile.application), text)
    return plan_unit(profile, text, facts, _look(profile))


def _look(profile: ServiceProfile) -> ProcessStatus | None:
    try:
        return observe_application(profile)
    except ConfigurationError:
        return None


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Undo what a killed run left, unless it was proven by then."""
    if dry_run:
        refuse_half_done(profile, RUNBOOK)
        return
    with settling(profile, run, RUNBOOK) as journal:
        if journal is None:
            return
        if journal.has(PROVEN):
            journal.close("The unit is installed.")
        else:
            undo(profile, read_begun_plan(journal, UnitPlan), journal)


def apply_plan(profile: ServiceProfile, plan: UnitPlan, journal: Journal) -> Restarted:
    """Do what the plan says, and prove that the application serves under it."""
    if (drift := find_drift(plan, observe_and_plan(profile))) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    journal.write(WRITING)
    write_unit(plan.path, plan.text)
    journal.write(ENABLING)
    enable_unit(profile)
    # Hard: what only reloads keeps the settings of before.
    return restart(profile, journal, "hard")


def undo(profile: ServiceProfile, plan: UnitPlan, journal: Journal) -> str:
    """Make everything what it was before, however far the run came; close the journal and say how it is."""
    said = "Nothing was changed."
    if journal.has(RESTARTING):
        _stop(profile, plan)
    if journal.has(ENABLING) and not plan.was_enabled:
        # Killed before systemd had read the file, it does not know what to disable.
        load_units(profile)
        if not _is_gone(profile, plan):
            disable_unit(profile)
    if journal.has(WRITING):
        put_unit_back(plan.path, plan.digest_before)
        load_units(profile)
        said = "The unit of before is back" if plan.digest_before else "The unit is gone again"
        if plan.was_running:
            start_application(profile)
            said += ", and started"
        said += "."
    journal.close(said)
    return said


def _stop(profile: ServiceProfile, plan: UnitPlan) -> None:
    if _is_gone(profile, plan):
        stop_removed_unit(profile)
    else:
        stop_application(profile)


def _is_gone(profile: ServiceProfile, plan: UnitPlan) -> bool:
    """Whether the new unit is away already: a person removed it, or an undo was killed after it had."""
    return not plan.digest_before and is_unit_gone(profile, plan.path)
