"""What every run that changes a service does around its acts: lock, journal, audit trail."""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import TypeVar

from prefect.logging import get_run_logger
from pydantic import ValidationError

from tasks.errors import ConfigurationError, RefusedError, RunbookError
from tasks.journal import Journal, list_open_journals, open_journal
from tasks.records.runbook_plan import RunbookPlan
from tasks.records.service import ServiceProfile
from tasks.run_context import Run
from tasks.service_lock import hold_service
from tasks.trail import record_event

BEGAN = "began"
Plan = TypeVar("Plan", bound=RunbookPlan)


@contextmanager
def mutating(
    profile: ServiceProfile, run: Run, plan: RunbookPlan, beside: Collection[str] = ()
) -> Generator[Journal]:
    """Given a plan, hold the service while the block applies it; yield the journal, begun with the plan.

    The block closes the journal when nothing is left to finish or undo; one that ends before its first step
    leaves nothing. Raise ``RefusedError`` if a killed run of any runbook left something, except those that
    it may stand ``beside``.
    """
    with hold_service(profile, purpose=plan.runbook, holder=run.name):
        if left := [name for name in list_open_journals(profile) if name not in {*beside} - {plan.runbook}]:
            raise RefusedError(
                f"{profile.name}: a {left[0]} was killed and left something half done: start {left[0]} again "
                "first, it puts that right. Nothing was changed."
            )
        journal = open_journal(profile, plan.runbook)
        record_event(profile, run, plan.runbook, "began", plan=plan.digest, outcome=plan.summary)
        journal.write(BEGAN, run=run.name, plan=plan.model_dump(mode="json"))
        try:
            yield journal
        except BaseException as error:
            if len(journal.entries) == 1:
                journal.close("Nothing was changed.")
            outcome = _say_end(error, journal)
            record_event(profile, run, plan.runbook, "failed", plan=plan.digest, outcome=outcome)
            raise
        record_event(profile, run, plan.runbook, "finished", plan=plan.digest, outcome=journal.outcome)


def read_begun_plan(journal: Journal, kind: type[Plan]) -> Plan:
    """Given a journal that ``settling`` yielded, return the plan that the killed run had begun to apply.

    Raise ``ConfigurationError`` if another version of the runbook wrote it: its steps are no longer known.
    """
    began = journal.find(BEGAN)
    try:
        return kind.model_validate(began.facts["plan"] if began is not None else None)
    except ValidationError:
        raise ConfigurationError(
            f"A killed {journal.runbook} was begun by another version of the runbook, whose plan this one "
            "cannot read: start it once with that version, it puts right what was left. Nothing was changed."
        ) from None


def _say_end(error: BaseException, journal: Journal) -> str:
    if isinstance(error, RunbookError):
        return str(error)
    if isinstance(error, Exception):
        # A defect of ours, and its text may hold anything.
        return type(error).__name__
    left = journal.outcome or f"Something is left half done: the next {journal.runbook} puts that right."
    return f"The run was cancelled or its process was told to end. {left}"


def undo_or_say(undo: Callable[[], str], runbook: str) -> str:
    """Undo after a failure and say how it is now; what cannot be undone stays in the journal."""
    try:
        return undo()
    except RunbookError as error:
        return f"That could not be undone: {error} Start {runbook} again: it undoes that first."


def refuse_half_done(profile: ServiceProfile, runbook: str) -> None:
    """Given a runbook that only plans, raise ``RefusedError`` if one is under way or was killed."""
    if runbook in list_open_journals(profile):
        article = "an" if runbook[0] in "aeiou" else "a"
        raise RefusedError(
            f"{profile.name}: {article} {runbook} is under way, or was killed and left something half done, "
            "so there is nothing to plan from: start it without dry_run, it puts that right first."
        )


@contextmanager
def settling(profile: ServiceProfile, run: Run, runbook: str) -> Generator[Journal | None]:
    """Hold the service and yield the journal that a killed run of this runbook left open, or None.

    The block finishes or undoes what the journal says, and closes it.
    """
    if runbook not in list_open_journals(profile):
        yield None
        return
    with hold_service(profile, purpose=f"{runbook}, settling what a killed run left", holder=run.name):
        journal = open_journal(profile, runbook)
        if not journal.entries:
            # Somebody else settled it while we waited.
            yield None
            return
        get_run_logger().warning(
            "A run of %s that began %s did not end: what it left is put right first.",
            runbook,
            f"{journal.entries[0].at:%Y-%m-%d %H:%M:%S %Z}",
        )
        yield journal
        record_event(profile, run, runbook, "settled", outcome=journal.outcome)
