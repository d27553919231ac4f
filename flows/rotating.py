"""The rotation machine: what every rotation does around its credential, whatever that is.

The table of states is in docs/reference/rotation.md; what may follow a kill is in flows.decisions.rotation.
"""

from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.decisions.drift import find_drift
from flows.decisions.rotation import RotationPlan, plan_rotation
from flows.retiring import finish_grace, retire_due
from flows.rotation_applying import MAKING, apply_new, conclude, give_up, settle
from tasks.approval import approve, remember_plan
from tasks.artifacts import publish_done, publish_runbook_plan
from tasks.backup_pause import holding_off_backups
from tasks.errors import RefusedError, RunbookError
from tasks.journal import Journal
from tasks.mutation import mutating, undo_or_say
from tasks.records.credential_care import CredentialName
from tasks.records.rotation import RUNBOOKS
from tasks.records.service import ServiceProfile
from tasks.rotation_files import read_open, record_rotation
from tasks.rotation_steps import make_new, name_rotation, observe_credential, withdraw_new
from tasks.run_context import Run, read_clock


def rotate(  # noqa: PLR0913  whose, which, and how
    profile: ServiceProfile,
    run: Run,
    credential: CredentialName,
    *,
    emergency: bool = False,
    dry_run: bool = False,
    ask: bool = False,
    approved: bool = False,
    finish: str = "",
) -> State[Any]:
    """Replace a credential and retire the old one, or go on with a rotation that is in grace.

    An emergency ends every grace, also that of an earlier rotation. ``ask`` waits for a person whatever the
    profile says; ``approved`` waits for none, where the whole was agreed to before. ``finish`` names the
    rotation that is to be finished, and no other begun. Raise ``RunbookError``; its message says which of the
    two credentials is in force.
    """
    runbook = RUNBOOKS[credential]
    finished = settle(profile, run, runbook, dry_run=dry_run)
    left = read_open(profile, credential)
    if finished is not None:
        if finished.plan.credential == credential and (finished.plan.emergency or not emergency):
            return Completed(message=f"{profile.name}: {finished.said}")
        # Another credential's, or one that was begun before anybody knew of the leak.
        get_run_logger().info("%s: %s", finished.plan.credential, finished.said)
    if finish and (left is None or left.rotation != finish):
        return Completed(message=f"{profile.name}: nothing is left to do of the rotation {finish}.")
    if left is not None and not emergency:
        return finish_grace(profile, run, left, dry_run=dry_run)
    plan = _observe_and_plan(profile, credential, None, emergency=emergency)
    if not approved:
        plan = remember_plan(plan)
    publish_runbook_plan(plan)
    if plan.refusal is not None:
        raise RefusedError(f"{profile.name}: {plan.refusal} Nothing was changed.")
    if dry_run:
        return Completed(message=f"{profile.name}: dry run, the plan is shown and nothing was done.")
    if not approved:
        approve(profile, plan, run, always=ask)
    # Where all are replaced at once, one that could not be undone yet keeps no other from it.
    beside = set(RUNBOOKS.values()) if approved else set()
    with (
        holding_off_backups(profile, runbook, run.name),
        mutating(profile, run, plan, beside) as journal,
    ):
        said = _apply(profile, run, plan, journal)
        publish_done(plan, said, journal.entries, profile.zone)
        journal.close(said)
    return Completed(message=f"{profile.name}: {said}")


def _observe_and_plan(
    profile: ServiceProfile, credential: CredentialName, rotation: str | None, *, emergency: bool
) -> RotationPlan:
    facts = observe_credential(profile, credential)
    return plan_rotation(profile, facts, rotation or name_rotation(read_clock()), emergency=emergency)


def _apply(profile: ServiceProfile, run: Run, plan: RotationPlan, journal: Journal) -> str:
    """Replace the credential, and return what was done, as a sentence."""
    fresh = _observe_and_plan(profile, plan.credential, plan.rotation, emergency=False)
    if (drift := find_drift(plan, fresh)) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    withdrawn = ""
    # As it is now: another run may have ended it while this one waited for its turn.
    left = read_open(profile, plan.credential)
    if left is not None and (withdrawn := withdraw_new(profile, left)):
        record_rotation(profile, plan.credential, left.rotation, "undone", run.started_by, read_clock())
    elif left is not None:
        # First, because only one old credential can be kept to be proven refused.
        retire_due(profile, run, journal, left, another_follows=True)
    try:
        journal.write(MAKING)
        make_new(profile, plan.credential, plan.rotation, plan.variables, plan.before)
        apply_new(profile, plan, journal)
    except RunbookError as error:
        undone = undo_or_say(lambda: give_up(profile, run, plan, journal), plan.runbook)
        raise RunbookError(f"{error} {undone}") from error
    except BaseException:
        give_up(profile, run, plan, journal)
        raise
    return f"{withdrawn} {conclude(profile, run, plan, journal)}".strip()
