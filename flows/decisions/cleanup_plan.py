"""What a cleanup archives and deletes, rule by rule, what it refuses, and when it has to end."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from difflib import get_close_matches

from tasks.records.cleanup import RuleFacts, RuleToClean
from tasks.records.data_care import CleanupRule
from tasks.records.figures import say_bytes, say_count, say_period
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK = "audit-log-cleanup"
_CLOCKS_APART = timedelta(minutes=5)
_HASH_DIGITS = 12
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CleanupFacts:
    """What a plan is made of: the clocks, the database, and what each rule meets in it."""

    now: datetime
    servers_clock: datetime
    last_run: datetime | None
    database: str
    identity: str
    rules: tuple[RuleFacts, ...]
    archive_ids: Mapping[str, str]


class CleanupPlan(RunbookPlan):
    """The plan, with the rules to apply, and why others are not applied."""

    rules: tuple[RuleToClean, ...]
    facts: tuple[RuleFacts, ...]
    refused: tuple[str, ...]
    warnings: tuple[str, ...]


def choose_cutoffs(rules: Iterable[CleanupRule], now: datetime) -> dict[str, datetime]:
    """Given the time, return each rule's cutoff, to the millisecond as MongoDB counts: what is older goes."""
    moment = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
    oldest = moment - _BEGINNING
    return {rule.name: moment - min(rule.older_than, oldest) for rule in rules}


def find_deadline(started: datetime, stop_at: time | None, zone: tzinfo) -> datetime | None:
    """Return when the service's clock shows ``stop_at`` for the first time after the start."""
    if stop_at is None:
        return None
    today = started.astimezone(zone)
    deadline = datetime.combine(today, stop_at, zone).astimezone(UTC)
    if deadline <= started:
        deadline = datetime.combine(today + timedelta(days=1), stop_at, zone).astimezone(UTC)
    return deadline


def plan_cleanup(profile: ServiceProfile, facts: CleanupFacts) -> CleanupPlan:
    """Given what the rules meet, return the plan; a rule that is refused keeps no other from its work."""
    cutoffs = choose_cutoffs(profile.cleanup.rules, facts.now)
    pairs = list(zip(profile.cleanup.rules, facts.rules, strict=True))
    refusals = {rule.name: _find_refusal(rule, found, cutoffs[rule.name]) for rule, found in pairs}
    applied = tuple(
        RuleToClean(
            rule=rule,
            cutoff=cutoffs[rule.name],
            started_at=facts.now,
            database=facts.database,
            columns=found.columns,
            archive_id=facts.archive_ids[rule.name] if rule.archive else None,
            entries=found.expired,
            raw_bytes=found.expired_bytes,
            oldest=found.oldest_expired,
        )
        for rule, found in pairs
        if refusals[rule.name] is None and found.expired
    )
    return CleanupPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=_summarize(applied, len(pairs)),
        acts=tuple(_describe(work) for work in applied),
        rests_on=list_grounds(profile.cleanup.rules, facts.database, facts.identity),
        refusal=next(_find_wrong_clocks(profile, facts), None),
        rules=applied,
        facts=facts.rules,
        refused=tuple(f"{name}: {reason}" for name, reason in refusals.items() if reason is not None),
        warnings=tuple(warning for rule, found in pairs for warning in _list_warnings(rule, found)),
    )


def list_grounds(rules: Iterable[CleanupRule], database: str, identity: str) -> dict[str, str]:
    """Return what a plan rests on: the database and the rules themselves. Their counts may change."""
    grounds = {"database": f"{database}, {identity}"}
    for rule in rules:
        digest = hashlib.sha256(rule.model_dump_json().encode()).hexdigest()[:_HASH_DIGITS]
        grounds[f"rule {rule.name}"] = f"{rule.source} by {rule.time_field}, {digest}"
    return grounds


def hold_as_today(plan: CleanupPlan, rules: Iterable[CleanupRule]) -> CleanupPlan:
    """Given the plan of a run that was killed, return it with the legal holds that the profile has by now."""
    holds = {(rule.name, rule.source): rule.legal_hold for rule in rules}
    works = (
        work.model_copy(
            update={
                "rule": work.rule.model_copy(
                    update={"legal_hold": holds.get((work.rule.name, work.rule.source), work.rule.legal_hold)}
                )
            }
        )
        for work in plan.rules
    )
    return plan.model_copy(update={"rules": tuple(works)})


