"""What a backup means to save, and whether what was shown still holds when it is applied."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from flows.decisions.backup_judgement import expect_summary
from flows.decisions.retention import plan_retention
from tasks.records.backup import RepositoryState
from tasks.records.figures import say_count
from tasks.records.plans import BackupOrder, BackupPlan, PlannedPart, RetentionPlan
from tasks.records.service import ServiceProfile


def plan_backup(  # noqa: PLR0913, PLR0917 - each is one line of the plan that the operator reads
    profile: ServiceProfile,
    parts: Sequence[PlannedPart],
    retention: RetentionPlan,
    set_id: str,
    consistency_sentence: str,
    late_sentence: str,
) -> BackupPlan:
    """Given what is there to save, return the plan; its ``refusal`` says why it must not be applied."""
    return BackupPlan(
        set_id=set_id,
        service=profile.name,
        destination=profile.backup.destination.url,
        parts=tuple(parts),
        retention=retention,
        consistency=consistency_sentence,
        lateness=late_sentence,
        refusal=_refuse_parts(parts, profile) or _refuse_plans_of_others(profile, retention),
    )


def plan_retention_around(
    profile: ServiceProfile, order: BackupOrder, state: RepositoryState, set_id: str, started: datetime
) -> RetentionPlan:
    """Given the set that is being made, return what retention does once it is published and verified.

    Ages are counted from the start of the run, before and after the backup alike.
    """
    if order.kind == "emergency":
        # Before a risky operation nothing is deleted, whatever the policy says.
        return RetentionPlan(profile.name, started, (), (), None)
    return plan_retention(
        state,
        profile.backup.retention,
        profile.zone,
        state.observed_at,
        expected=expect_summary(set_id, order.kind, started, None),
        most_deletes=order.allow_deletes,
        as_of=started,
    )


def check_drift(shown: RetentionPlan, fresh: RetentionPlan) -> str | None:
    """Given the plan that was shown and a fresh look, return a sentence if they don't delete the same."""
    if fresh.refusal is not None and shown.refusal is None:
        return f"Nothing was deleted, since a fresh look refuses what was shown: {fresh.refusal}"
    more = [set_id for set_id in fresh.deletes if set_id not in shown.deletes]
    fewer = [set_id for set_id in shown.deletes if set_id not in fresh.deletes]
    if not more and not fewer:
        return None
    changes = []
    if more:
        changes.append(f"{', '.join(more)} would go and {'was' if len(more) == 1 else 'were'} not shown")
    if fewer:
        changes.append(f"{', '.join(fewer)} {'was' if len(fewer) == 1 else 'were'} shown and would stay")
    return (
        f"Nothing was deleted, since the repository is no longer what the plan was made from: "
        f"{'; '.join(changes)}. The next run plans again."
    )


def _refuse_parts(parts: Sequence[PlannedPart], profile: ServiceProfile) -> str | None:
    if all(part.kind == "application" for part in parts):
        return (
            f"The {profile.database.kind} database of {profile.name} has nothing to save: look whether "
            f"{profile.database.url_variable} in {profile.env_path} names the right database."
        )
    twice = [name for (name, _), times in Counter((p.name, p.kind) for p in parts).items() if times > 1]
    if twice:
        return f"{say_count(len(twice), 'part')} would be saved twice ({', '.join(twice)}): this is a defect."
    return None


def _refuse_plans_of_others(profile: ServiceProfile, retention: RetentionPlan) -> str | None:
    if retention.service == profile.name:
        return None
    return f"The retention plan is {retention.service}'s and not {profile.name}'s: this is a defect."
