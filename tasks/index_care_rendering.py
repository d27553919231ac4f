"""The page on the care of indexes: what was found, what was done, how their size goes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.charts import SIZES, chart_series
from tasks.records.figures import say_bytes, say_period
from tasks.records.index_care import DoneAct, Finding, IndexUseFacts, ObservedUse, name_index
from tasks.records.service import ServiceProfile

_MOST_INDEXES = 30
_VERBS = {
    "remove": "drop the invalid index",
    "drop": "drop the index",
    "rebuild": "rebuild",
    "vacuum": "vacuum and analyze",
    "analyze": "analyze",
    "compact": "compact",
}


def render_index_care(  # noqa: PLR0913, PLR0917  all that the page shows
    service: str,
    findings: Sequence[Finding],
    done: Sequence[DoneAct],
    facts: IndexUseFacts,
    uses: Mapping[str, ObservedUse],
    sizes: Sequence[tuple[datetime, float]],
    zone: ZoneInfo,
) -> str:
    """Return the page; the sizes are those of all indexes together, over time."""
    found = render_list([f"{finding.severity}: {finding.sentence}" for finding in findings])
    acts = render_table(("What", "Of", ">Before", ">After", "How it went"), map(_list_act, done))
    largest = sorted(facts.indexes, key=lambda index: -index.bytes)[:_MOST_INDEXES]
    rows = ((name_index(one), say_bytes(one.bytes), *_list_use(uses.get(name_index(one)))) for one in largest)
    return "\n\n".join(
        (
            f"# Indexes of {service}",
            found or "Nothing was found that should be otherwise.",
            "## What was done",
            acts if done else "Nothing.",
            "## The largest",
            render_table(("Index", ">Size", ">Uses", ">Watched for", ">Unused for"), rows),
            chart_series("Size of all indexes", sizes, SIZES, zone),
        )
    )


def publish_index_care(  # noqa: PLR0913, PLR0917  likewise
    profile: ServiceProfile,
    runbook: str,
    findings: Sequence[Finding],
    done: Sequence[DoneAct],
    facts: IndexUseFacts,
    uses: Mapping[str, ObservedUse],
    sizes: Sequence[tuple[datetime, float]],
) -> UUID:
    """Show the page."""
    text = render_index_care(profile.name, findings, done, facts, uses, sizes, profile.zone)
    return publish_markdown(text, runbook, "index-care", profile.name)


def _list_act(one: DoneAct) -> tuple[str, ...]:
    act = one.act
    where = f"{act.key} on {act.member}" if act.member else act.key
    after = "" if one.after is None else say_bytes(one.after)
    return _VERBS[act.kind], where, say_bytes(act.bytes), after, one.problem or "done"


def _list_use(use: ObservedUse | None) -> tuple[str, str, str]:
    if use is None:
        return "not counted", "", ""
    return f"{use.uses:,}", say_period(use.watched), say_period(use.idle)
