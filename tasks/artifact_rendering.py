"""Records as the Markdown that the Prefect UI shows. Pure: ``tasks/artifacts.py`` publishes it.

Names come from databases and may hold anything; what goes into a table is escaped, because a pipe or a
newline in a collection's name would tear the table apart.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from tasks.charts import chart_history
from tasks.records.backup import Manifest, SetSummary, StoredObject, Verification
from tasks.records.figures import say_bytes, say_count, say_duration, say_time, shorten
from tasks.records.plans import BackupPlan, PlannedPart, RetentionPlan

HASH_DIGITS = 12
_LONGEST_CELL = 300
# A longer name in its column would push the figures out of sight.
_LONGEST_NAME = 32
LONGEST_SENTENCE = 600
MOST_LINES = 200
_MOST_SETS = 30
# Characters that mean something within a line of Markdown; after a backslash they stand for themselves.
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~&"})


def escape(text: object, most: int = _LONGEST_CELL) -> str:
    """Given any text, return it as one line of Markdown that shows it and does nothing else."""
    line = shorten(str(text), most)
    # PostgreSQL, which holds the artifacts, takes no NUL; the others would not be seen.
    visible = "".join(character if character.isprintable() else "\ufffd" for character in line)
    return visible.translate(_MARKUP)


def render_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; columns whose header starts with ">" are figures and stand on the right."""
    lines = [
        "| " + " | ".join(escape(header.removeprefix(">")) for header in headers) + " |",
        "|" + "|".join("---:" if header.startswith(">") else "---" for header in headers) + "|",
    ]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def render_list(sentences: Sequence[str]) -> str:
    """Return sentences as a list, the first two hundred of them."""
    lines = [f"- {escape(sentence, LONGEST_SENTENCE)}" for sentence in sentences[:MOST_LINES]]
    if len(sentences) > MOST_LINES:
        lines.append(f"- and {len(sentences) - MOST_LINES:,} more")
    return "\n".join(lines)


def render_plan(plan: BackupPlan, zone: tzinfo = UTC) -> str:
    """Return what a backup means to save, and what retention will do afterwards."""
    parts = render_table(
        ("Part", "Kind", ">Entries (about)", ">Size (about)"),
        (_list_part(part) for part in plan.parts),
    )
    refused = [f"**Refused: {escape(plan.refusal, LONGEST_SENTENCE)}**"] if plan.refusal else []
    return "\n\n".join(
        (
            f"# Plan: {plan.service}, set {escape(plan.set_id)}",
            *refused,
            escape(f"To {plan.destination}. {plan.lateness} {plan.consistency}", LONGEST_SENTENCE),
            f"## What will be saved: {say_count(len(plan.parts), 'part')}",
            parts,
            "## What retention will do once the set is verified",
            _render_decisions(plan.retention, zone),
        )
    )


def render_retention(plan: RetentionPlan, *, applied: bool, zone: tzinfo = UTC) -> str:
    """Return what retention keeps and deletes, and why."""
    done = "Deleted, as planned" if applied and plan.refusal is None else "Nothing was deleted"
    return f"# Retention: {plan.service}\n\n{done}.\n\n{_render_decisions(plan, zone)}"


def render_saved(manifest: Manifest) -> str:
    """Return what a set holds, part by part."""
    table = render_table(
        ("Part", "Kind", ">Entries", ">Raw", ">Stored", ">Time", "Content"),
        (*_list_database_rows(manifest), _list_application_row(manifest), _list_total_row(manifest)),
    )
    return "\n\n".join(
        (
            f"# Saved: {manifest.service}, set {escape(manifest.set_id)}",
            f"Consistency: {escape(manifest.consistency.explanation, LONGEST_SENTENCE)}",
            table,
        )
    )


def render_history(service: str, summaries: Sequence[SetSummary], zone: ZoneInfo) -> str:
    """Return the last sets as charts and as a table, newest first."""
    newest_first = sorted(summaries, key=lambda found: found.created_at, reverse=True)[:_MOST_SETS]
    pieces = [f"# Backups of {service}", chart_history(summaries, zone)]
    if newest_first:
        headers = ("Made", ">Entries", ">Stored", ">Time", "Reread", "Drill", "Set")
        pieces.append(render_table(headers, (_list_summary(found, zone) for found in newest_first)))
    return "\n\n".join(pieces)


def render_findings(service: str, set_id: str, findings: Sequence[str]) -> str:
    """Return what was found wrong with a set, or that nothing was."""
    title = f"# Findings: {service}, set {escape(set_id)}"
    return f"{title}\n\n{render_list(findings) or 'Nothing is wrong with it.'}"


