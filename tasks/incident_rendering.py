"""An incident's document as Markdown: the answer first, then what was done and seen. Pure but for showing.

It is rendered twice: with every address of people for the host's private file, and masked for the UI.
"""

from collections.abc import Callable, Iterator
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.charts import chart_series
from tasks.failed_login_rendering import render_suspects
from tasks.records.figures import say_duration, say_time
from tasks.records.incident import Fact, IncidentReport, Refusals
from tasks.records.personal_data import mask_emails

_LONGEST = 4000
_PLAIN = (("", 1.0),)

Clean = Callable[[str], str]


def publish_incident(report: IncidentReport, refusals: Refusals, document: str, zone: ZoneInfo) -> UUID:
    """Show an incident, people masked; the document with everything is named."""
    text = render_incident(report, refusals, zone, mask_emails)
    text += f"\n\nWith all addresses: {escape(document)} on {escape(report.record.opening.host)}."
    return publish_markdown(text, "security-incident", "incident", report.record.opening.service)


def render_incident(report: IncidentReport, refusals: Refusals, zone: ZoneInfo, clean: Clean = str) -> str:
    """Return the document; ``clean`` is applied to whatever may name people."""
    opening = report.record.opening
    written = say_time(report.investigation.at, zone)
    about = (
        f"Suspected: {opening.suspicion}",
        f"Opened {say_time(opening.at, zone)} by {opening.by}, run {opening.run} on {opening.host}",
        f"Looked back to {say_time(opening.since, zone)}; this page is of {written}",
    )
    return "\n\n".join(
        (
            f"# Security incident {opening.id}: {opening.service}",
            f"**{escape(clean(report.headline), LONGEST_SENTENCE)}**",
            render_list([clean(line) for line in about]),
            "## What people must do",
            render_list([clean(line) for line in report.to_do]),
            "## What was done, in order",
            _render_steps(report, zone, clean),
            *_render_refusals(report, refusals, zone),
            "## New administrators",
            _render_facts(report.investigation.new_admins, clean) or "None is seen.",
            "## What credentials and runbooks did",
            _render_facts(report.investigation.acts, clean) or "Nothing is known.",
            "## What could not be seen",
            render_list([clean(line) for line in report.investigation.unseen])
            or "All that was asked for was seen.",
        )
    )


def _render_steps(report: IncidentReport, zone: ZoneInfo, clean: Clean) -> str:
    """As a list: the UI does not wrap cells, and the end of a sentence would not be seen."""
    lines, begun = [], {}
    for step in report.record.steps:
        if step.outcome == "begun":
            begun[step.step] = step.at
            continue
        took = step.at - begun.get(step.step, step.at)
        said = escape(clean(step.said), _LONGEST)
        lines.append(
            f"- {say_time(step.at, zone)} **{escape(step.step)}: {step.outcome}** "
            f"({say_duration(took.total_seconds())}, run {escape(step.run)}). {said}"
        )
    return "\n".join(lines)


def _render_refusals(report: IncidentReport, refusals: Refusals, zone: ZoneInfo) -> Iterator[str]:
    kinds = ", ".join(f"{kind}: {times:,}" for kind, times in sorted(refusals.by_action.items()))
    sources = ", ".join(one.where for one in report.investigation.read) or "nothing"
    yield "## Refused logins and accesses"
    yield escape(f"{refusals.total:,} since ({kinds or 'none'}), by {sources}.", LONGEST_SENTENCE)
    if refusals.total:
        points = [(at, float(count)) for at, count in refusals.by_hour]
        yield chart_series("Refused logins and accesses", points, _PLAIN, zone)
        yield "By address:"
        yield render_suspects(refusals.by_address, "Users tried", zone)
        yield "By user:"
        yield render_suspects(refusals.by_user, "From addresses", zone)


def _render_facts(facts: tuple[Fact, ...], clean: Clean) -> str:
    if not facts:
        return ""
    return render_table(("Seen", "By"), ((clean(fact.text), fact.source) for fact in facts))
