"""An escalation as the Markdown that the Prefect UI shows."""

from collections.abc import Sequence
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.escalation import EscalationRecord, LadderRow
from tasks.records.figures import say_time


def publish_ladder(
    record: EscalationRecord, rows: Sequence[LadderRow], said: str, problems: Sequence[str], zone: ZoneInfo
) -> UUID:
    """Show who was told of what, when and how, and who is next."""
    markdown = render_ladder(record, rows, said, problems, zone)
    return publish_markdown(markdown, "escalate", "ladder", record.opening.service)


def render_ladder(
    record: EscalationRecord, rows: Sequence[LadderRow], said: str, problems: Sequence[str], zone: ZoneInfo
) -> str:
    """Return the answer, the ladder, and every step with its time."""
    opening = record.opening
    about = [
        f"Why: {opening.reason}",
        *([f"Cause: {opening.cause}"] if opening.cause else []),
        *([f"Severity: {opening.severity}"] if opening.severity else []),
        f"Escalation {opening.id}, since {say_time(opening.at, zone)}",
    ]
    ladder = render_table(
        ("Level", "Who", "When", "What"),
        ((row.level, row.contact, say_time(row.at, zone) if row.at else "", row.what) for row in rows),
    )
    steps = render_table(
        ("When", "Step", "Level", "Who", "How"),
        (
            (
                f"{step.at.astimezone(zone):%Y-%m-%d %H:%M:%S}",
                step.kind,
                step.level,
                step.contact or step.by,
                "; ".join(word for word in (step.channel, step.said) if word),
            )
            for step in record.steps
        ),
    )
    return "\n\n".join(
        (
            f"# {opening.service}: who was told",
            f"**{escape(said, LONGEST_SENTENCE)}**",
            *([render_list(problems)] if problems else []),
            render_list(about),
            ladder,
            "## Every step",
            steps,
        )
    )
