"""A cleanup as the Markdown of the Prefect UI: what has expired by month, what was freed, the trend."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import escape, render_list, render_table
from tasks.charts import SIZES, chart_series
from tasks.history import Measurement
from tasks.records.cleanup import AfterCleaning, CleanedRule, RuleFacts
from tasks.records.figures import say_bytes

_LONGEST = 2000
_NUMBERS = (("millions", 1e6), ("thousands", 1e3), ("entries", 1.0))


def render_months(
    service: str, facts: Sequence[RuleFacts], refused: Sequence[str], warnings: Sequence[str]
) -> str:
    """Return what each rule meets: what has expired by month, what is held, and what cannot be judged."""
    refusals = ["**Not applied:**", render_list(refused)] if refused else []
    cautions = [render_list(warnings)] if warnings else []
    rules = (_render_rule(found) for found in facts)
    return "\n\n".join((f"# What has expired: {service}", *refusals, *cautions, *rules))


def render_freed(  # noqa: PLR0913, PLR0917  all that one page shows
    service: str,
    said: str,
    cleaned: Sequence[CleanedRule],
    before_and_after: Sequence[tuple[RuleFacts, AfterCleaning]],
    trends: Sequence[tuple[str, Sequence[Measurement]]],
    zone: ZoneInfo,
) -> str:
    """Return what a cleanup freed, rule by rule, and how large everything was from run to run."""
    done = {rule.rule: rule for rule in cleaned}
    rows = (_list_freed(before, after, done.get(before.rule)) for before, after in before_and_after)
    headers = ("Rule", ">Deleted", ">Raw", ">In the archive", ">On disk before", ">after", "Archive")
    charts = (chart for rule, trend in trends for chart in _chart(rule, trend, zone))
    return "\n\n".join((f"# Freed: {service}", escape(said, _LONGEST), render_table(headers, rows), *charts))


def _render_rule(found: RuleFacts) -> str:
    title = f"## {escape(found.rule)}: {escape(found.source)}"
    if not found.exists:
        return title
    if not found.is_counted:
        return (
            f"{title}\n\n{found.entries:,} entries, not counted further: without an index all would be read."
        )
    facts = (
        f"{found.entries:,} entries; {found.expired:,} expired and go, {found.held:,} expired and are held, "
        f"{found.without_time:,} have no time. Index: {escape(found.index or 'none')}."
    )
    if not found.months:
        return f"{title}\n\n{facts}"
    rows = ((month.month, f"{month.entries:,}", say_bytes(month.raw_bytes)) for month in found.months)
    return f"{title}\n\n{facts}\n\n{render_table(('Month', '>Entries', '>Raw'), rows)}"


def _list_freed(before: RuleFacts, after: AfterCleaning, done: CleanedRule | None) -> tuple[object, ...]:
    sizes = (_say_storage(before.storage_bytes), _say_storage(after.storage_bytes))
    if done is None:
        return (before.rule, "0", "", "", *sizes, "")
    archived = (say_bytes(done.raw_bytes), say_bytes(done.stored_bytes)) if done.archive_id else ("", "")
    return (done.rule, f"{done.entries:,}", *archived, *sizes, done.archive_id or "none")


def _say_storage(size: int) -> str:
    # Not every server tells what a collection takes.
    return say_bytes(size) if size else "not told"


def _chart(rule: str, trend: Sequence[Measurement], zone: ZoneInfo) -> list[str]:
    sizes = [(found.at, found.values["storage_bytes"]) for found in trend]
    entries = [(found.at, found.values["entries"]) for found in trend]
    on_disk = [chart_series(f"{rule}: on disk", sizes, SIZES, zone)] if any(size for _, size in sizes) else []
    return [chart_series(f"{rule}: entries", entries, _NUMBERS, zone), *on_disk]
