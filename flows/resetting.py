"""What a reset of connections does around its plan: observe, terminate exactly the planned, settle."""

from flows.decisions.connection_reset import RUNBOOK, ResetPlan, find_stuck, plan_reset
from flows.decisions.drift import find_drift
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.journal import Journal
from tasks.mutation import refuse_half_done, settling
from tasks.records.figures import say_count, say_duration
from tasks.records.service import ServiceProfile
from tasks.records.stuck_sessions import StuckSession, Terminated
from tasks.run_context import Run
from tasks.stuck_sessions import observe_application_sessions, terminate_session

TERMINATING = "terminating"


def observe_and_plan(profile: ServiceProfile, *, all_of_the_application: bool) -> ResetPlan:
    """Look at the application's sessions and plan."""
    found = observe_application_sessions(profile)
    return plan_reset(profile, found, all_of_the_application=all_of_the_application)


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Close what a killed run left: a session that it terminated is gone, and this run looks anew."""
    if dry_run:
        refuse_half_done(profile, RUNBOOK)
        return
    with settling(profile, run, RUNBOOK) as journal:
        if journal is not None:
            number = sum(entry.step == TERMINATING for entry in journal.entries)
            journal.close(f"{say_count(number, 'session')} had been terminated, or were about to be.")


def apply_reset(profile: ServiceProfile, plan: ResetPlan, journal: Journal) -> Terminated:
    """Terminate those of the plan's sessions that are still what they were; no other."""
    fresh = observe_and_plan(profile, all_of_the_application=plan.all_of_the_application)
    if (drift := find_drift(plan, fresh)) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    still = {str(target.identity) for target in fresh.targets}
    return terminate(profile, plan.targets, still, journal)


def reset(profile: ServiceProfile, target: str, journal: Journal) -> str:
    """Terminate those of the application's sessions that are named in the target and stuck now.

    The target is the names of sessions, separated by commas, as "session 412, session 415"; nothing means all
    that are stuck. Return a sentence. Raise ``RefusedError`` if none is the application's and stuck: who only
    was when somebody looked is left alone.
    """
    limit = profile.outage.stuck_after
    found = observe_application_sessions(profile)
    named = {name.strip() for name in target.split(",") if name.strip()}
    targets = tuple(one for one in find_stuck(found, limit) if not named or str(one.identity) in named)
    if not targets:
        raise RefusedError(
            f"{profile.name}: none of its application's sessions"
            f"{f' named {target}' if named else ''} is stuck for {say_duration(limit.total_seconds())}: "
            "nothing was terminated."
        )
    terminated = terminate(profile, targets, {str(one.identity) for one in targets}, journal)
    return f"{say_terminated(terminated)}."


def terminate(
    profile: ServiceProfile, targets: tuple[StuckSession, ...], still: set[str], journal: Journal
) -> Terminated:
    """Terminate the targets that are named in ``still``; raise ``UnreachableError`` if one does not go.

    Each is in the journal before; one that cannot be ended keeps none of the others.
    """
    ended: dict[str, list[StuckSession]] = {"gone": [], "over": [], "left": []}
    problems = []
    for target in targets:
        if str(target.identity) not in still:
            ended["over"].append(target)
            continue
        journal.write(TERMINATING, session=str(target.identity), since=target.identity.since.isoformat())
        try:
            ended[terminate_session(profile, target.identity)].append(target)
        except RunbookError as error:
            ended["left"].append(target)
            problems.append(str(error))
    terminated = Terminated(**{how: tuple(which) for how, which in ended.items()})
    if terminated.left:
        names = ", ".join(str(one.identity) for one in terminated.left)
        why = f" {problems[0]}" if problems else " The server took the order, and they do not end."
        raise UnreachableError(f"{profile.name}: {say_terminated(terminated)}; still there: {names}.{why}")
    return terminated


def say_terminated(terminated: Terminated) -> str:
    """Say how many are gone, without a full stop."""
    over = len(terminated.over)
    by_itself = f"; {over} had gone on or ended meanwhile" if over else ""
    return f"{say_count(len(terminated.gone), 'session')} terminated{by_itself}"