def render_drill(
    manifest: Manifest, verification: Verification, recovery_seconds: float, differences: Sequence[str]
) -> str:
    """Return a restore drill's verdict: passed or not, how long a recovery takes, what differs."""
    verdict = "passed" if verification.passed else "FAILED"
    facts = (
        f"Set of {say_time(manifest.finished_at, UTC)}: {say_count(manifest.parts, _name_part(manifest))}, "
        f"{manifest.entries:,} entries, {say_bytes(manifest.raw_bytes)}. Restored in "
        f"{say_duration(recovery_seconds)}; the whole drill took {say_duration(verification.seconds)}."
    )
    # A finding that the comparison also made is told once.
    told = tuple(dict.fromkeys((*differences, *verification.findings)))
    return "\n\n".join(
        (
            f"# Restore drill {verdict}: {manifest.service}, set {escape(manifest.set_id)}",
            facts,
            render_list(told) or "The restored data equals the manifest.",
        )
    )


def _render_decisions(plan: RetentionPlan, zone: tzinfo) -> str:
    going = sum(not decision.keep for decision in plan.decisions)
    summary = f"{len(plan.decisions) - going:,} kept, {going:,} deleted"
    if plan.collect:
        summary += f", unfinished and collected: {', '.join(escape(set_id) for set_id in plan.collect)}"
    if plan.refusal:
        summary = f"**Refused, nothing is deleted: {escape(plan.refusal, LONGEST_SENTENCE)}**"
    if not plan.decisions:
        return summary
    rows = (
        (
            decision.set_id,
            say_time(decision.created_at, zone),
            say_bytes(decision.stored_bytes),
            "keep" if decision.keep else "would go" if plan.refusal else "delete",
            "; ".join(decision.reasons),
        )
        for decision in plan.decisions
    )
    return f"{summary}\n\n{render_table(('Set', 'Made', '>Stored', 'Decision', 'Because'), rows)}"


def _list_part(part: PlannedPart) -> tuple[object, ...]:
    # Nobody counts an application's files beforehand.
    name = shorten(part.name, _LONGEST_NAME)
    if part.kind == "application":
        return name, part.kind, "", ""
    entries = "unknown" if part.entries_estimate is None else f"{part.entries_estimate:,}"
    size = "unknown" if part.bytes_estimate is None else say_bytes(part.bytes_estimate)
    return name, part.kind, entries, size


def _list_database_rows(manifest: Manifest) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    if manifest.mongodb is not None:
        rows += [
            (
                shorten(c.collection, _LONGEST_NAME),
                c.kind,
                f"{c.documents:,}",
                *_list_sizes(c.data),
                "",
                c.content_hash[:HASH_DIGITS],
            )
            for c in manifest.mongodb.collections
        ]
    if manifest.postgresql is not None:
        content = manifest.postgresql
        rows += [
            (
                shorten(t.table, _LONGEST_NAME),
                "table",
                f"{t.rows:,}",
                "",
                "",
                "",
                t.content_hash[:HASH_DIGITS],
            )
            for t in content.tables
        ]
        took = say_duration(content.seconds)
        rows.append(
            (
                content.dump.key,
                "dump",
                "",
                *_list_sizes(content.dump),
                took,
                content.dump.sha256[:HASH_DIGITS],
            )
        )
    return rows


def _list_application_row(manifest: Manifest) -> tuple[object, ...]:
    content = manifest.application
    took = say_duration(content.seconds)
    digits = content.content_hash[:HASH_DIGITS]
    return ("application", "files", f"{content.files:,}", *_list_sizes(content.archive), took, digits)


def _list_total_row(manifest: Manifest) -> tuple[object, ...]:
    whole = StoredObject(key="", bytes=manifest.stored_bytes, sha256="", raw_bytes=manifest.raw_bytes)
    return ("total", "", f"{manifest.entries:,}", *_list_sizes(whole), say_duration(manifest.seconds), "")


def _list_sizes(stored: StoredObject | None) -> tuple[str, str]:
    return ("", "") if stored is None else (say_bytes(stored.raw_bytes), say_bytes(stored.bytes))


def _list_summary(found: SetSummary, zone: tzinfo) -> tuple[object, ...]:
    return (
        say_time(found.created_at, zone),
        f"{found.entries:,}",
        say_bytes(found.stored_bytes),
        say_duration(found.seconds),
        _say_verdict(found.reread_passed),
        _say_verdict(found.drill_passed),
        f"{found.set_id}, pinned: {found.pinned}" if found.pinned else found.set_id,
    )


def _say_verdict(passed: bool | None) -> str:
    if passed is None:
        return "not yet"
    return "passed" if passed else "FAILED"


def _name_part(manifest: Manifest) -> str:
    return "collection" if manifest.mongodb is not None else "table"
