"""What of the logs is shown: meanings with their numbers first, then the newest lines. Pure."""

from datetime import datetime

from flows.decisions.log_signatures import find_signature, recognize
from tasks.records.figures import say_count
from tasks.records.log_report import KnownLines, LogReport
from tasks.records.logs import Level, LogExtract, LogLine
from tasks.records.service import ServiceProfile

_MOST_LINES = 100
_RANK: dict[Level, int] = {"error": 2, "warning": 1, "info": 0}
_NOUNS: dict[Level, str] = {"error": "errors", "warning": "errors and warnings", "info": "lines"}


def make_log_report(
    extract: LogExtract, profile: ServiceProfile, at: datetime, *, level: Level, containing: str
) -> LogReport:
    """Given all lines, return the page; only those at least so bad that contain the words are listed."""
    lines = [line for line in extract.lines if _is_wanted(line, level, containing)]
    # What is counted is everything, unless somebody looks for something.
    counted = extract.model_copy(update={"lines": tuple(lines)}) if containing else extract
    facts = recognize(counted, profile)
    return LogReport(
        service=profile.name,
        at=at,
        extract=extract,
        errors=facts.errors,
        warnings=sum(line.level == "warning" for line in counted.lines),
        known=tuple(
            KnownLines(
                name=found.name,
                meaning=find_signature(found.name).meaning,
                row=find_signature(found.name).row,
                count=found.count,
                first=found.first,
                last=found.last,
            )
            for found in facts.signatures
        ),
        wanted=f"{_NOUNS[level]} that contain '{containing}'" if containing else _NOUNS[level],
        lines=tuple(reversed(lines[-_MOST_LINES:])),
        more=max(0, len(lines) - _MOST_LINES),
    )


def find_deafness(extract: LogExtract) -> str | None:
    """Given what was read, return why nothing at all was, as a sentence; None if something was."""
    if not extract.sources:
        return "The profile names no log: see application.log_files and system_logs."
    unread = {complaint.name for complaint in extract.unreadable}
    if extract.lines or set(extract.sources) - unread:
        return None
    return (
        "No log could be read: " + "; ".join(f"{one.name} {one.problem}" for one in extract.unreadable) + "."
    )


def conclude_log_report(report: LogReport) -> str:
    """Given a report, return its one sentence."""
    said = f"{report.service}: {say_count(report.errors, 'error line')} of {len(report.extract.sources)} logs"
    worst = next((known for known in report.known if known.name != "red cross"), None)
    known = f", most often: {worst.name} ({worst.count:,})" if worst and report.errors else ""
    unread = tuple(dict.fromkeys(complaint.name for complaint in report.extract.unreadable))
    return f"{said}{known}" + (f"; read in part or not at all: {', '.join(unread)}." if unread else ".")


def _is_wanted(line: LogLine, level: Level, containing: str) -> bool:
    return _RANK[line.level] >= _RANK[level] and containing.lower() in line.text.lower()
