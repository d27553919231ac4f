"""Which backup sets stay, which go, and why: everything kept is kept for a reason that can be read.

Kept is the union of what the policy's rules want and what no policy may touch: pinned, leased, the newest
that passed a restore drill, the newest that passed a reread. Ages come from keep_days; days, weeks and
months are counted as restic does, by the sets that are there and not by the calendar, so that a month
without backups evicts nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tasks.records.backup import RepositoryState, SetSummary, UnfinishedSet
from tasks.records.figures import say_count, say_period
from tasks.records.plans import RetentionPlan, SetDecision
from tasks.records.service import Retention

# Clocks of a host and of a store differ a little; a clock that was set back differs more.
_CLOCK_SKEW = timedelta(minutes=5)
# A set that nobody wrote to for a day has no run any more.
_UNFINISHED_GRACE = timedelta(hours=24)
_PERIODS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


@dataclass(frozen=True)
class _Rules:
    """The policy, made ready: what each moment and period means in the service's time zone."""

    cutoff: datetime
    keep_days: int
    counts: Mapping[str, int]
    zone: ZoneInfo

    def period(self, unit: str, found: SetSummary) -> str:
        return found.created_at.astimezone(self.zone).strftime(_PERIODS[unit])


def plan_retention(  # noqa: PLR0913 - four facts, and three that a flow knows only sometimes
    state: RepositoryState,
    policy: Retention,
    zone: ZoneInfo,
    now: datetime,
    *,
    expected: SetSummary | None = None,
    most_deletes: int | None = None,
    as_of: datetime | None = None,
) -> RetentionPlan:
    """Given what the repository holds, return what to keep, delete and collect, with reasons.

    ``expected`` is tonight's set as it will be once published and verified; where the repository already
    holds it, what the repository says of it counts. ``most_deletes`` overrides the policy's cap. ``as_of``
    is the moment that ages are counted from (``now`` by default): a fresh look before applying counts from
    the shown plan's ``decided_at``, or a set could grow too old while the backup runs.
    """
    counted_from = now if as_of is None else as_of
    sets = _sort(state.sets)
    known = {found.set_id for found in sets}
    tonight = expected if expected is not None and expected.set_id not in known else None
    usable = _find_usable(sets, tonight)
    rules = _make_rules(policy, zone, counted_from)
    everything = _sort([*sets, tonight] if tonight is not None else sets)
    standing = _find_standing([found for found in everything if found.set_id in usable], rules)
    reasons = _find_reasons(everything, usable, standing, rules)
    if expected is not None:
        reasons.setdefault(expected.set_id, []).insert(0, "tonight's set")
    decisions = tuple(
        SetDecision(found.set_id, found.created_at, found.stored_bytes, keep=True, reasons=tuple(held))
        if (held := reasons.get(found.set_id))
        else _decide_delete(found, usable, standing, rules)
        for found in sets
    )
    refusal = _refuse_clock(state, sets, now) or _refuse_deletes(
        [found for found in sets if found.set_id not in reasons],
        [found for found in everything if found.set_id in reasons],
        usable,
        policy.most_deletes if most_deletes is None else most_deletes,
    )
    own = known | ({expected.set_id} if expected is not None else set())
    collect = () if refusal else tuple(sorted(_collect(state.unfinished, own, now)))
    return RetentionPlan(state.service, counted_from, decisions, collect, refusal)


def _make_rules(policy: Retention, zone: ZoneInfo, counted_from: datetime) -> _Rules:
    # Days of the wall clock: on the day the clocks change, 30 days ago is still the same time of day.
    cutoff = (counted_from.astimezone(zone) - timedelta(days=policy.keep_days)).astimezone(UTC)
    counts = {"day": policy.keep_daily, "week": policy.keep_weekly, "month": policy.keep_monthly}
    return _Rules(cutoff, policy.keep_days, counts, zone)


def _find_usable(sets: Sequence[SetSummary], tonight: SetSummary | None) -> frozenset[str]:
    """Return the ids of the sets that may stand for others: nothing is known against them.

    A set of an emptied database passes every reread. Where another set has entries, an empty one must not
    push it out; nor must what a restore saved before it replaced it.
    """
    has_entries = any(found.entries > 0 for found in sets)
    return frozenset(
        found.set_id
        for found in sets
        if found.kind != "safety"
        and found.reread_passed is not False
        and found.drill_passed is not False
        and found.stored_bytes > 0
        and (found.entries > 0 or not has_entries)
    ) | (frozenset({tonight.set_id}) if tonight is not None else frozenset())


