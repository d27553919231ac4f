"""Failed logins as the Markdown that the Prefect UI shows. Pure but for the artifact's publication."""

from collections.abc import Sequence
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.charts import chart_series
from tasks.records.failed_logins import LoginReport, Suspect
from tasks.records.figures import say_time

_MOST_ROWS = 20
_PLAIN = (("", 1.0),)


def publish_logins(report: LoginReport, zone: ZoneInfo) -> UUID:
    """Show who failed to log in, and from where."""
    return publish_markdown(render_logins(report, zone), "failed-logins", "attempts", report.service)


def render_logins(report: LoginReport, zone: ZoneInfo) -> str:
    """Return the page: the answer, the picture, addresses, users, and what was read."""
    read = [f"{one.where}: {len(one.attempts):,} since {say_time(report.since, zone)}" for one in report.read]
    return "\n\n".join(
        (
            f"# Failed logins of {report.service}",
            f"**{escape(report.headline, LONGEST_SENTENCE)}**",
            chart_series("Failed logins", [(at, count) for at, count in report.by_hour], _PLAIN, zone),
            "## By address",
            render_suspects(report.by_address, "Users tried", zone),
            "## By user",
            render_suspects(report.by_user, "From addresses", zone),
            "## What was read",
            render_list([*read, *report.unread]),
        )
    )


def render_suspects(suspects: Sequence[Suspect], others: str, zone: ZoneInfo) -> str:
    """Return the worst twenty as a table."""
    if not suspects:
        return "There are none."
    rows = (
        (
            f"{one.count:,}",
            f"{one.name}{' (ADMINISTRATOR)' if one.is_admin else ''}",
            f"{one.others:,}",
            say_time(one.first, zone),
            say_time(one.last, zone),
        )
        for one in suspects[:_MOST_ROWS]
    )
    table = render_table((">Times", "Who", f">{others}", "First", "Last"), rows)
    more = len(suspects) - _MOST_ROWS
    return f"{table}\n\nand {more:,} more" if more > 0 else table
