"""What of a PostgreSQL database needs upkeep, and what will stop it one day."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tasks.records.figures import say_bytes, say_count, say_period
from tasks.records.index_care import Finding, IndexCareFacts, SequenceState, TableState, TransactionAge

# Half of the 32-bit circle: at that age the server takes no more writes.
_LAST_TRANSACTION: Final = 2**31


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something pays or is dangerous. Below its number of bytes or rows nothing is worth it."""

    # A B-tree filled in random order settles at two thirds full by itself.
    wasted_share: float = 0.3
    wasted_bytes: int = 10_000_000
    # What is free in a file is filled again; to give it back to the disk pays only when it is much.
    reusable_share: float = 0.3
    reusable_bytes: int = 100_000_000
    # A table that is rewritten keeps everybody out, so that little is no reason to.
    table_share: float = 0.5
    dead_share: float = 0.2
    rows: int = 1_000
    # Autovacuum looks once a minute: what it has not begun by then, it does not get to.
    behind_after: timedelta = timedelta(hours=1)
    # A change of a column's type takes planning: months, at the pace of most.
    sequence_warning: float = 0.75
    sequence_alarm: float = 0.9
    # The server itself becomes urgent at 1.6 billion; a vacuum of everything takes days.
    age_warning: int = 1_000_000_000
    age_alarm: int = 1_500_000_000


def choose_vacuums(facts: IndexCareFacts, limits: Limits) -> tuple[TableState, ...]:
    """Return the tables of which much is dead and which autovacuum does not get to, worst first."""
    found = [
        table
        for table in facts.tables
        if _is_mostly_dead(table, limits) and _is_behind(table.last_vacuum, facts.observed_at, limits)
    ]
    return tuple(sorted(found, key=share_of_dead, reverse=True))


def choose_analyses(facts: IndexCareFacts, limits: Limits) -> tuple[TableState, ...]:
    """Return the tables whose statistics are of other data than there is, and which nobody renews."""
    return tuple(
        table
        for table in facts.tables
        if table.modified >= limits.rows
        and table.modified > table.analyze_above
        and _is_behind(table.last_analyze, facts.observed_at, limits)
    )


def share_of_dead(table: TableState) -> float:
    """Return how much of a table's rows is dead, from 0 to 1."""
    return table.dead / max(table.live + table.dead, 1)


def _is_mostly_dead(table: TableState, limits: Limits) -> bool:
    is_much = table.dead >= limits.rows and share_of_dead(table) > limits.dead_share
    return is_much and table.dead > table.vacuum_above


def _is_behind(last: datetime | None, now: datetime, limits: Limits) -> bool:
    return last is None or now - last > limits.behind_after


def judge_upkeep(facts: IndexCareFacts, limits: Limits) -> Iterator[Finding]:
    """Yield what will stop the service one day, and what vacuum cannot or need not do."""
    for sequence in facts.sequences:
        yield from _judge_sequence(sequence, limits)
    for age in facts.ages:
        yield from _judge_age(age, limits)
    for table in facts.tables:
        yield from _judge_table(table, facts.observed_at, limits)


def _judge_table(table: TableState, now: datetime, limits: Limits) -> Iterator[Finding]:
    wasted = table.wasted_bytes
    if wasted > limits.reusable_bytes and wasted > limits.table_share * table.bytes:
        yield Finding(
            severity="warning",
            sentence=(
                f"{table.source} ({say_bytes(table.bytes)}) should have {say_bytes(wasted)} empty, as "
                "estimated: new rows fill that again; the disk gets it back only by VACUUM FULL, which keeps "
                "everybody out."
            ),
        )
    if _is_mostly_dead(table, limits) and not _is_behind(table.last_vacuum, now, limits):
        yield Finding(
            severity="warning",
            sentence=(
                f"{table.source} ({say_bytes(table.bytes)}) was vacuumed less than "
                f"{say_period(limits.behind_after)} ago and still has "
                f"{say_count(table.dead, 'dead row')} to {table.live:,} live ones: see whether a transaction "
                "is open for long."
            ),
        )


def _judge_sequence(sequence: SequenceState, limits: Limits) -> Iterator[Finding]:
    share = sequence.last / sequence.limit
    if share > limits.sequence_warning:
        yield Finding(
            severity="alarm" if share > limits.sequence_alarm else "warning",
            sentence=(
                f"The sequence {sequence.name}, which feeds {sequence.feeds}, has come to {sequence.last:,} "
                f"of {sequence.limit:,} ({share:.0%}): at its end no row can be inserted. Make the column "
                "and the sequence bigint."
            ),
        )


def _judge_age(age: TransactionAge, limits: Limits) -> Iterator[Finding]:
    if age.age > limits.age_warning:
        held = f" {age.held_by} keeps vacuum from it: end that." if age.held_by else ""
        yield Finding(
            severity="alarm" if age.age > limits.age_alarm else "warning",
            sentence=(
                f"The oldest of the {age.counter} is {age.age:,} old, {age.age / _LAST_TRANSACTION:.0%} of "
                f"where the server takes no more writes; autovacuum begins at {age.vacuum_above:,} and does "
                f"not keep up.{held} Run VACUUM (FREEZE) on the oldest tables."
            ),
        )
