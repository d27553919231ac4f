"""What is found of a database's indexes and of what keeps it running, as sentences, worst first."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flows.decisions.database_upkeep import Limits, judge_upkeep
from flows.decisions.index_use import Sample, sum_uses
from flows.decisions.superfluous_indexes import Superfluous, find_superfluous
from tasks.records.figures import say_bytes, say_count, say_period
from tasks.records.index_care import Finding, IndexCareFacts, ObservedUse, name_index
from tasks.records.indexes import IndexFacts
from tasks.records.service import ServiceProfile

# What a REINDEX CONCURRENTLY that did not come to its end leaves.
_LEFTOVER = re.compile(r"_cc(new|old)\d*$")
_ORDER = ("alarm", "warning", "minor")


@dataclass(frozen=True, slots=True)
class Examined:
    """A database's facts, and what the samples say of each index's use."""

    facts: IndexCareFacts
    uses: Mapping[str, ObservedUse]
    superfluous: tuple[Superfluous, ...]


def examine(profile: ServiceProfile, facts: IndexCareFacts, samples: Sequence[Sample]) -> Examined:
    """Given facts and samples, find what is superfluous; where counts are not true, none is unused."""
    found = {name_index(index): sum_uses(name_index(index), samples) for index in facts.indexes}
    uses = {} if facts.uncounted else {key: use for key, use in found.items() if use is not None}
    superfluous = find_superfluous(facts.indexes, uses, profile.indexes, profile.queries.unused_for)
    return Examined(facts, uses, superfluous)


def list_findings(profile: ServiceProfile, examined: Examined, limits: Limits) -> tuple[Finding, ...]:
    """Return everything that a person should know, worst first."""
    found = (
        *judge_upkeep(examined.facts, limits),
        *_judge_members(examined.facts),
        *_judge_indexes(examined),
        *_judge_counts(profile, examined),
    )
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def find_leftovers(facts: IndexCareFacts) -> tuple[IndexFacts, ...]:
    """Return what rebuilds that did not come to their end have left, and nobody is at work on."""
    return tuple(filter(is_leftover, facts.indexes))


def is_leftover(index: IndexFacts) -> bool:
    """Has a rebuild that did not come to its end left this index, and is nobody at work on it?"""
    is_at_work = index.is_valid or index.is_building or index.is_constraint
    return _LEFTOVER.search(index.name) is not None and not is_at_work


def say_why(found: Superfluous) -> str:
    """Say why an index may go."""
    if found.instead is None:
        return f"nobody used it for {say_period(found.idle)}" if found.idle else "nobody used it"
    return f"{found.instead.name} begins with the same keys and serves its queries"


def _judge_members(facts: IndexCareFacts) -> Iterator[Finding]:
    for member in facts.away:
        sentence = f"The member {member} does not answer and is left out: nothing of it is looked at or "
        sentence += "compacted. Check that it runs and is reached from here by that name."
        yield Finding(severity="warning", sentence=sentence)


def _judge_indexes(examined: Examined) -> Iterator[Finding]:
    leftovers = find_leftovers(examined.facts)
    for index in examined.facts.indexes:
        if not index.is_valid and not index.is_building and index not in leftovers:
            sentence = f"The index {name_index(index)} is not valid: ensure-indexes can repair that."
            yield Finding(severity="warning", sentence=sentence)
    for found in examined.superfluous:
        costs = _say_costs(examined.facts, found.index)
        said = f"The index {name_index(found.index)} ({costs}) may go: {say_why(found)}."
        yield Finding(severity="warning", sentence=said)


def _say_costs(facts: IndexCareFacts, index: IndexFacts) -> str:
    writes = next((table.index_writes for table in facts.tables if table.source == index.source), 0)
    size = say_bytes(index.bytes)
    return f"{size}, written to {say_count(writes, 'time')} since statistics began" if writes else size


def _judge_counts(profile: ServiceProfile, examined: Examined) -> Iterator[Finding]:
    facts, wanted = examined.facts, profile.queries.unused_for
    if facts.uncounted:
        yield Finding(severity="minor", sentence=f"No index is called unused: {facts.uncounted}")
    elif not any(use.watched >= wanted for use in examined.uses.values()):
        watched = max((use.watched.total_seconds() for use in examined.uses.values()), default=0.0)
        so_far = f"for {say_period(type(wanted)(seconds=watched))}" if watched else "a first time"
        sentence = f"No index is called unused yet: uses were watched {so_far}, and the profile's "
        sentence += f"queries.unused_for is {say_period(wanted)}."
        yield Finding(severity="minor", sentence=sentence)
    for said in (facts.counted_by, facts.cannot_rebuild):
        if said:
            yield Finding(severity="minor", sentence=said)
