"""A diagnosis as the Markdown that the Prefect UI shows: its reader is tired, so the first lines say it all.

Pure but for the artifact's publication.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect.logging import get_run_logger

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.diagnosis import Cause, Diagnosis, TimelineEntry, Verdict
from tasks.records.figures import say_duration
from tasks.records.remediation import Remediated

_RUNBOOK = "outage-triage"
_VERDICTS: dict[Verdict, str] = {
    "healthy": "healthy",
    "degraded": "up, but not well",
    "broken": "DOWN",
    "unknown": "DOWN, cause unknown",
}
_CERTAINTIES = {"proven": "proven", "likely": "likely, not proven", "possible": "a guess"}
_NOTHING_TO_DO = "Nothing. If somebody complained, ask what exactly does not work, and for whom."
_NOBODY_KNOWS = (
    "Find out: what the health check says, the last words in the log and what could not be observed are "
    "below. If nothing of it helps, wake the developers."
)


def publish_diagnosis(
    diagnosis: Diagnosis, zone: ZoneInfo, *, dry_run: bool, after: Remediated | None = None
) -> UUID:
    """Show a diagnosis, and what was done about it; also in the log, which is all that a shell run has."""
    text = render_diagnosis(diagnosis, zone, dry_run=dry_run, after=after)
    get_run_logger().info("The report:\n\n%s\n", text)
    return publish_markdown(text, _RUNBOOK, "diagnosis", diagnosis.service)


def render_diagnosis(
    diagnosis: Diagnosis, zone: ZoneInfo, *, dry_run: bool, after: Remediated | None = None
) -> str:
    """Return the page: the answer, then each cause with its evidence, then all else that was seen."""
    verdict = _VERDICTS[diagnosis.verdict]
    if after is not None and after.outcome == "healthy again":
        verdict = f"healthy again, was {verdict}"
    return "\n\n".join(
        (
            f"# {diagnosis.service}: {verdict}",
            f"**{escape(diagnosis.headline, LONGEST_SENTENCE)}**",
            _render_answers(diagnosis, zone, dry_run=dry_run, after=after),
            *_render_causes(diagnosis.causes),
            *_render_section(
                "What follows from it",
                [
                    f"{cause.title} This follows from: {cause.explained_by}."
                    for cause in diagnosis.consequences
                ],
            ),
            *_render_section("Worth knowing", diagnosis.notes),
            *_render_timeline(diagnosis.timeline, zone),
            *_render_section("What could not be observed: a cause may hide there", diagnosis.unobserved),
        )
    )


def _render_answers(diagnosis: Diagnosis, zone: ZoneInfo, *, dry_run: bool, after: Remediated | None) -> str:
    first = diagnosis.causes[0] if diagnosis.causes else None
    rows = (
        ("What is broken", _say_broken(diagnosis)),
        ("Since when", _say_since(diagnosis, zone)),
        ("Why we think so", first.evidence[0] if first else diagnosis.notes[0] if diagnosis.notes else "-"),
        ("What we did", _say_done(dry_run=dry_run, after=after)),
        ("What you must do", _say_to_do(diagnosis, after)),
    )
    # No table: Prefect's UI does not wrap a cell, and the end of a long answer would not be seen.
    return "\n".join(f"- **{question}:** {escape(answer, LONGEST_SENTENCE)}" for question, answer in rows)


def _say_broken(diagnosis: Diagnosis) -> str:
    if diagnosis.causes:
        return " ".join(cause.title for cause in diagnosis.causes)
    return "Nothing." if diagnosis.verdict == "healthy" else "Something that none of our rules knows."


def _say_since(diagnosis: Diagnosis, zone: ZoneInfo) -> str:
    if diagnosis.verdict == "healthy":
        return "-"
    since = diagnosis.causes[0].since if diagnosis.causes else None
    if since is not None:
        ago = say_duration((diagnosis.at - since).total_seconds())
        return f"{_say_moment(since, zone)}, {ago} before this report."
    healthy = [entry.at for entry in diagnosis.timeline if entry.source == "health checks"]
    if healthy:
        return f"Not known; it was healthy last at {_say_moment(healthy[-1], zone)}."
    return "Not known."


def _say_done(*, dry_run: bool, after: Remediated | None) -> str:
    if after is not None:
        return " ".join((*after.done, after.said))
    if dry_run:
        return "Nothing: only the diagnosis was asked for."
    return "Nothing yet. What the profile allows is tried next, and this page then comes anew."


def _say_to_do(diagnosis: Diagnosis, after: Remediated | None) -> str:
    if diagnosis.verdict == "healthy":
        return _NOTHING_TO_DO
    advice = " ".join(dict.fromkeys(cause.advice for cause in diagnosis.causes))
    if after is not None and after.outcome == "healthy again":
        return f"Nothing at once. When you are awake, see why it came to that. {advice}"
    if diagnosis.verdict == "unknown":
        return f"{_NOBODY_KNOWS} {advice}".strip()
    return advice


def _render_causes(causes: Sequence[Cause]) -> Iterator[str]:
    for number, cause in enumerate(causes, start=1):
        yield f"## {number}. {escape(cause.title, LONGEST_SENTENCE)}"
        yield f"`{cause.name}`: {_CERTAINTIES[cause.certainty]}; runbook row {cause.row}."
        yield render_list(cause.evidence)
        yield f"**To do:** {escape(cause.advice, LONGEST_SENTENCE)}"


def _render_section(title: str, sentences: Sequence[str]) -> tuple[str, ...]:
    return (f"## {title}", render_list(sentences)) if sentences else ()


def _render_timeline(entries: Sequence[TimelineEntry], zone: ZoneInfo) -> tuple[str, ...]:
    if not entries:
        return ()
    rows = ((_say_moment(entry.at, zone), entry.what, entry.source) for entry in entries)
    return "## What happened when", render_table(("When", "What", "Says who"), rows)


def _say_moment(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"
