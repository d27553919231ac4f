"""What a restore of the application does around its plan: observe, apply, finish, undo, settle.

The undo of a failure and the undo after a kill are the same.
"""

from flows.decisions.application_plan import (
    RUNBOOK,
    ApplicationFacts,
    ApplicationPlan,
    plan_application,
)
from flows.decisions.drift import find_drift
from tasks import application_tree, backup_sets
from tasks.application_commands import run_application_command
from tasks.application_keeping import bring_along, keep_what_was_made
from tasks.application_unpacking import unpack_application
from tasks.artifacts import publish_done
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.http_probe import await_health, probe_health, probe_login
from tasks.journal import Journal
from tasks.mutation import read_begun_plan, refuse_half_done, settling
from tasks.process_manager import observe_application, start_application, stop_application
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.verification import reread_application

UNPACKING = "unpacking beside"
STOPPING = "stopping"
PUTTING_ASIDE = "putting the present files aside"
PUTTING_IN_PLACE = "putting the restored files in place"
STARTING = "starting"
PROVEN = "proven"


def observe_and_plan(profile: ServiceProfile, set_id: str, *, keep_env: bool) -> ApplicationPlan:
    """Read the set's archive back in full, look at what stands and runs here, and plan."""
    manifest = backup_sets.read_manifest(profile, set_id)
    facts = ApplicationFacts(
        manifest=manifest,
        findings=reread_application(manifest, backup_sets.locate_set(profile, set_id)),
        tree=application_tree.observe_tree(profile, manifest.started_at),
        running=not observe_application(profile).stopped,
    )
    return plan_application(profile, facts, keep_env=keep_env)


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> str:
    """Undo what a killed run left, or finish it if it was proven by then.

    Where it was finished, return the sentence that says so, which ends this run: to restore once more would
    delete what users made in the restored files since. Return an empty text where nothing is left of it.
    """
    if dry_run:
        refuse_half_done(profile, RUNBOOK)
        return ""
    with settling(profile, run, RUNBOOK) as journal:
        if journal is None:
            return ""
        plan = read_begun_plan(journal, ApplicationPlan)
        if not journal.has(PROVEN):
            undo(profile, plan, journal)
            return ""
        finish(profile, plan, journal)
    return (
        f"{profile.name}: a killed {RUNBOOK} is finished: the application is that of the set {plan.set_id}, "
        "and was proven. Nothing else was done; start it again to restore once more."
    )


def apply_plan(profile: ServiceProfile, run: Run, plan: ApplicationPlan, journal: Journal) -> None:
    """Do what the plan says, up to the proof; each step is in the journal before it is done."""
    with backup_sets.hold_set(profile, plan.set_id, purpose=RUNBOOK, holder=run.name):
        fresh = observe_and_plan(profile, plan.set_id, keep_env=plan.keep_env)
        if (drift := find_drift(plan, fresh)) is not None:
            raise RefusedError(f"{profile.name}: {drift}")
        content = backup_sets.read_manifest(profile, plan.set_id).application
        journal.write(UNPACKING)
        unpack_application(content, backup_sets.locate_set(profile, plan.set_id), plan.paths)
    brought = bring_along(profile, plan.paths, plan.keep_env) if plan.was_there else None
    install, beside = profile.application.install_command, plan.paths.beside
    run_application_command(profile, install, "install the dependencies", beside)
    # As it is by now: a plan may have waited for hours until somebody agreed to it.
    healthy = probe_health(profile.application.health_url).problem is None
    running = not observe_application(profile).stopped
    journal.write(STOPPING, was_running=running, was_healthy=healthy)
    stop_application(profile)
    if plan.was_there:
        # The application wrote on while the dependencies were installed.
        bring_along(profile, plan.paths, plan.keep_env, brought)
    journal.write(PUTTING_ASIDE)
    application_tree.put_aside(plan.paths)
    journal.write(PUTTING_IN_PLACE)
    application_tree.put_in_place(plan.paths)
    journal.write(STARTING)
    start_application(profile)
    await_health(profile)
    if (problem := probe_login(profile)) is not None:
        raise UnreachableError(f"{profile.name}: {problem}")
    journal.write(PROVEN)


def finish(profile: ServiceProfile, plan: ApplicationPlan, journal: Journal) -> None:
    """Delete the files of before: the restored ones are proven."""
    try:
        application_tree.remove_tree(plan.paths, plan.paths.aside)
    except RunbookError as error:
        journal.close("The application is restored; the files of before could not be deleted.")
        raise RunbookError(
            f"{profile.name}: the application is restored and healthy, but the files of before could not be "
            f"deleted: {error} Delete {plan.paths.aside} by hand."
        ) from error
    said = f"The application is that of the set {plan.set_id}."
    publish_done(plan, said, journal.entries, profile.zone)
    journal.close(said)


def undo(profile: ServiceProfile, plan: ApplicationPlan, journal: Journal) -> str:
    """Bring back what was before, however far the run came, and return in words how it is now."""
    stopping = journal.find(STOPPING)
    if stopping is not None:
        said = _change_back(profile, plan, **stopping.facts)
        # Only now: it serves again, whatever is wrong with these.
        placed = journal.find(PUTTING_IN_PLACE)
        if plan.was_there and placed is not None and (kept := keep_what_was_made(plan.paths, placed.at)):
            said += f" It has {say_count(kept, 'file')} that users or it made in the restored ones."
    else:
        application_tree.end_processes_beside(plan.paths)
        said = "Nothing was changed."
    application_tree.remove_tree(plan.paths, plan.paths.beside)
    journal.close(said)
    return said


def _change_back(
    profile: ServiceProfile, plan: ApplicationPlan, *, was_running: bool, was_healthy: bool
) -> str:
    # Whoever found the application down after a kill may have started it, from the files that go now.
    stop_application(profile)
    application_tree.put_back(plan.paths, plan.was_there)
    back = "The files of before are back" if plan.was_there else "The restored files are gone again"
    if not was_running:
        return f"{back}; the application does not run, as before."
    try:
        start_application(profile)
        if not was_healthy:
            return f"{back} and the application is started; it was not healthy before either."
        await_health(profile)
    except RunbookError as error:
        return f"{back}, but the application does not serve: {error}"
    return f"{back} and the application is healthy."
