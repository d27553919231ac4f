"""Putting a new credential in force, and what is done with one that failed or whose run was killed."""

from dataclasses import dataclass
from typing import Final

from flows.decisions.rotation import AfterKill, RetirementPlan, RotationPlan, decide_after_kill
from flows.restarting import restart
from flows.retiring import retire_due
from flows.rotation_watching import watch_after
from tasks.backup_pause import holding_off_backups
from tasks.errors import RefusedError, RunbookError, UnreachableError
from tasks.http_probe import probe_login
from tasks.journal import Journal, list_open_journals
from tasks.mutation import BEGAN, read_begun_plan, refuse_half_done, settling, undo_or_say
from tasks.records.credential_care import CredentialName
from tasks.records.rotation import OpenRotation
from tasks.records.service import ServiceProfile
from tasks.rotation_files import read_open, record_rotation
from tasks.rotation_steps import (
    begin_grace,
    discard_new,
    exercise_new,
    find_after_kill,
    promote,
    prove_in_use,
    put_back,
    put_in_force,
    wipe_kept,
)
from tasks.run_context import Run, read_clock

MAKING: Final = "making the new one"
SETTING: Final = "setting it at the provider"
TESTING: Final = "testing it"
PROMOTING: Final = "writing it into the env file"
RESTARTING: Final = "restarting for it"
VERIFYING: Final = "proving that the application uses it"
VERIFIED: Final = "in force and proven"
GOING_BACK: Final = "going back to the old one"


@dataclass(frozen=True)
class Finished:
    """A rotation that a killed run had begun, and what was done to finish it, in words."""

    plan: RotationPlan
    said: str


def apply_new(profile: ServiceProfile, plan: RotationPlan, journal: Journal) -> None:
    """Given new values that are kept, put them in force and prove it.

    Every step may be done twice: a killed run goes on here. Raise ``RunbookError`` if they do not serve.
    """
    credential = plan.credential
    journal.write(SETTING)
    put_in_force(profile, credential)
    journal.write(TESTING)
    exercise_new(profile, credential)
    journal.write(PROMOTING)
    promote(profile, credential)
    journal.write(RESTARTING)
    restart(profile, journal)
    journal.write(VERIFYING)
    if (problem := probe_login(profile)) is not None:
        raise UnreachableError(f"{profile.name}: {problem}")
    proof = prove_in_use(profile, credential)
    # Who fears a leak does not wait to see who is refused.
    watched = "" if plan.emergency else watch_after(profile)
    journal.write(VERIFIED, proof=proof, watched=watched)


def conclude(profile: ServiceProfile, run: Run, plan: RotationPlan, journal: Journal) -> str:
    """Given new values that are proven, retire what may be retired now; return what was done, in words.

    It may be done twice: a killed run goes on here. Raise ``RunbookError`` if the old ones still work.
    """
    now = read_clock()
    rotation = OpenRotation(
        rotation=plan.rotation,
        credential=plan.credential,
        emergency=plan.emergency,
        verified_at=now,
        due=now + plan.stages[0].after,
        stages=plan.stages,
        facts={},
    )
    record_rotation(profile, plan.credential, plan.rotation, "rotated", run.started_by, now)
    begun = begin_grace(profile, rotation)
    if begun is None:
        return _end(profile, run, plan.credential, plan.rotation)
    retired = retire_due(profile, run, journal, begun)
    return f"{_say_seen(journal)} {retired}".strip()


