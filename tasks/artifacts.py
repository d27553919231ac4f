"""What the operator sees in the Prefect UI: thin functions that publish what artifact_rendering renders.

They are for sync flows and tasks. Each artifact has a key, so that the UI shows its earlier versions.
"""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, tzinfo
from itertools import groupby
from typing import Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from tasks.artifact_rendering import (
    render_drill,
    render_findings,
    render_history,
    render_plan,
    render_retention,
    render_saved,
)
from tasks.change_rendering import render_done, render_runbook_plan, render_trail
from tasks.journal import JournalEntry
from tasks.records.backup import Manifest, SetSummary, Verification
from tasks.records.plans import BackupPlan, RetentionPlan
from tasks.records.runbook_plan import RunbookPlan
from tasks.records.trail import CheckedTrail

_WHOLE = 100.0
NOWHERE: Final = UUID(int=0)
"""The id of a page that could not be shown."""


# What an operator who looks through the list of artifacts will find in each.
_DESCRIPTIONS = {
    "plan": "What the run was about to do, and why.",
    "diagnosis": "What is broken, since when, why we think so, what was done, and what people must do.",
    "queries": "Which queries were slow, the worst first, and which indexes would help.",
    "saved": "What the newest set holds, part by part.",
    "retention": "Which sets are kept or deleted, and why.",
    "history": "Size and duration of the last thirty sets, and how each was verified.",
    "figures": "How the database is: what to act on or watch, sizes and growth, who is connected.",
    "findings": "What is wrong with a set.",
    "checked": "What was checked, line by line, what was seen, and what to do.",
    "lines": "What the logs of all places say, by what it means, and the newest lines.",
    "metrics": "Response time, memory, connections, errors and users, now and over time.",
    "indexes": "Which recommended indexes are there, which are not and why, and which others there are.",
    "done": "What the run did, step by step, and how it ended.",
    "trail": "Who or what changed the service, newest first, and whether the trail is as it was written.",
    "index-care": "What was found of indexes and tables, worst first, and what was done about it.",
    "admins": "Who administers, who is new, and what is wrong with it.",
    "attempts": "Who failed to log in, from where and when, and what of it is too much.",
    "archives": "What cleanup took out by a rule, archive by archive.",
    "expired": "What each cleanup rule meets: what has expired by month, what is held or cannot be judged.",
    "incident": "What was done about a suspected breach, what was seen, and what people must do.",
    "ladder": "Who was told, by which way and when, who is next, and who has it.",
    "night": "What happened last night: what ran and what did not, the worst first.",
    "credentials": "How old every credential is, who owns it, and which is overdue.",
    "freed": "What cleanup freed, and how large everything was from run to run.",
    "verdict": "Whether a set restored to what was saved, and how long that took.",
}


class Progress:
    """The progress artifact of one run. Without ``start`` (no server to show it to) updates do nothing.

    Each update is a request to the server that the run waits for, so there is a pause between two.
    """

    def __init__(self, runbook: str, service: str, pause_seconds: float = 1.0) -> None:
        self._pause_seconds = pause_seconds
        self._key = make_key(runbook, "progress", service)
        self._artifact: UUID | None = None
        self._shown = self._shown_at = 0.0

    def start(self, description: str) -> None:
        """Publish the artifact at 0 %."""
        self._shown, self._shown_at = 0.0, time.monotonic()
        # What goes on is worth more than that it is seen: the Prefect server may be away.
        with suppress(httpx.HTTPError):
            artifact = create_progress_artifact(0.0, key=self._key, description=description)
            self._artifact = cast("UUID", artifact)

    def update(self, fraction: float) -> None:
        """Show a fraction from 0 to 1; it never goes back, and its end is always shown."""
        percent = round(min(max(fraction, 0.0), 1.0) * 100, 1)
        if self._artifact is None or percent <= self._shown:
            return
        if percent == _WHOLE or time.monotonic() - self._shown_at >= self._pause_seconds:
            self._shown, self._shown_at = percent, time.monotonic()
            with suppress(httpx.HTTPError):
                update_progress_artifact(self._artifact, percent)


