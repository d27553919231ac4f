"""Was a cleanup what its plan said? And what it did, in words."""

from collections.abc import Iterator, Sequence

from flows.decisions.cleanup_plan import CleanupPlan
from tasks.records.cleanup import AfterCleaning, CleanedRule
from tasks.records.figures import say_bytes, say_count


def judge_cleanup(plan: CleanupPlan, after: Sequence[AfterCleaning], *, finished: bool) -> tuple[str, ...]:
    """Given what the rules meet afterwards, return a sentence for everything that is not as it should be."""
    return tuple(_list_complaints(plan, after, finished=finished))


def say_cleaned(cleaned: Sequence[CleanedRule], left: int = 0) -> str:
    """Say what was deleted, where it is archived, and how much is left for the next run."""
    done = [rule for rule in cleaned if rule.entries]
    pieces = [_say_rule(rule) for rule in done] or ["nothing was deleted"]
    sentence = "; ".join(pieces)
    rest = (
        f" It was time to stop: about {say_count(left, 'entry', 'entries')} are left for the next run."
        if left
        else ""
    )
    return f"{sentence[0].upper()}{sentence[1:]}.{rest}"


def _say_rule(rule: CleanedRule) -> str:
    deleted = f"{say_count(rule.entries, 'entry', 'entries')} deleted by {rule.rule}"
    if rule.archive_id is None:
        return f"{deleted}, without an archive"
    return (
        f"{deleted}, {say_bytes(rule.raw_bytes)} that are {say_bytes(rule.stored_bytes)} in the archive "
        f"{rule.archive_id}"
    )


def _list_complaints(plan: CleanupPlan, after: Sequence[AfterCleaning], *, finished: bool) -> Iterator[str]:
    sources = {work.rule.name: work.rule.source for work in plan.rules}
    for found in after:
        if finished and found.rule in sources and not found.is_clean:
            yield (
                f"Entries of {sources[found.rule]} older than the cutoff are there again, they came in "
                "meanwhile: the next run takes them."
            )
    if plan.refused:
        yield f"Not applied: {' '.join(plan.refused)}"