def give_up(profile: ServiceProfile, run: Run, plan: RotationPlan, journal: Journal) -> str:
    """Put the old credential in force again, however far the new one came; return how it is, in words.

    Raise ``RunbookError`` if that cannot be done now: the journal stays, and the next run does it.
    """
    if journal.has(VERIFIED):
        return "The new one is in force and proven."
    found = find_after_kill(profile, plan.credential, plan.rotation, plan.variables)
    # Values that are not kept any more were wiped after they had been put back: there is nothing to put back.
    decided = decide_after_kill(found)
    can_go_back = not plan.is_dead and decided not in {"leave", "discard"}
    if journal.has(SETTING) and can_go_back:
        journal.write(GOING_BACK)
        put_back(profile, plan.credential)
        if journal.has(PROMOTING):
            restart(profile, journal)
    made = journal.find(MAKING)
    discard_new(profile, plan.credential, plan.rotation, plan.before, made.at if made else None)
    stays = plan.is_dead and found.environment == "pending" and found.pending == "accepted"
    record_rotation(
        profile,
        plan.credential,
        plan.rotation,
        "rotated" if stays else "undone",
        run.started_by,
        read_clock(),
    )
    said = f"The old {plan.credential} is in force, and nothing is left of the new one."
    if plan.is_dead:
        left = "the new one is in force, and stays" if stays else "nothing is put back: start this again"
        said = f"The old {plan.credential} was refused already before this run: {left}."
    if decided == "leave":
        said = (
            f"What somebody wrote into {profile.env_path} meanwhile is accepted, and stays: start "
            "restart-service if the application does not run with it. Nothing is left of the new one."
        )
    journal.close(said)
    return said


def settle(profile: ServiceProfile, run: Run, runbook: str, *, dry_run: bool) -> Finished | None:
    """Finish or undo what a killed run left; return its rotation if that is finished by now.

    It may be one of another credential: a runbook has one journal.
    """
    if dry_run:
        refuse_half_done(profile, runbook)
        return None
    if runbook not in list_open_journals(profile):
        return None
    with holding_off_backups(profile, runbook, run.name), settling(profile, run, runbook) as journal:
        if journal is None:
            return None
        began = journal.find(BEGAN)
        if began is not None and "stages" in began.facts["plan"]:
            return _settle(profile, run, read_begun_plan(journal, RotationPlan), journal)
        _settle_retirement(profile, run, read_begun_plan(journal, RetirementPlan), journal)
        return None


def _settle(profile: ServiceProfile, run: Run, plan: RotationPlan, journal: Journal) -> Finished | None:
    if not journal.has(VERIFIED):
        if _decide(profile, plan, journal) != "go on":
            give_up(profile, run, plan, journal)
            return None
        try:
            apply_new(profile, plan, journal)
        except RunbookError as error:
            undone = undo_or_say(lambda: give_up(profile, run, plan, journal), plan.runbook)
            raise RunbookError(f"{error} {undone}") from error
    said = f"The rotation that was killed is finished. {conclude(profile, run, plan, journal)}"
    journal.close(said)
    return Finished(plan, said)


def _decide(profile: ServiceProfile, plan: RotationPlan, journal: Journal) -> AfterKill:
    """Return what becomes of a rotation that was killed before it was proven."""
    found = find_after_kill(profile, plan.credential, plan.rotation, plan.variables)
    what = decide_after_kill(found, was_going_back=journal.has(GOING_BACK), is_dead=plan.is_dead)
    if what == "ask a person":
        raise RefusedError(
            f"{profile.name}: a rotation of {plan.credential} was killed, and {' and '.join(plan.variables)} "
            f"in {profile.env_path} was changed by hand since, to what is not accepted: put there what "
            "works, and start this again."
        )
    return what


def _settle_retirement(profile: ServiceProfile, run: Run, plan: RetirementPlan, journal: Journal) -> None:
    if read_open(profile, plan.credential) is None:
        journal.close(_end(profile, run, plan.credential, plan.rotation))
    else:
        journal.close("What is left of the retirement is done next.")


def _say_seen(journal: Journal) -> str:
    """Return how the new one was seen in use, and what the log said afterwards."""
    verified = journal.find(VERIFIED)
    facts = verified.facts if verified is not None else {}
    return " ".join(filter(None, (facts.get("proof"), facts.get("watched"))))


def _end(profile: ServiceProfile, run: Run, credential: CredentialName, rotation: str) -> str:
    """Do what is left when a run was killed after its last proof."""
    wipe_kept(profile, credential)
    record_rotation(profile, credential, rotation, "retired", run.started_by, read_clock())
    return f"The new {credential} is in force, and the old one is retired."