def _find_wrong_clocks(profile: ServiceProfile, facts: CleanupFacts) -> Iterator[str]:
    if not profile.cleanup.rules:
        yield "The profile has no cleanup.rules: there is nothing to do."
    apart = abs(facts.servers_clock - facts.now)
    if apart > _CLOCKS_APART:
        yield (
            f"This host's clock and the database server's are {say_period(apart)} apart "
            f"({_say(facts.now)} and {_say(facts.servers_clock)}): put right the one that is wrong."
        )
    if facts.last_run is not None and facts.last_run > facts.now:
        yield (
            f"The last cleanup ran at {_say(facts.last_run)}, and it is {_say(facts.now)} now: the clock is "
            "wrong, or was then. If it was, delete the lines of that time from the files cleanup-*.jsonl in "
            "the host's history folder."
        )


def _find_refusal(rule: CleanupRule, found: RuleFacts, cutoff: datetime) -> str | None:
    return next(_list_refusals(rule, found, cutoff), None)


def _list_refusals(rule: CleanupRule, found: RuleFacts, cutoff: datetime) -> Iterator[str]:
    source, field = rule.source, rule.time_field
    if not found.exists:
        alike = get_close_matches(source, found.others, n=3)
        hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
        yield f"there is no {source} in the database.{hint}"
        return
    yield from found.obstacles
    if not found.has_time_field:
        yield f"no entry of {source} has a time in {field}: correct time_field."
    if found.wrong_type:
        yield (
            f"{say_count(found.wrong_type, 'entry', 'entries')} of {source} with something else than a time "
            f"in {field}, as {found.wrong_type_example}: such never expire. Convert them first."
        )
    if found.needs_index:
        yield (
            f"no index of {source} begins with {field}, and every batch would read all of its "
            f"{found.entries:,} entries: add {{source: {source}, key: {{{field}: 1}}}} to the profile's "
            "indexes and run ensure-indexes."
        )
    if found.newest is not None and found.newest < cutoff and found.expired and not rule.may_empty:
        yield (
            f"the newest entry of {source} is of {found.newest:%Y-%m-%d}, so that all would go: the clock is "
            "wrong, or nobody writes there any more. If that is as it should be, set may_empty."
        )


def _list_warnings(rule: CleanupRule, found: RuleFacts) -> Iterator[str]:
    yield from (f"{rule.name}: {caution}" for caution in found.cautions)
    if rule.legal_hold is not None and found.expired and not found.held:
        yield (
            f"{rule.name}: its legal_hold keeps nothing of what has expired: if that is not as it should be, "
            "a field or a value in it is misspelt."
        )
    if found.index is None and found.entries and not found.needs_index:
        yield (
            f"{rule.name}: no index of {rule.source} begins with {rule.time_field}; its "
            f"{found.entries:,} entries are few enough to do without."
        )


def _summarize(applied: tuple[RuleToClean, ...], rules: int) -> str:
    entries = sum(work.entries for work in applied)
    size = sum(work.raw_bytes for work in applied)
    if not applied:
        return f"Nothing goes by any of {say_count(rules, 'rule')}."
    return (
        f"About {say_count(entries, 'entry', 'entries')} ({say_bytes(size)}) go by {len(applied)} of "
        f"{say_count(rules, 'rule')}."
    )


def _describe(work: RuleToClean) -> PlannedAct:
    rule = work.rule
    verb, undo = "Delete", "It cannot be undone"
    if work.archive_id:
        verb = f"Archive as {work.archive_id} and delete"
        undo = f"Run restore-archive with the rule {rule.name} and the archive {work.archive_id}"
    return PlannedAct(
        what=f"{verb} what of {rule.source} has its {rule.time_field} before {_say(work.cutoff)}",
        why=f"The rule {rule.name} keeps {say_period(rule.older_than)}",
        how_many=f"about {say_count(work.entries, 'entry', 'entries')}, {say_bytes(work.raw_bytes)}",
        undo=undo,
    )


def _say(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
