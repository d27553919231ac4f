"""Who administers, as the Markdown that the Prefect UI shows. Pure but for the artifact's publication."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.accounts import Account, AdminReport
from tasks.records.figures import say_time


def publish_admins(report: AdminReport, zone: ZoneInfo) -> UUID:
    """Show who administers; only in the UI: addresses of people are in no log."""
    return publish_markdown(render_admins(report, zone), "list-admins", "admins", report.service)


def render_admins(report: AdminReport, zone: ZoneInfo) -> str:
    """Return the page: the answer, what is wrong, who is new, then everybody."""
    pieces = [
        f"# Administrators of {report.service}",
        f"**{escape(report.headline, LONGEST_SENTENCE)}**",
    ]
    if report.findings:
        pieces.append(render_list(report.findings))
    if report.compared_with is not None and (report.new or report.gone):
        pieces.append(
            f"Since {say_time(report.compared_with, zone)}:\n\n{render_list(_list_changes(report))}"
        )
    headers = ("Who", "Role", "Organisation", "", "Last login", "Made")
    pieces.append(render_table(headers, (tuple(_list_admin(report, one, zone)) for one in report.admins)))
    pieces.append("To let one of them in no more: `disable-user`.")
    return "\n\n".join(pieces)


def _list_changes(report: AdminReport) -> list[str]:
    new = [f"{email} is an active administrator now, and was none." for email in report.new]
    return new + [f"{email} is no active administrator any more." for email in report.gone]


def _list_admin(report: AdminReport, one: Account, zone: ZoneInfo) -> Iterator[object]:
    yield one.email
    yield one.role
    yield one.organization or ""
    yield "NEW" if one.email in report.new else "" if one.active else "not active"
    yield _say(one.last_login, zone)
    yield _say(one.created, zone)


def _say(moment: datetime | None, zone: ZoneInfo) -> str:
    return say_time(moment, zone) if moment is not None else ""