def make_key(runbook: str, what: str, service: str) -> str:
    """Return an artifact's key, ``<runbook>-<what>-<service>``, in the only characters that Prefect takes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{runbook}-{what}-{service}".lower()).strip("-")


def publish_plan(plan: BackupPlan, *, zone: tzinfo = UTC, runbook: str = "nightly-backup") -> UUID:
    """Show what a backup is about to do."""
    return publish_markdown(render_plan(plan, zone), runbook, "plan", plan.service)


def publish_runbook_plan(plan: RunbookPlan) -> UUID:
    """Show what a runbook is about to change; also in the log, which is all that a shell run has."""
    text = render_runbook_plan(plan)
    get_run_logger().info("The plan:\n\n%s\n", text)
    return publish_markdown(text, plan.runbook, "plan", plan.service)


def publish_done(plan: RunbookPlan, said: str, entries: Sequence[JournalEntry], zone: tzinfo = UTC) -> UUID:
    """Show what a runbook did, as its journal has it."""
    runs = [list(same) for _, same in groupby(entries, key=lambda entry: entry.step)]
    steps = [
        (same[0].at, f"{same[0].step} ({len(same)} times)" if same[1:] else same[0].step) for same in runs
    ]
    text = render_done(plan.runbook, plan.service, said, steps, zone)
    return publish_markdown(text, plan.runbook, "done", plan.service)


def publish_trail(service: str, found: CheckedTrail, zone: tzinfo = UTC) -> UUID:
    """Show an audit trail."""
    return publish_markdown(render_trail(service, found, zone), "check-audit-trail", "trail", service)


def publish_retention(
    plan: RetentionPlan, *, applied: bool, zone: tzinfo = UTC, runbook: str = "nightly-backup"
) -> UUID:
    """Show what retention decided, and whether it was done."""
    return publish_markdown(
        render_retention(plan, applied=applied, zone=zone), runbook, "retention", plan.service
    )


def publish_saved(manifest: Manifest, *, runbook: str = "nightly-backup") -> UUID:
    """Show what was saved."""
    return publish_markdown(render_saved(manifest), runbook, "saved", manifest.service)


def publish_history(
    service: str, summaries: Sequence[SetSummary], zone: ZoneInfo, *, runbook: str = "nightly-backup"
) -> UUID:
    """Show the last thirty sets."""
    return publish_markdown(render_history(service, summaries, zone), runbook, "history", service)


def publish_findings(
    service: str, set_id: str, findings: Sequence[str], *, runbook: str = "nightly-backup"
) -> UUID:
    """Show what is wrong with a set."""
    return publish_markdown(render_findings(service, set_id, findings), runbook, "findings", service)


def publish_drill(
    manifest: Manifest,
    verification: Verification,
    recovery_seconds: float,
    differences: Sequence[str],
    *,
    runbook: str = "restore-drill",
) -> UUID:
    """Show a restore drill's verdict."""
    text = render_drill(manifest, verification, recovery_seconds, differences)
    return publish_markdown(text, runbook, "verdict", manifest.service)


def publish_markdown(markdown: str, runbook: str, what: str, service: str) -> UUID:
    """Show a page; ``what`` is one of those described above, and a part of its key.

    Where the Prefect server is away, it stands in the run's log: what a runbook does is worth more than its
    page. The id is then that of nothing.
    """
    key = make_key(runbook, what, service)
    try:
        # A sync flow or task gets the id; only a caller inside an event loop would get a coroutine.
        return cast("UUID", create_markdown_artifact(markdown, key=key, description=_DESCRIPTIONS[what]))
    except httpx.HTTPError as error:
        name = type(error).__name__
        get_run_logger().warning("The page %s could not be shown (%s):\n%s", key, name, markdown)
        return NOWHERE
