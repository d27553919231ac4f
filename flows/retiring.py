"""Retiring an old credential: stage by stage, each when its grace is over, until it is proven refused."""

from datetime import timedelta
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.decisions.rotation import follow_stage, list_due, plan_retirement
from flows.restarting import restart
from tasks.approval import remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.backup_pause import holding_off_backups
from tasks.errors import RunbookError, UnreachableError
from tasks.http_probe import probe_login
from tasks.journal import Journal
from tasks.mutation import mutating
from tasks.records.figures import say_time
from tasks.records.rotation import OpenRotation
from tasks.records.service import ServiceProfile
from tasks.rotation_files import read_open, record_rotation
from tasks.rotation_runs import schedule_rest
from tasks.rotation_steps import end_rotation, find_use, prove_refused, retire
from tasks.run_context import Run, read_clock

RETIRING: Final = "retiring the old one"
# One that is still in use, or whose provider does not answer, is looked at again.
_AGAIN_AFTER: Final = timedelta(hours=1)


def finish_grace(profile: ServiceProfile, run: Run, left: OpenRotation, *, dry_run: bool) -> State[Any]:
    """Given a rotation in grace, do the stages that are due; return how the run ends."""
    plan = remember_plan(plan_retirement(profile, left, read_clock()))
    publish_runbook_plan(plan)
    if not plan.acts:
        moment = say_time(left.due, profile.zone)
        return Completed(
            message=f"{profile.name}: the new {left.credential} is in force, and the old one works until "
            f"{moment}, so nothing was done. emergency=True ends it at once, and makes a new one."
        )
    if dry_run:
        return Completed(message=f"{profile.name}: dry run, the plan is shown and nothing was done.")
    with holding_off_backups(profile, plan.runbook, run.name), mutating(profile, run, plan) as journal:
        # Another run may have gone on with it while this one waited for its turn.
        now = read_open(profile, left.credential)
        if now is None or now.rotation != left.rotation:
            said = f"Another run ended the rotation {left.rotation} meanwhile: nothing is left to do of it."
        else:
            said = retire_due(profile, run, journal, now)
        publish_done(plan, said, journal.entries, profile.zone)
        journal.close(said)
    return Completed(message=f"{profile.name}: {said}")


def retire_due(
    profile: ServiceProfile,
    run: Run,
    journal: Journal,
    rotation: OpenRotation,
    *,
    another_follows: bool = False,
) -> str:
    """Given a rotation in grace, do the stages that are due, and let Prefect start this for the others.

    Where ``another_follows``, because the one in force has to go as well, nothing is waited for. Return what
    was done, in words. Raise ``RunbookError``, with the journal closed, if the old one could not be retired:
    the one in force stays so, and the retirement is tried again later.
    """
    # Whoever still uses a leaked one is no reason to wait, at the first try or a later one.
    at_once = another_follows or rotation.emergency
    said = [f"The new {rotation.credential} is in force and proven."]
    left: OpenRotation | None = rotation
    try:
        while left is not None and (at_once or list_due(left, read_clock())):
            use = None if at_once else find_use(profile, left)
            if use is not None:
                said.append(f"The old one stays, {use}.")
                left = _later(left)
                break
            said.append(_retire_stage(profile, journal, left, another_follows=another_follows))
            left = _go_on(profile, left)
    except RunbookError as error:
        again = schedule_rest(profile, run, _later(left or rotation))
        # Of the past: somebody may have put the old one back since.
        name = rotation.credential
        how_it_is = f"The new {name} was put in force and proven. The old one is not retired yet"
        if another_follows:
            how_it_is = f"The {name} in force is NOT replaced: the one before it has to be retired first"
        outcome = f"{how_it_is}: {error} {again}"
        journal.close(outcome)
        raise RunbookError(outcome) from error
    if left is not None:
        return " ".join([*said, schedule_rest(profile, run, left)])
    record_rotation(profile, rotation.credential, rotation.rotation, "retired", run.started_by, read_clock())
    return " ".join(said)


def _retire_stage(
    profile: ServiceProfile, journal: Journal, left: OpenRotation, *, another_follows: bool
) -> str:
    stage = left.stages[0]
    journal.write(RETIRING, stage=stage.name)
    retire(profile, left, another_follows=another_follows)
    if stage.unset:
        restart(profile, journal)
        if (problem := probe_login(profile)) is not None:
            raise UnreachableError(f"{profile.name}: {problem}")
    return prove_refused(profile, left, stage)


def _go_on(profile: ServiceProfile, done: OpenRotation) -> OpenRotation | None:
    left = follow_stage(done, read_clock())
    end_rotation(profile, done, left)
    return left


def _later(left: OpenRotation) -> OpenRotation:
    """Return when Prefect looks again. It is not kept: whoever starts it before, has it done at once."""
    return left.model_copy(update={"due": read_clock() + _AGAIN_AFTER})
