"""What a cleanup does around its plan: observe, apply, finish what a killed run left, prove."""

from flows.decisions.cleanup_judgement import judge_cleanup, say_cleaned
from flows.decisions.cleanup_plan import (
    RUNBOOK,
    CleanupFacts,
    CleanupPlan,
    choose_cutoffs,
    find_deadline,
    hold_as_today,
    list_grounds,
    plan_cleanup,
)
from flows.decisions.drift import find_drift
from tasks import cleanup_observing
from tasks.artifacts import publish_done
from tasks.cleanup_work import clean_rule, finish_rule
from tasks.errors import RefusedError, RunbookError
from tasks.journal import Journal
from tasks.mutation import read_begun_plan, refuse_half_done, settling
from tasks.records.cleanup import AfterCleaning, CleanedRule, RuleFacts, RuleToClean
from tasks.records.service import ServiceProfile
from tasks.run_context import Run, read_clock
from tasks.swapping import open_swap_server


def observe_and_plan(profile: ServiceProfile) -> CleanupPlan:
    """Fix the cutoffs, look at what each rule meets, and plan."""
    now = read_clock()
    rules, server = profile.cleanup.rules, open_swap_server(profile)
    cutoffs = choose_cutoffs(rules, now)
    facts = CleanupFacts(
        now=now,
        servers_clock=cleanup_observing.read_servers_clock(profile),
        last_run=cleanup_observing.find_last_run(profile),
        database=server.real,
        identity=server.identify(),
        rules=tuple(cleanup_observing.observe_rule(profile, rule, cutoffs[rule.name]) for rule in rules),
        archive_ids=cleanup_observing.name_archives(profile, now),
    )
    return plan_cleanup(profile, facts)


def settle(profile: ServiceProfile, run: Run, *, dry_run: bool) -> None:
    """Finish what a killed run left: its last part, and its archives."""
    if dry_run:
        refuse_half_done(profile, RUNBOOK)
        return
    with settling(profile, run, RUNBOOK) as journal:
        if journal is not None:
            begun = read_begun_plan(journal, CleanupPlan)
            finish(profile, hold_as_today(begun, profile.cleanup.rules), journal)


def apply_plan(
    profile: ServiceProfile, plan: CleanupPlan, journal: Journal
) -> tuple[tuple[CleanedRule, ...], bool]:
    """Do what the plan says; return what was done for each rule, and whether all of it was."""
    server = open_swap_server(profile)
    grounds = list_grounds(profile.cleanup.rules, server.real, server.identify())
    if (drift := find_drift(plan, plan.model_copy(update={"rests_on": grounds}))) is not None:
        raise RefusedError(f"{profile.name}: {drift}")
    # From now on: a person may have agreed to the plan hours after it was made.
    deadline = find_deadline(read_clock(), profile.cleanup.stop_at, profile.zone)
    try:
        finished = all(clean_rule(profile, work, journal, deadline) for work in plan.rules)
        return finish(profile, plan, journal), finished
    except RunbookError as error:
        raise RunbookError(f"{error} {_finish_after_failure(profile, plan, journal)}") from error


def finish(profile: ServiceProfile, plan: CleanupPlan, journal: Journal) -> tuple[CleanedRule, ...]:
    """Delete the rest of the last part, publish the archives, and close the journal."""
    cleaned = tuple(finish_rule(profile, work, journal) for work in plan.rules)
    said = say_cleaned(cleaned)
    publish_done(plan, said, journal.entries, profile.zone)
    journal.close(said)
    return cleaned


def _finish_after_failure(profile: ServiceProfile, plan: CleanupPlan, journal: Journal) -> str:
    """Finish and return in words what is done; what cannot be finished stays in the journal."""
    try:
        return f"Until then: {say_cleaned(finish(profile, plan, journal))}"
    except RunbookError as error:
        if len(journal.entries) == 1:
            return "Nothing was changed."
        return f"What was begun could not be finished: {error} Start {RUNBOOK} again: it finishes that first."


def conclude(
    profile: ServiceProfile, plan: CleanupPlan, cleaned: tuple[CleanedRule, ...], *, finished: bool
) -> tuple[tuple[str, ...], str]:
    """Look again, read the archives back, show what was freed; return complaints, and what was done."""
    works = {work.rule.name: work for work in plan.rules}
    pairs = [
        (found, _look_again(profile, found, works.get(found.rule))) for found in plan.facts if found.exists
    ]
    for done in cleaned:
        cleanup_observing.read_back(profile, done)
    left = sum(work.entries for work in plan.rules) - sum(done.entries for done in cleaned)
    said = say_cleaned(cleaned, left=0 if finished else max(left, 1))
    now = read_clock()
    freed = {done.rule: done.entries for done in cleaned}
    for _, after in pairs:
        cleanup_observing.record_trend(profile, after, now, freed.get(after.rule, 0))
    cleanup_observing.publish_freed(profile, said, cleaned, tuple(pairs))
    return judge_cleanup(plan, [after for _, after in pairs], finished=finished), said


def _look_again(profile: ServiceProfile, found: RuleFacts, work: RuleToClean | None) -> AfterCleaning:
    if work is not None:
        return cleanup_observing.look_again(profile, work.rule, work.cutoff)
    return AfterCleaning(
        rule=found.rule, entries=found.entries, storage_bytes=found.storage_bytes, is_clean=not found.expired
    )
