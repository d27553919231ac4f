"""A check as the Markdown that the Prefect UI shows: the answer first. Pure but for its publication."""

from uuid import UUID

from prefect.logging import get_run_logger

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.checks import Checked


def publish_check(checked: Checked, runbook: str, unlogged: str = "") -> UUID:
    """Show what was checked; also in the log, which is all that a shell run has, without what is unlogged."""
    lines = [
        line.model_copy(update={"seen": line.seen.replace(unlogged, "***")}) if unlogged else line
        for line in checked.lines
    ]
    logged = render_check(checked.model_copy(update={"lines": lines}))
    get_run_logger().info("What was checked:\n\n%s\n", logged)
    return publish_markdown(render_check(checked), runbook, "checked", checked.service)


def render_check(checked: Checked) -> str:
    """Return the page: the answer, what to do, then line by line what was seen."""
    rows = ((line.verdict, line.name, line.seen, line.row) for line in checked.lines)
    pieces = [
        f"# {checked.service}: {'well' if checked.good else 'NOT well'}",
        f"**{escape(checked.headline, LONGEST_SENTENCE)}**",
    ]
    if checked.to_do:
        pieces += ["## To do", render_list(checked.to_do)]
    pieces.append(render_table(("", "What", "Seen", "Row"), rows))
    if checked.notes:
        pieces += ["## Worth knowing", render_list(checked.notes)]
    return "\n\n".join(pieces)