def _find_reasons(
    newest_first: Sequence[SetSummary],
    usable: frozenset[str],
    standing: Mapping[tuple[str, str], str],
    rules: _Rules,
) -> dict[str, list[str]]:
    """Return why each kept set is kept; a set that is not among them has no reason to stay."""
    reasons: dict[str, list[str]] = {}

    def keep(set_id: str, reason: str) -> None:
        reasons.setdefault(set_id, []).append(reason)

    for found in newest_first:
        if found.pinned is not None:
            keep(found.set_id, f"pinned: {found.pinned}")
        if found.leased_by is not None:
            keep(found.set_id, f"leased by {found.leased_by}")
        if found.created_at > rules.cutoff:
            keep(found.set_id, f"younger than {say_count(rules.keep_days, 'day')}")
    for reason, set_id in _find_proven(newest_first, usable).items():
        keep(set_id, reason)
    for (unit, period), set_id in standing.items():
        keep(set_id, f"stands for {unit} {period}")
    return reasons


def _find_proven(newest_first: Sequence[SetSummary], usable: frozenset[str]) -> dict[str, str]:
    """Return the newest set of each kind of proof.

    The newest that passed may since have failed something else; then the newest that did not is kept too.
    """
    proven: dict[str, str] = {}
    for found in newest_first:
        for proof, passed in (("restore drill", found.drill_passed), ("reread", found.reread_passed)):
            if passed:
                first = proven.setdefault(f"newest that passed a {proof}", found.set_id)
                if first not in usable and found.set_id in usable:
                    proven.setdefault(
                        f"newest that passed a {proof} and has nothing against it", found.set_id
                    )
    return proven


def _find_standing(candidates: Sequence[SetSummary], rules: _Rules) -> dict[tuple[str, str], str]:
    """Given usable sets, newest first, return the set that stands for each unit and period kept.

    It is the newest that passed its reread, or the newest where none did: what a killed run never verified
    must not push out what is known to be good.
    """
    standing: dict[tuple[str, str], str] = {}
    verified_first = sorted(candidates, key=lambda found: not found.reread_passed)
    for unit, count in rules.counts.items():
        kept = list(dict.fromkeys(rules.period(unit, found) for found in candidates))[:count]
        for found in verified_first:
            if (period := rules.period(unit, found)) in kept:
                standing.setdefault((unit, period), found.set_id)
    return standing


def _decide_delete(
    found: SetSummary, usable: frozenset[str], standing: Mapping[tuple[str, str], str], rules: _Rules
) -> SetDecision:
    why = [f"not younger than {say_count(rules.keep_days, 'day')}"]
    if found.set_id not in usable:
        why.append(_explain_unusable(found))
    else:
        for unit, count in rules.counts.items():
            if count:
                period = rules.period(unit, found)
                newest = standing.get((unit, period))
                gone = f"{unit} {period} is not among the last {count} with sets"
                why.append(gone if newest is None else f"{newest} stands for {unit} {period}")
    return SetDecision(found.set_id, found.created_at, found.stored_bytes, keep=False, reasons=tuple(why))


def _explain_unusable(found: SetSummary) -> str:
    if found.reread_passed is False:
        return "failed its reread"
    if found.drill_passed is False:
        return "failed its restore drill"
    if found.kind == "safety":
        return "holds what a restore replaced"
    return "holds nothing"


def _collect(unfinished: Sequence[UnfinishedSet], known: set[str], now: datetime) -> list[str]:
    return [
        found.set_id
        for found in unfinished
        if found.set_id not in known and (found.tombstoned or now - found.last_written_at > _UNFINISHED_GRACE)
    ]


def _refuse_clock(state: RepositoryState, newest_first: Sequence[SetSummary], now: datetime) -> str | None:
    latest, what, otherwise = state.observed_at, "the moment the repository was looked at", ""
    if newest_first and newest_first[0].created_at > latest:
        latest, what = newest_first[0].created_at, f"the moment set {newest_first[0].set_id} was made"
        otherwise = (
            " If it is right now, it was wrong then: delete that set by hand, which passes for the newest."
        )
    if now >= latest - _CLOCK_SKEW:
        return None
    return (
        f"The clock says {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC, which is {say_period(latest - now)} "
        f"before {what}: it was set back, or was wrong before. Nothing is deleted until the clock is right."
        f"{otherwise}"
    )


def _refuse_deletes(
    deletes: Sequence[SetSummary], keeps: Sequence[SetSummary], usable: frozenset[str], cap: int
) -> str | None:
    if not deletes:
        return None
    if not keeps:
        return f"No set would be kept: {_list(deletes)} would all go. Nothing is deleted; look at the policy."
    if not any(found.reread_passed and found.set_id in usable for found in keeps):
        return (
            f"No set that would be kept has passed its reread with nothing against it, so {_list(deletes)} "
            "may be the last good ones. Nothing is deleted; find out why the newest sets are not good."
        )
    if len(deletes) > cap:
        return (
            f"{say_count(len(deletes), 'set')} would go, the cap is {cap}: {_list(deletes)}. Nothing is "
            f"deleted; if that is meant, run again with allow_deletes={len(deletes)}."
        )
    return None


def _sort(sets: Sequence[SetSummary]) -> list[SetSummary]:
    return sorted(sets, key=lambda found: (found.created_at, found.set_id), reverse=True)


def _list(sets: Sequence[SetSummary]) -> str:
    return ", ".join(found.set_id for found in sets)
